"""What the MLLM's recipes train on is what the MLLM is asked at test time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from trainables.datasets.worlds.samples import LABELS
from trainables.datasets.worlds.scenes.sampling import sample_scene
from trainables.datasets.worlds.scenes.scene import DIGITS, class_names
from trainables.datasets.worlds.tabletop.drawing import render_with_map
from trainables.datasets.worlds.tabletop.sampling import sample_table
from trainables.datasets.worlds.world import scene_rng
from trainables.encoders.load import load_tower
from trainables.mllms import Mllm
from trainables.recipes.common import IMAGE_ID, PREPROCESSING
from trainables.recipes.packed_losses import run_packed
from trainables.recipes.packing import IGNORE, PATCHES
from trainables.recipes.scenes import batches
from trainables.recipes.tabletop import mllm as tabletop_mllm

COUNT = 6


@pytest.fixture(scope="module")
def mllm() -> Mllm:
    return Mllm.load("shipped:llava-tabletop")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> tabletop_mllm.Pool:
    scenes = [sample_table(scene_rng(0, "train", i, stream=7)) for i in range(COUNT)]
    cache = tmp_path_factory.mktemp("pool") / "tables.pt"
    teacher = load_tower("shipped:clip-tabletop").model
    return tabletop_mllm.make_pool(teacher, scenes, cache, {"teacher": "shipped"})


def test_a_packed_turn_is_the_separate_prompt_that_transformers_is_given(
    mllm: Mllm, pool: tabletop_mllm.Pool
) -> None:
    model = mllm.model
    assert isinstance(model, LlavaForConditionalGeneration)
    batch, _ = tabletop_mllm.make_batch(pool, mllm.tokenizer, np.random.default_rng(3), 4)
    rows = np.random.default_rng(3).integers(COUNT, size=4)
    with torch.no_grad():
        output, _, _ = run_packed(model, batch)
        packed = model.lm_head(output.last_hidden_state)
    compared = 0
    for b, row in enumerate(rows):
        image, _, _ = render_with_map([pool.scenes[row]])
        for asked in batch.asked[b]:
            turn = batch.positions[b] >= 1 + PATCHES
            start = asked.start - int(batch.positions[b, asked.start] - (1 + PATCHES))
            assert turn[start : asked.stop].all()
            prompt = torch.cat([batch.ids[b, : 1 + PATCHES], batch.ids[b, start : asked.stop]])
            with torch.no_grad():
                alone = model(input_ids=prompt[None], pixel_values=PREPROCESSING(image)).logits[0]
            expected = alone[len(prompt) - (asked.stop - asked.start) :]
            # The pool holds tokens in half precision.
            torch.testing.assert_close(packed[b, asked], expected, atol=0.05, rtol=0.01)
            compared += 1
    assert compared >= 4 * 6


def test_an_answer_is_looked_for_where_the_thing_is_seen(
    mllm: Mllm, pool: tabletop_mllm.Pool
) -> None:
    batch, hit = tabletop_mllm.make_batch(pool, mllm.tokenizer, np.random.default_rng(5), 8)
    rows = np.random.default_rng(5).integers(COUNT, size=8)
    edges = torch.arange(9) * 16  # a scene has 128 pixels, and 8 x 8 patches
    looked = 0
    for b, row in enumerate(rows):
        boxes = [
            {
                y * 8 + x
                for y in range(8)
                for x in range(8)
                if edges[x] < x1 and edges[x + 1] > x0 and edges[y] < y1 and edges[y + 1] > y0
            }
            for x0, y0, x1, y1 in pool.boxes[row]
        ]
        for asked in batch.asked[b]:
            assert not hit[b, asked, 0].any()
            assert not hit[b, asked, 1 + PATCHES :].any()
            patches = set(hit[b, asked.start, 1 : 1 + PATCHES].nonzero().flatten().tolist())
            if patches:
                assert any(patches <= box for box in boxes)
                looked += 1
    assert looked >= 8 * 3


@pytest.mark.parametrize("kept", [6, PATCHES])
def test_a_fewshot_label_is_asked_where_an_earlier_image_of_the_class_has_it(kept: int) -> None:
    names = class_names()
    scenes = [
        sample_scene(scene_rng(0, "train", i, stream=8), "train", objects=[divmod(i, len(DIGITS))])
        for i in range(len(names))
    ]
    drawn = batches.Pool(scenes, [[]] * len(names), torch.randn(len(names), PATCHES, 4))
    tokenizer = Mllm.load("shipped:llava-scenes").tokenizer
    rng = np.random.default_rng(1)
    batch = batches.fewshot_batch(drawn, [[i] for i in range(len(names))], tokenizer, rng, 8, kept)
    letters = {tokenizer.convert_tokens_to_ids(letter) for letter in LABELS}
    asked = 0
    for ids, labels, classes in zip(batch.ids, batch.labels, batch.classes, strict=True):
        label_of: dict[int, int] = {}
        for place in (classes != IGNORE).nonzero().flatten().tolist():
            token, class_index = int(ids[place]), int(classes[place])
            if token in letters:
                assert label_of.setdefault(class_index, token) == token
            elif class_index in label_of:
                assert int(labels[place]) == label_of[class_index]
                asked += 1
            else:
                assert int(labels[place]) == IGNORE
    assert asked >= 8 * 3
    assert int((batch.ids == IMAGE_ID).sum()) == len(batch.images)

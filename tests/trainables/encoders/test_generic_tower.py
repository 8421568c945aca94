"""An MLLM's own visual tower as the teacher, against the MLLM itself on the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from search_spaces.facts.encoders import CLIP_LIKE, encoder_sizes
from search_spaces.facts.mllm_families import find_family
from tests.trainables.small import codec_spec, make_space
from tests.trainables.tiny_mllms import BLOCKS, GRID, PATCH, SIDE, TINY, WIDTH, inputs, make
from trainables.datasets.rows import Batch
from trainables.encoders.bridge import entered, hidden_at
from trainables.encoders.generic_tower import GenericTower
from trainables.encoders.load import load_tower, meta_tower
from trainables.encoders.partial_encoder import PartialEncoder, Teacher
from trainables.encoders.tower import Tower
from trainables.points.building import build_neck, partial_encoder
from trainables.points.learning import SurrogateSetting
from trainables.points.neck_method import NeckLearner

NAMES = [name for name in TINY if find_family(make(name).config.model_type)]
OWN = ["Kosmos-2", "BLIP-2", "InstructBLIP", "InternVL", "SmolVLM", "Idefics 3"]


def loaded(name: str, directory: Path) -> Tower:
    make(name).save_pretrained(directory)
    return load_tower(str(directory))


def images() -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def of_the_mllm(name: str, tower: Tower, block: int) -> tuple[Any, Tensor]:
    """The MLLM, and the input of a block while all of it runs on images."""
    model, given = make(name), inputs(name, 2)
    pixels = tower.preprocess(images())
    views = TINY[name].pixels[0] if len(TINY[name].pixels) == 4 else 1
    given["pixel_values"] = pixels.repeat_interleave(views, 0).view(2, *TINY[name].pixels)
    found = hidden_at(TINY[name].tower_of(model), block, lambda: model(**given))
    return model, found[::views]


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_is_the_mllms_tower(name: str, tmp_path: Path) -> None:
    tower = loaded(name, tmp_path)
    assert isinstance(tower, GenericTower) == any(one in name for one in OWN)
    sizes = tower.sizes
    assert sizes == encoder_sizes(make(name).config.to_dict())
    assert (sizes.grid, sizes.width, sizes.blocks) == ((GRID, GRID), WIDTH, BLOCKS)
    assert (sizes.image_size, sizes.patch_size, sizes.heads) == (SIDE, PATCH, 2)
    assert (sizes.pooled, sizes.text) == (0, False)
    assert tower.pool() is None
    with torch.no_grad():
        for block in (0, 2, BLOCKS - 1, BLOCKS):
            _, expected = of_the_mllm(name, tower, block)
            assert expected.shape == (2, sizes.tokens, WIDTH)
            # In one batch of other size the arithmetic may differ in the last place.
            found = Teacher(tower).hidden(images(), block)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        tokens = Teacher(tower, -2)(images(), pooled=False).tokens
        start = Teacher(tower).hidden(images(), 2)
        assert torch.equal(PartialEncoder(tower, 2, -2)(start, pooled=False).tokens, tokens)
        spoilt = PartialEncoder(tower, 1, -2)(start, pooled=False).tokens
        assert not torch.allclose(spoilt, tokens, atol=1e-3)


@pytest.mark.parametrize("name", OWN)
def test_what_the_teacher_says_at_block_k_enters_the_mllm(name: str, tmp_path: Path) -> None:
    tower = loaded(name, tmp_path)
    model, given = make(name), inputs(name, 2)
    given["pixel_values"] = tower.preprocess(images()).view(2, *TINY[name].pixels)
    with torch.no_grad():
        expected = model(**given).logits  # type: ignore[operator]
        tokens = Teacher(tower).hidden(images(), 2)
        given["pixel_values"] = torch.ones_like(given["pixel_values"])
        with entered(TINY[name].tower_of(model), 2, tokens):
            assert torch.equal(model(**given).logits, expected)  # type: ignore[operator]


@pytest.mark.parametrize("name", OWN)
def test_gradients_pass_through_the_blocks_from_k_on_alone(name: str, tmp_path: Path) -> None:
    tower = loaded(name, tmp_path)
    hidden = Teacher(tower).hidden(images(), 2).detach()
    # Autograd of the MLLM's own tower, from where block 2 begins.
    model = make(name)
    own = TINY[name].tower_of(model)
    pixels = tower.preprocess(images())
    given = hidden.clone().requires_grad_()
    with entered(own, 2, given):
        hidden_at(own, BLOCKS - 1, lambda: own(pixels)).square().sum().backward()
    for checkpointed in (False, True):
        found = hidden.clone().requires_grad_()
        partial = PartialEncoder(tower, 2, -2, checkpoint_blocks=checkpointed)
        tokens = partial(found, pooled=False).tokens
        assert tokens is not None
        tokens.square().sum().backward()
        assert found.grad is not None
        torch.testing.assert_close(found.grad, given.grad, atol=1e-5, rtol=1e-5)
    whole = {id(p) for p in tower.model.parameters()}
    kept = {id(p) for p in partial.parameters()}
    skipped = [*tower.embeddings.parameters(), *tower.blocks[0].parameters()]
    assert kept < whole, "the blocks are shared"
    assert not kept & {id(p) for p in skipped}
    assert kept >= {id(p) for block in tower.blocks[2:] for p in block.parameters()}


@pytest.mark.parametrize("name", ["BLIP-2", "InternVL", "Idefics 3"])
def test_a_neck_learns_from_the_tokens_of_such_a_tower(name: str, tmp_path: Path) -> None:
    tower = loaded(name, tmp_path)
    space = make_space(
        tmp_path,
        surrogate={"pooled": 0, "tokens": 1, "phases": [{"until": 1, "ce": 0, "distill": 1}]},
    )
    torch.manual_seed(0)
    neck = build_neck(space, codec_spec(), tower)
    assert (neck.class_token is not None) == tower.sizes.class_token
    steps = space.settings_of("d1").steps
    setting = SurrogateSetting(space, partial_encoder(space, tower), None, steps)
    learner = NeckLearner(setting, neck, 1e-3, None)
    assert learner.columns == ("y_hat", "tokens")
    tokens = Teacher(tower)(images(), pooled=False).tokens
    batch = Batch(("a", "b"), y_hat=torch.randn(2, codec_spec().M, 4, 4), tokens=tokens)
    optimiser = torch.optim.Adam(neck.parameters(), 2e-2)
    losses = []
    for step in range(steps):
        optimiser.zero_grad()
        loss = learner(batch, step)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", ["Kosmos-2", "LLaVA, CLIP"])
def test_a_tower_without_weights_has_the_same_sizes(name: str, tmp_path: Path) -> None:
    tower = loaded(name, tmp_path)
    counted = meta_tower(str(tmp_path))
    assert counted.sizes == tower.sizes
    with torch.no_grad():
        hidden = Teacher(counted).hidden(torch.empty(1, 3, 48, 48, device="meta"), 2)
    assert hidden.shape == (1, tower.sizes.tokens, WIDTH)


def test_weights_that_are_missing_in_the_tower_are_named_and_others_do_not_matter(
    tmp_path: Path,
) -> None:
    loaded("BLIP-2", tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["qformer.layernorm.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    load_tower(str(tmp_path))
    (lost,) = (n for n in state if n.endswith("vision_model.encoder.layers.1.mlp.fc1.weight"))
    del state[lost]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 .*layers\.1\.mlp\.fc1\.weight"):
        load_tower(str(tmp_path))


def test_a_neck_cannot_start_from_a_tower_of_another_form(tmp_path: Path) -> None:
    tower = loaded("InternVL", tmp_path)
    assert tower.sizes.family not in CLIP_LIKE
    space = make_space(tmp_path, neck={"init": "encoder"})
    with pytest.raises(ValueError, match=r"clip.* siglip.* internvl"):
        build_neck(space, codec_spec(), tower)

"""Train the MLLM of the world of tables: a small Llama that reads the frozen teacher.

    scene --teacher, once--> tokens of the layer before the last --projector--> image positions
    [<bos> image][turn][turn] ...   one image, many turns, as in `trainables.recipes.scenes.mllm`

The loss is on answers; one attention head is told to look at the thing that is asked about.

Run `python -m trainables.recipes.tabletop.mllm --work DIR --teacher NAME`; it continues from
DIR/tabletop-mllm.pt when that exists. The shipped MLLM is what this gave from nothing: 4,000 steps,
2 hours on one busy core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPModel, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from trainables.codecs import RECORD_FILE
from trainables.datasets.images.files import write_json
from trainables.datasets.worlds.samples import SceneSample
from trainables.datasets.worlds.tabletop.drawing import render_with_map
from trainables.datasets.worlds.tabletop.language import vocabulary
from trainables.datasets.worlds.tabletop.sampling import sample_table
from trainables.datasets.worlds.tabletop.scene import LEVELS, TableSpec
from trainables.datasets.worlds.tabletop.world import Tabletop
from trainables.datasets.worlds.world import Boxes, DrawnScene, scene_rng
from trainables.datasets.worlds.write import write_world
from trainables.encoders.load import load_tower
from trainables.mllms import Mllm
from trainables.recipes.accuracy import uncompressed_accuracy
from trainables.recipes.common import (
    IMAGE_ID,
    begin,
    build_tokenizer,
    recipe_parser,
    save_checkpoint,
)
from trainables.recipes.mllm_training import Examination, build_mllm, train_mllm
from trainables.recipes.packed_losses import COPY_AT, look_loss, run_packed
from trainables.recipes.packing import (
    PATCHES,
    PackedTurns,
    image_tokens,
    pack_turns,
    stored_pool,
)
from trainables.recipes.steps import StepLoss
from trainables.recipes.tabletop.teacher_losses import targets
from trainables.tasks import scene_tasks

_ASKED = {"attributes": 2, "counts": 2, "relations": 2, "reading": 1, "locating": 2}
"""How often each task draws its samples of a scene in a step."""
_NOWHERE = -1
SCENES_OF_LEVEL = 100


@dataclass(frozen=True)
class Pool:
    """Train scenes with what the teacher makes of them, computed once.

    Attributes:
        tokens: (n, PATCHES, tower width), half precision.
        shown: (n, PATCHES), the thing that each patch shows, or _NOWHERE.
    """

    scenes: list[TableSpec]
    boxes: Boxes
    tokens: Tensor
    shown: Tensor


@torch.no_grad()
def make_pool(
    teacher: CLIPModel, scenes: list[TableSpec], cache: Path, made_of: Mapping[str, object]
) -> Pool:
    """Draw scenes and run the teacher on them, or read what an earlier run left in `cache`.

    Args:
        made_of: what decides the scenes and tokens, besides the number of scenes.
    """
    if (state := stored_pool(cache, len(scenes), made_of)) is not None:
        return Pool(scenes, state["boxes"], state["tokens"], state["shown"])
    tokens, shown = [], []
    boxes: Boxes = []
    for start in range(0, len(scenes), 64):
        batch = scenes[start : start + 64]
        images, corners, seen = render_with_map(batch)
        tokens.append(image_tokens(teacher, images))
        truth = targets(batch, corners, seen)
        shown.append(torch.where(truth.is_shown, truth.shown, _NOWHERE))
        boxes += corners
    state = {"boxes": boxes, "tokens": torch.cat(tokens), "shown": torch.cat(shown)}
    save_checkpoint(cache, {**state, "made_of": dict(made_of)})
    return Pool(scenes, boxes, state["tokens"], state["shown"])


def make_batch(
    pool: Pool, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, size: int
) -> tuple[PackedTurns, Tensor]:
    """The turns of `size` scenes, and where an answer is to be read: (B, L, L)."""
    rows = rng.integers(len(pool.scenes), size=size)
    tasks = scene_tasks("tabletop").in_turn
    turns: list[list[SceneSample]] = []
    for row in rows:
        scene = DrawnScene(pool.scenes[row], pool.boxes[row], 128)
        samples = [
            sample
            for name, times in _ASKED.items()
            for _ in range(times)
            for sample in tasks[name].scene_samples(scene, rng)
        ]
        turns.append(samples)
    batch = pack_turns(pool.tokens[torch.from_numpy(rows)], turns, tokenizer)
    length = batch.ids.shape[1]
    hit = torch.zeros(size, length, length, dtype=torch.bool)
    for b, samples in enumerate(turns):
        for sample, asked in zip(samples, batch.asked[b], strict=True):
            if sample.position is not None:
                hit[b, asked, 1 : 1 + PATCHES] = pool.shown[rows[b]] == sample.position
    return batch, hit


def step_loss(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    pool: Pool,
    step: int,
    options: argparse.Namespace,
) -> StepLoss:
    """The loss of a step (0 ..), on a batch that is drawn for it."""
    rng = np.random.default_rng((options.seed, step, 9))
    batch, hit = make_batch(pool, tokenizer, rng, options.scenes)
    output, answers, right = run_packed(model, batch)
    language: Any = model.model.language_model
    look = look_loss(language, output.hidden_states[COPY_AT], batch, 1, hit)
    values = {"answers": answers.item(), "look": look.item(), "answers right": right}
    return answers + 0.3 * look, values


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = recipe_parser(__doc__)
    parser.add_argument("--teacher", default="shipped:clip-tabletop")
    parser.add_argument("--out", type=Path, help="where it goes (default: WORK/llava-tabletop)")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--scenes", type=int, default=12, help="scenes per step")
    parser.add_argument("--pool", type=int, default=12000, help="train scenes")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    return begin(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _options(arguments)
    seed: int = options.seed
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(vocabulary(), end=False)
    assert tokenizer.convert_tokens_to_ids("<image>") == IMAGE_ID
    teacher: CLIPModel = load_tower(options.teacher).model
    model = build_mllm(teacher, len(tokenizer))
    scenes = [sample_table(scene_rng(seed, "train", i, stream=7)) for i in range(options.pool)]
    out = options.out or options.work / "llava-tabletop"
    made_of = {"teacher": options.teacher, "seed": seed}
    pool = make_pool(teacher, scenes, options.work / "tables.pt", made_of)
    train_mllm(
        model,
        {},
        tokenizer,
        lambda step: step_loss(model, tokenizer, pool, step, options),
        Examination(
            options.work / "tabletop-world",
            scene_tasks("tabletop"),
            seed,
            test={"n_test": 400},
            val={"n_val": 100},
        ),
        options.steps,
        options.lr,
        options.work / "tabletop-mllm.pt",
        out,
    )
    record = out / RECORD_FILE
    levels = accuracy_by_level(Mllm.load(str(out)), options.work, seed)
    write_json(record, {**json.loads(record.read_text()), "levels": levels}, indent=2)


def accuracy_by_level(mllm: Mllm, work: Path, seed: int) -> dict[str, dict[str, float]]:
    """Of every metric on uncompressed test scenes of each level, by its number.

    Args:
        work: where the scenes are written.
    """
    levels = {}
    for level in range(len(LEVELS)):
        tasks = scene_tasks("tabletop", Tabletop((level,)))
        directory = work / f"tabletop-world-{level}"
        write_world(directory, tasks, seed=seed, n_test=SCENES_OF_LEVEL)
        levels[str(level)] = uncompressed_accuracy(mllm, directory, "test")
    return levels


if __name__ == "__main__":
    main()

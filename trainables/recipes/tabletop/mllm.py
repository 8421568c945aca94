"""Train the MLLM of the world of tables: a small Llama that reads the frozen teacher.

    scene --teacher, once--> tokens of the layer before the last --projector--> image positions
    [<bos> image][turn][turn] ...   one image, many turns, as in `trainables.recipes.mllm`

The loss is on answers; one attention head is told to look at the thing that is asked about.

Run `python -m trainables.recipes.tabletop.mllm --work DIR --teacher NAME`; it continues from
DIR/tabletop-mllm.pt when that exists.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPModel, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from trainables.datasets.worlds.samples import SceneSample
from trainables.datasets.worlds.tabletop.drawing import render_with_map
from trainables.datasets.worlds.tabletop.language import vocabulary
from trainables.datasets.worlds.tabletop.sampling import sample_table
from trainables.datasets.worlds.tabletop.scene import TableSpec
from trainables.datasets.worlds.world import Boxes, DrawnScene, scene_rng
from trainables.datasets.worlds.write import write_world
from trainables.encoders.load import load_tower
from trainables.mllms import Mllm
from trainables.recipes.accuracy import uncompressed_accuracy
from trainables.recipes.common import (
    IMAGE_ID,
    PREPROCESSING,
    begin,
    build_tokenizer,
    load_checkpoint,
    recipe_parser,
    save_checkpoint,
    save_half,
)
from trainables.recipes.mllm import build_mllm, optimisers_of
from trainables.recipes.mllm_batches import LAYER_READ, PATCHES, PackedTurns, pack_turns
from trainables.recipes.mllm_losses import COPY_AT, look_loss, run_packed
from trainables.recipes.steps import Schedule, StepLoss, run_steps
from trainables.recipes.tabletop.losses import targets
from trainables.tasks import scene_tasks

log = logging.getLogger("tabletop-mllm")
_ASKED = {"attributes": 2, "counts": 2, "relations": 2, "reading": 1, "locating": 2}
"""How often each task draws its samples of a scene in a step."""
_NOWHERE = -1


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
def make_pool(teacher: CLIPModel, scenes: list[TableSpec], cache: Path) -> Pool:
    """Draw scenes and run the teacher on them, or read what an earlier run left in `cache`."""
    if (state := load_checkpoint(cache)) is not None and len(state["boxes"]) == len(scenes):
        return Pool(scenes, state["boxes"], state["tokens"], state["shown"])
    tokens, shown = [], []
    boxes: Boxes = []
    for start in range(0, len(scenes), 64):
        batch = scenes[start : start + 64]
        images, corners, seen = render_with_map(batch)
        pixels = PREPROCESSING(images)
        hidden = teacher.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
        tokens.append(hidden[LAYER_READ][:, 1:].half())
        truth = targets(batch, corners, seen)
        shown.append(torch.where(truth.is_shown, truth.shown, _NOWHERE))
        boxes += corners
    state = {"boxes": boxes, "tokens": torch.cat(tokens), "shown": torch.cat(shown)}
    save_checkpoint(cache, state)
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
    pool = make_pool(teacher, scenes, options.work / "tables.pt")
    world = options.work / "world"
    sizes = {"n_val": 100, "n_test": 400}
    if not (world / "tasks_test.parquet").exists():
        write_world(world, scene_tasks("tabletop"), seed=seed, **sizes)
    trained = [p for p in model.parameters() if p.requires_grad]

    def validate(step: int) -> None:
        if step % 500:
            return
        frozen = Mllm(model, tokenizer, PREPROCESSING)
        log.info("val %s", uncompressed_accuracy(frozen, world, "val"))
        model.train()
        for parameter in trained:
            parameter.requires_grad_(True)

    model.train()
    run_steps(
        {"model": model},
        trained,
        optimisers_of(model, trained, options.lr),
        Schedule(options.steps, options.lr, warmup=100, save_every=100),
        options.work / "tabletop-mllm.pt",
        lambda step: step_loss(model, tokenizer, pool, step, options),
        validate,
    )
    out = options.out or options.work / "llava-tabletop"
    save_half(model, tokenizer, out, {})
    accuracy: dict[str, Any] = {
        "world": {"seed": seed, "size": 128, "n_test": sizes["n_test"]},
        "test": uncompressed_accuracy(Mllm.load(str(out)), world, "test"),
    }
    log.info("test %s", accuracy["test"])
    save_half(model, tokenizer, out, accuracy)


if __name__ == "__main__":
    main()

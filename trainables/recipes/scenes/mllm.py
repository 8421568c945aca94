"""Train the demo's MLLM: a small Llama that reads the frozen teacher, on uncompressed train scenes.

    scene --teacher, once--> tokens of the layer before the last --projector--> image positions
    [<bos> image][caption turn][question turn][where turn] ...   one image, many turns
    [<bos> image class A image class C image class A ...]        few-shot, in context

A turn sees the image and itself, never another turn, and its positions start behind the image: it
is the separate prompt it will be at test time, without paying for the image each time. The loss is
on answers only; in few-shot sequences on every label that an earlier image gives away.

Run `python -m trainables.recipes.scenes.mllm --work DIR --teacher NAME`; it continues from
DIR/mllm.pt when that exists. The shipped MLLM is what this gave from nothing, with Muon in single
precision: 1,600 steps, 40 minutes on one busy core. Being told where to look, and one reading of
colour and digit for image, question and label, are what few-shot answers needed: in an earlier run
each took effect within 200 steps.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPModel, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from trainables.datasets.worlds.scenes.captions import vocabulary
from trainables.datasets.worlds.scenes.sampling import sample_scene
from trainables.datasets.worlds.scenes.scene import DIGITS, class_names
from trainables.datasets.worlds.world import scene_rng
from trainables.encoders.load import load_tower
from trainables.recipes.common import begin, build_tokenizer, recipe_parser
from trainables.recipes.mllm_training import Examination, build_mllm, train_mllm
from trainables.recipes.packing import PATCHES
from trainables.recipes.scenes.batches import Pool, fewshot_batch, make_pool, scene_batch
from trainables.recipes.scenes.mllm_losses import Heads, batch_loss
from trainables.recipes.steps import StepLoss
from trainables.tasks import scene_tasks

log = logging.getLogger("mllm")


def make_pools(teacher: CLIPModel, options: argparse.Namespace) -> tuple[Pool, Pool]:
    """Train scenes, and train scenes of a single digit, class after class."""
    seed, n_classes = options.seed, len(class_names())
    scenes = [
        sample_scene(scene_rng(seed, "train", i, stream=7), "train", augment=True)
        for i in range(options.pool)
    ]
    singles = [
        sample_scene(
            scene_rng(seed, "train", i, stream=8),
            "train",
            objects=[divmod(i % n_classes, len(DIGITS))],
            augment=True,
        )
        for i in range(options.singles * n_classes)
    ]
    made_of = {"teacher": options.teacher, "seed": seed}
    pool = make_pool(teacher, scenes, options.work / "scenes.pt", made_of)
    return pool, make_pool(teacher, singles, options.work / "singles.pt", made_of)


def step_loss(
    model: LlavaForConditionalGeneration,
    heads: Heads,
    tokenizer: PreTrainedTokenizerFast,
    pools: tuple[Pool, Pool],
    step: int,
    options: argparse.Namespace,
) -> StepLoss:
    """The loss of a step (0 ..), on batches that are drawn for it.

    Args:
        pools: as `make_pools` gives them.
        options: of the command line.
    """
    pool, singles = pools
    n_scenes, n_classes = len(singles.scenes), len(class_names())
    by_class = [range(c, n_scenes, n_classes) for c in range(n_classes)]
    rng = np.random.default_rng((options.seed, step, 9))
    kept = PATCHES if step % 3 == 2 else 6
    scenes = scene_batch(pool, tokenizer, rng, options.scenes)
    size = options.episodes // 2 if kept == PATCHES else options.episodes
    episodes = fewshot_batch(singles, by_class, tokenizer, rng, size, kept)
    answer, look, right = batch_loss(model, heads, scenes)
    label, auxiliary, label_right = batch_loss(model, heads, episodes)
    loss = answer + label + 0.3 * (look + auxiliary)
    tensors = {"answers": answer, "look": look, "labels": label, "auxiliary": auxiliary}
    values = {name: tensor.item() for name, tensor in tensors.items()}
    return loss, {**values, "answers right": right, "labels right": label_right}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = recipe_parser(__doc__)
    parser.add_argument("--teacher", default="shipped:clip-scenes")
    parser.add_argument("--out", type=Path, help="where it goes (default: WORK/llava-scenes)")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--scenes", type=int, default=12, help="scenes per step, 7 turns each")
    parser.add_argument("--episodes", type=int, default=4, help="few-shot sequences per step")
    parser.add_argument("--pool", type=int, default=5000, help="train scenes")
    parser.add_argument("--singles", type=int, default=40, help="few-shot images per class")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    return begin(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _options(arguments)
    seed: int = options.seed
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(vocabulary(), end=False)
    teacher: CLIPModel = load_tower(options.teacher).model
    model, heads = build_mllm(teacher, len(tokenizer)), Heads()
    pools = make_pools(teacher, options)
    log.info("%d scenes and %d single digits", *(len(pool.scenes) for pool in pools))
    train_mllm(
        model,
        {"heads": heads},
        tokenizer,
        lambda step: step_loss(model, heads, tokenizer, pools, step, options),
        Examination(
            options.work / "world",
            scene_tasks(),
            seed,
            test={"n_test": 300, "n_episodes": 300},
            val={"n_val": 64, "n_val_episodes": 300},
        ),
        options.steps,
        options.lr,
        options.work / "mllm.pt",
        options.out or options.work / "llava-scenes",
    )


if __name__ == "__main__":
    main()

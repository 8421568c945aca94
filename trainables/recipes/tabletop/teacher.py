"""Train the teacher of the world of tables, a small CLIP, on scenes made on the fly.

    scene --render, resize 112--> vision tower --CLS, projection--> <-- contrast --> text tower
                                       |                              with captions and class names
                                       +-- tokens of some layers --> dense heads: what does my patch
                                           show, where, and which characters?

The architecture and the loop are those of the world of scenes; the heads are dropped when the model
is saved. Training begins with the easiest level; of the first `--easy` of the steps, each further
quarter adds one.

Run `python -m trainables.recipes.tabletop.teacher --work DIR`; it continues from
DIR/tabletop-teacher.pt when that exists. The shipped teacher is what this gave from nothing: 5,000
steps, 70 minutes on one busy core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import CLIPModel

from trainables.datasets.worlds.tabletop.drawing import render_with_map
from trainables.datasets.worlds.tabletop.language import TEMPLATES, caption, vocabulary
from trainables.datasets.worlds.tabletop.sampling import sample_table
from trainables.datasets.worlds.tabletop.scene import LEVELS, TableSpec, class_names
from trainables.datasets.worlds.world import scene_rng
from trainables.recipes.common import PREPROCESSING, begin, build_tokenizer, recipe_parser
from trainables.recipes.contrast import Texts, language_loss
from trainables.recipes.steps import StepLoss
from trainables.recipes.tabletop.teacher_losses import (
    Heads,
    dense_loss,
    evaluate,
    mask_loss,
    targets,
    text_loss,
)
from trainables.recipes.teacher_training import build_teacher, train_teacher


def batch_scenes(seed: int, step: int, batch: int, progress: float) -> list[TableSpec]:
    """The scenes of one training step.

    Args:
        progress: share of the easy steps that are over; the levels up to this share are drawn,
            and from 1 on all of them.
    """
    scenes = []
    levels = min(len(LEVELS), 1 + int(progress * len(LEVELS)))
    for i in range(batch):
        rng = scene_rng(seed, "train", step * batch + i, stream=1)
        scenes.append(sample_table(rng, [int(rng.integers(levels))]))
    return scenes


def step_loss(
    model: CLIPModel, heads: Heads, texts: Texts, step: int, options: argparse.Namespace
) -> StepLoss:
    """The loss of one step on scenes that are drawn for it."""
    progress = step / max(1, options.easy * options.steps)
    scenes = batch_scenes(options.seed, step, options.batch, progress)
    images, boxes, seen = render_with_map(scenes)
    vision = model.vision_model(pixel_values=PREPROCESSING(images), output_hidden_states=True)
    hidden, truth = vision.hidden_states, targets(scenes, boxes, seen)
    dense, mask = dense_loss(heads, hidden, truth), mask_loss(heads, hidden, truth)
    text = text_loss(heads, hidden, truth)
    loss = dense + 2.0 * mask + text
    # Every second step: the text tower costs as much as a layer or two of the vision tower.
    if step % 2 == 0:
        projected = model.visual_projection(vision.pooler_output)
        captions = [caption(scene) for scene in scenes]
        classes = [[thing.class_index for thing in scene.things] for scene in scenes]
        loss = loss + 0.5 * language_loss(model, projected, captions, classes, texts, step)
    parts = {"dense": dense, "mask": mask, "text": text, "total": loss}
    return loss, {name: value.item() for name, value in parts.items()}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = recipe_parser(__doc__)
    parser.add_argument("--out", type=Path, help="where it goes (default: WORK/clip-tabletop)")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--easy", type=float, default=0.3, help="share of the steps")
    return begin(parser, arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _options(arguments)
    torch.manual_seed(options.seed)
    tokenizer = build_tokenizer(vocabulary(), end=True)
    texts = Texts(tokenizer, class_names(), TEMPLATES)
    model, heads = build_teacher(len(tokenizer)), Heads()
    train_teacher(
        model,
        heads,
        tokenizer,
        lambda step: step_loss(model, heads, texts, step, options),
        lambda split, count: evaluate(model, heads, texts, split, count),
        {"val": 256, "test": 800},
        options.steps,
        options.lr,
        options.work / "tabletop-teacher.pt",
        options.out or options.work / "clip-tabletop",
    )


if __name__ == "__main__":
    main()

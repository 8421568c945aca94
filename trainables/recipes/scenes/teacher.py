"""Train the demo's teacher, a small CLIP, on scenes made on the fly.

    scene --render, resize 112--> vision tower --CLS, projection--> <-- contrast --> text tower
                                       |                              with captions and class names
                                       +-- tokens of some layers --> dense heads: what is drawn,
                                                                     what stands in my quadrant?

The dense heads make digits learnable in an hour of CPU time; they are dropped when the model is
saved. The MLLM reads the patch tokens of the layer before the last, so one dense head sits exactly
there.

Run `python -m trainables.recipes.scenes.teacher --work DIR`; it continues from DIR/teacher.pt when
that exists, also with another number of steps, which re-shapes the rest of the schedule. The
shipped teacher is what this gave from nothing, with Muon in single precision: 2,200 steps, half an
hour on one to two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import CLIPModel

from trainables.datasets.worlds.scenes.captions import TEMPLATES, caption, vocabulary
from trainables.datasets.worlds.scenes.drawing import render_with_ink
from trainables.datasets.worlds.scenes.sampling import sample_scene
from trainables.datasets.worlds.scenes.scene import SceneSpec, class_names
from trainables.datasets.worlds.world import scene_rng
from trainables.recipes.common import PREPROCESSING, begin, build_tokenizer, recipe_parser
from trainables.recipes.contrast import Texts, language_loss
from trainables.recipes.scenes.teacher_losses import (
    Heads,
    classes_of,
    dense_loss,
    evaluate,
    ink_loss,
    targets,
)
from trainables.recipes.steps import StepLoss
from trainables.recipes.teacher_training import build_teacher, train_teacher


def batch_scenes(seed: int, step: int, batch: int, full: bool) -> list[SceneSpec]:
    """The scenes of one training step. `full` fills all four quadrants, for more digits per
    step."""
    rngs = [scene_rng(seed, "train", step * batch + i, stream=1) for i in range(batch)]
    return [
        sample_scene(r, "train", n_objects=4 if full and i % 4 else None, augment=True)
        for i, r in enumerate(rngs)
    ]


def step_loss(
    model: CLIPModel, heads: Heads, texts: Texts, step: int, options: argparse.Namespace
) -> StepLoss:
    """The loss of one step on scenes that are drawn for it."""
    full = step < options.full_until * options.steps
    scenes = batch_scenes(options.seed, step, options.batch, full)
    images, boxes, ink = render_with_ink(scenes)
    pixels = PREPROCESSING(images)
    vision = model.vision_model(pixel_values=pixels, output_hidden_states=True)
    outputs = heads(vision.hidden_states, vision.pooler_output)
    supervised = dense_loss(heads, outputs, targets(scenes, boxes))
    drawn = ink_loss(heads, vision.hidden_states, ink)
    loss = supervised + 2.0 * drawn
    # Every second step: the text tower costs as much as a layer or two of the vision tower.
    if step % 2 == 0:
        projected = model.visual_projection(vision.pooler_output)
        loss = loss + 0.5 * language_loss(
            model,
            projected,
            [caption(scene) for scene in scenes],
            [classes_of(scene) for scene in scenes],
            texts,
            step,
        )
    return loss, {"dense": supervised.item(), "ink": drawn.item(), "total": loss.item()}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = recipe_parser(__doc__)
    parser.add_argument(
        "--out", type=Path, help="where the finished teacher goes (default: WORK/clip-scenes)"
    )
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--muon", type=int, default=1, help="0: AdamW everywhere")
    parser.add_argument(
        "--full-until", type=float, default=0.5, help="share of the steps with four digits a scene"
    )
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
        {"val": 128, "test": 400},
        options.steps,
        options.lr,
        options.work / "teacher.pt",
        options.out or options.work / "clip-scenes",
        muon=bool(options.muon),
    )


if __name__ == "__main__":
    main()

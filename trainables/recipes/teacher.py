"""Train the demo's teacher, a small CLIP, on scenes made on the fly.

    scene --render, resize 112--> vision tower --CLS, projection--> <-- contrast --> text tower
                                       |                              with captions and class names
                                       +-- tokens of some layers --> dense heads: what is drawn,
                                                                     what stands in my quadrant?

The dense heads make digits learnable in an hour of CPU time; they are dropped when the model is
saved. The MLLM reads the patch tokens of the layer before the last, so one dense head sits exactly
there.

Run `python -m trainables.recipes.teacher --work DIR`; it continues from DIR/teacher.pt when that
exists, also with another number of steps, which re-shapes the rest of the schedule. The shipped
teacher is what this gave from nothing, with Muon in single precision: 2,200 steps, half an hour on
one to two cores.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from trainables.datasets.worlds.scenes.captions import TEMPLATES, caption, vocabulary
from trainables.datasets.worlds.scenes.drawing import render_with_ink
from trainables.datasets.worlds.scenes.sampling import sample_scene
from trainables.datasets.worlds.scenes.scene import SceneSpec, class_names
from trainables.datasets.worlds.world import scene_rng
from trainables.recipes.common import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    PREPROCESSING,
    begin,
    build_tokenizer,
    recipe_parser,
    save_half,
)
from trainables.recipes.contrast import Texts, language_loss
from trainables.recipes.steps import Schedule, StepLoss, muon_of, run_steps
from trainables.recipes.teacher_losses import (
    GRID,
    LAYERS,
    WIDTH,
    Heads,
    classes_of,
    dense_loss,
    evaluate,
    ink_loss,
    targets,
)

log = logging.getLogger("teacher")


def build_teacher(vocab_size: int) -> CLIPModel:
    """A fresh CLIP: 6 x 128 vision tower on 8 x 8 patches, 2 x 128 text tower."""
    config = CLIPConfig(
        projection_dim=WIDTH,
        logit_scale_init_value=2.6592,
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "image_size": PREPROCESSING.size,
            "patch_size": PREPROCESSING.size // GRID,
            "hidden_act": "quick_gelu",
            "projection_dim": WIDTH,
        },
        text_config={
            "vocab_size": vocab_size,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 40,
            "hidden_act": "quick_gelu",
            "projection_dim": WIDTH,
            "bos_token_id": BOS_ID,
            "eos_token_id": EOS_ID,
            "pad_token_id": PAD_ID,
        },
    )
    model = CLIPModel(config)
    with torch.no_grad():
        embeddings = model.vision_model.embeddings
        # Neighbouring patches start with similar positions, so that attention finds a glyph's
        # strokes early.
        embeddings.position_embedding.weight[1:] = 0.3 * _grid_positions(WIDTH)
    return model


def _grid_positions(width: int) -> Tensor:
    """(GRID * GRID, width) sines and cosines of the patches' rows and columns."""
    angles = torch.arange(GRID).float()[:, None] * (0.25 * 1.25 ** torch.arange(width // 4))
    axis = torch.cat((angles.sin(), angles.cos()), 1)  # (GRID, width / 2)
    rows, columns = axis[:, None].expand(-1, GRID, -1), axis[None].expand(GRID, -1, -1)
    return torch.cat((rows, columns), -1).reshape(GRID * GRID, width)


def batch_scenes(seed: int, step: int, batch: int, full: bool) -> list[SceneSpec]:
    """The scenes of one training step. `full` fills all four quadrants, for more digits per
    step."""
    rngs = [scene_rng(seed, "train", step * batch + i, stream=1) for i in range(batch)]
    return [
        sample_scene(r, "train", n_objects=4 if full and i % 4 else None, augment=True)
        for i, r in enumerate(rngs)
    ]


def teacher_optimisers(
    model: CLIPModel, parameters: Sequence[nn.Parameter], lr: float, muon: bool
) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters; with `muon` Muon for the vision tower's matrices."""
    hidden = [p for p in model.vision_model.encoder.parameters() if p.ndim == 2] if muon else []
    known = {id(p) for p in hidden}
    rest = [p for p in parameters if id(p) not in known]
    decay, plain = [p for p in rest if p.ndim >= 2], [p for p in rest if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimisers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))]
    return [*optimisers, muon_of(hidden, lr, weight_decay=0.05)] if hidden else optimisers


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
    parameters = [*model.parameters(), *heads.parameters()]

    def validate(_: int) -> None:
        accuracy = evaluate(model, heads, texts, "val", 128)
        log.info("val %s", {name: round(value, 3) for name, value in accuracy.items()})

    model.train()
    run_steps(
        {"model": model, "heads": heads},
        parameters,
        teacher_optimisers(model, parameters, options.lr, bool(options.muon)),
        Schedule(options.steps, options.lr, warmup=200, save_every=200),
        options.work / "teacher.pt",
        lambda step: step_loss(model, heads, texts, step, options),
        validate,
    )
    accuracy = {"test_scenes": 400.0, **evaluate(model, heads, texts, "test", 400)}
    log.info("test %s", accuracy)
    save_half(model, tokenizer, options.out or options.work / "clip-scenes", accuracy)


if __name__ == "__main__":
    main()

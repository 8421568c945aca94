"""What the teacher's recipes of both made worlds share: the model, its optimisers, the training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from trainables.datasets.worlds.world import Split
from trainables.recipes.common import BOS_ID, EOS_ID, PAD_ID, PREPROCESSING, save_half
from trainables.recipes.steps import Schedule, StepLoss, muon_of, run_steps

WIDTH: Final = 128
LAYERS: Final = 6
GRID: Final = 8
"""Patches of an image's side."""
WARMUP, SAVE_EVERY = 200, 200
"""Steps."""


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


def train_teacher(
    model: CLIPModel,
    heads: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    step_loss: Callable[[int], StepLoss],
    accuracy: Callable[[Split, int], dict[str, float]],
    scenes: Mapping[Split, int],
    steps: int,
    lr: float,
    checkpoint: Path,
    out: Path,
    *,
    muon: bool = True,
) -> None:
    """Train to the end, continuing from the checkpoint when it exists, and save.

    Args:
        heads: modules of the loss alone.
        step_loss: step (0 ..) -> its loss.
        accuracy: split, number of scenes -> accuracies.
        scenes: how many of val and test are looked at.
        out: directory of the teacher, in half precision, with its accuracy on test.
        muon: whether Muon trains the vision tower's matrices.
    """
    log = logging.getLogger(checkpoint.stem)
    parameters = [*model.parameters(), *heads.parameters()]

    def validate(_: int) -> None:
        found = accuracy("val", scenes["val"])
        log.info("val %s", {name: round(value, 3) for name, value in found.items()})

    model.train()
    run_steps(
        {"model": model, "heads": heads},
        parameters,
        teacher_optimisers(model, parameters, lr, muon),
        Schedule(steps, lr, WARMUP, SAVE_EVERY),
        checkpoint,
        step_loss,
        validate,
    )
    test = {"test_scenes": float(scenes["test"]), **accuracy("test", scenes["test"])}
    log.info("test %s", test)
    save_half(model, tokenizer, out, test)

"""The losses and accuracies of the recipe for the teacher of the world of tables.

Shapes: `B` scenes, `S` side of a scene in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel

from trainables.datasets.worlds.tabletop.drawing import render_with_map
from trainables.datasets.worlds.tabletop.language import caption
from trainables.datasets.worlds.tabletop.sampling import sample_table
from trainables.datasets.worlds.tabletop.scene import (
    CHARACTERS,
    COLOURS,
    LEVELS,
    PATTERNS,
    SHAPES,
    TableSpec,
)
from trainables.datasets.worlds.world import Boxes, Split, scene_rng
from trainables.recipes.common import PREPROCESSING
from trainables.recipes.contrast import Texts, text_accuracy
from trainables.recipes.teacher_training import GRID, WIDTH

DENSE_LAYERS = (3, 5)  # indices into hidden_states; 5 is the layer that the MLLM reads
MASK_LAYER, MASK = 2, 7
"""Where a head draws which of its patch's MASK x MASK parts show a thing, or the card."""
LETTERS = 3
"""The most characters on a card; a shorter text ends with nothing."""
_LEAST = 0.12
"""Share of a patch that a thing covers at least, so that its token is asked about that thing."""
_KINDS = (len(SHAPES) + 2, len(PATTERNS) + 2, len(COLOURS) + 2)
"""Of shapes, patterns and colours; the last but one is the card, the last one nothing."""


class Heads(nn.Module):
    """Auxiliary heads, trained with the teacher and dropped afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs = [*_KINDS, 4]
        self.dense = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, sum(self.outputs)))
            for _ in DENSE_LAYERS
        )
        self.mask = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * MASK * MASK))
        self.text = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, LETTERS * (len(CHARACTERS) + 1))
        )

    def split(self, tokens: Tensor, head: int) -> Sequence[Tensor]:
        """(B, patches, width) -> logits of shape, pattern and colour, and boxes."""
        return torch.split(self.dense[head](tokens), self.outputs, -1)


@dataclass(frozen=True)
class Targets:
    """What each patch shows.

    Attributes:
        kinds: shape, pattern and colour, (B, patches) each.
        box: (B, patches, 4) of what is seen of the thing, in [0, 1].
        is_shown: (B, patches), whether a patch shows a thing or the card.
        shown: (B, patches), its number in the scene; meaningless elsewhere.
        mask: (B, patches, 2 * MASK * MASK): a thing, the card.
        text: (B, LETTERS) indices into CHARACTERS, of nothing their number.
        on_card: (B, patches), whether a patch shows the card.
    """

    kinds: tuple[Tensor, Tensor, Tensor]
    box: Tensor
    is_shown: Tensor
    shown: Tensor
    mask: Tensor
    text: Tensor
    on_card: Tensor


def targets(scenes: Sequence[TableSpec], boxes: Boxes, seen: Tensor) -> Targets:
    """What each patch of some scenes shows.

    Args:
        seen: (B, S, S) as `render_with_map` gives it.
    """
    most = max(len(scene.things) for scene in scenes) + 1
    size = seen.shape[-1]
    layers = (seen[:, None] == torch.arange(most)[:, None, None]).float()
    share = F.adaptive_avg_pool2d(layers, GRID).flatten(2)  # (B, things and card, patches)
    largest, shown = share.max(1)
    is_shown = largest > _LEAST
    card = torch.tensor([len(scene.things) for scene in scenes])
    of_thing = torch.stack(
        [
            torch.tensor(
                [[t.shape, t.pattern, t.colour] for t in scene.things]
                + [[count - 2 for count in _KINDS]] * (most - len(scene.things))
            )
            for scene in scenes
        ]
    )  # (B, most, 3)
    corners = torch.stack(
        [torch.tensor(found + [[0] * 4] * (most - len(found))) for found in boxes]
    )
    kinds = of_thing.gather(1, shown[..., None].expand(-1, -1, 3))
    nothing = torch.tensor([count - 1 for count in _KINDS])
    kinds = torch.where(is_shown[..., None], kinds, nothing)
    box = corners.gather(1, shown[..., None].expand(-1, -1, 4)).float() / size
    on_card = is_shown & (shown == card[:, None])
    is_card = layers.gather(1, card[:, None, None, None].expand(-1, 1, size, size))
    parts = torch.cat([(layers.sum(1, keepdim=True) - is_card).clamp(0, 1), is_card], 1)
    side = GRID * MASK
    parts = F.interpolate(parts, (side, side), mode="bilinear", antialias=True).clamp(0.0, 1.0)
    parts = parts.view(-1, 2, GRID, MASK, GRID, MASK).permute(0, 2, 4, 1, 3, 5)
    text = torch.full((len(scenes), LETTERS), len(CHARACTERS))
    for row, scene in zip(text, scenes, strict=True):
        for place, character in enumerate(scene.card.text):
            row[place] = CHARACTERS.index(character)
    return Targets(
        (kinds[..., 0], kinds[..., 1], kinds[..., 2]),
        box,
        is_shown,
        shown,
        parts.reshape(len(scenes), GRID * GRID, -1),
        text,
        on_card,
    )


def dense_loss(heads: Heads, hidden: Sequence[Tensor], truth: Targets) -> Tensor:
    """Mean over layers of the cross-entropies of shape, pattern and colour and the box distance.

    Args:
        hidden: (B, 1 + patches, width) of each layer.
    """
    weight = torch.where(truth.is_shown, 1.0, 0.2)
    total = torch.zeros(())
    for head, layer in enumerate(DENSE_LAYERS):
        *kinds, box = heads.split(hidden[layer][:, 1:], head)
        for logits, label in zip(kinds, truth.kinds, strict=True):
            loss = F.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="none")
            total = total + (loss * weight.flatten()).sum() / weight.sum()
        distance = (box - truth.box).abs().mean(-1) * truth.is_shown
        total = total + 4.0 * distance.sum() / truth.is_shown.sum()
    return total / len(DENSE_LAYERS)


def mask_loss(heads: Heads, hidden: Sequence[Tensor], truth: Targets) -> Tensor:
    """Cross-entropy of what each part of every patch shows."""
    return F.binary_cross_entropy_with_logits(heads.mask(hidden[MASK_LAYER][:, 1:]), truth.mask)


def text_loss(heads: Heads, hidden: Sequence[Tensor], truth: Targets) -> Tensor:
    """Cross-entropy of the card's characters, read off each patch that shows the card."""
    logits = heads.text(hidden[DENSE_LAYERS[-1]][:, 1:][truth.on_card])
    logits = logits.view(-1, len(CHARACTERS) + 1)
    label = truth.text[:, None].expand(-1, GRID * GRID, -1)[truth.on_card].flatten()
    return F.cross_entropy(logits, label)


@torch.no_grad()
def evaluate(
    model: CLIPModel, heads: Heads, texts: Texts, split: Split, n_scenes: int
) -> dict[str, float]:
    """Accuracies of the dense head at the MLLM's layer, by level, and zero-shot ones from text."""
    model.train(False)
    result = {}
    pooled, all_scenes = [], []
    for level in range(len(LEVELS)):
        scenes = [
            sample_table(scene_rng(0, split, i, stream=2), [level])
            for i in range(n_scenes // len(LEVELS))
        ]
        images, boxes, seen = render_with_map(scenes)
        truth = targets(scenes, boxes, seen)
        pixels = PREPROCESSING(images)
        vision = [
            model.vision_model(pixel_values=p, output_hidden_states=True)
            for p in torch.split(pixels, 64)
        ]
        hidden = torch.cat([v.hidden_states[DENSE_LAYERS[-1]] for v in vision])
        *kinds, _ = heads.split(hidden[:, 1:], len(DENSE_LAYERS) - 1)
        for name, logits, label in zip(
            ("shape", "pattern", "colour"), kinds, truth.kinds, strict=True
        ):
            right = (logits.argmax(-1) == label)[truth.is_shown & ~truth.on_card]
            result[f"level {level}/{name}"] = right.float().mean().item()
        letters = heads.text(hidden[:, 1:]).view(-1, GRID * GRID, LETTERS, len(CHARACTERS) + 1)
        votes = (letters.log_softmax(-1) * truth.on_card[..., None, None]).sum(1)
        read = (votes.argmax(-1) == truth.text).all(-1)
        result[f"level {level}/text"] = read.float().mean().item()
        pooled.append(torch.cat([v.pooler_output for v in vision]))
        all_scenes += scenes
    captions = [caption(scene) for scene in all_scenes]
    classes = [[thing.class_index for thing in scene.things] for scene in all_scenes]
    embedded = model.visual_projection(torch.cat(pooled))
    result |= text_accuracy(model, embedded, captions, classes, texts)
    model.train()
    return result

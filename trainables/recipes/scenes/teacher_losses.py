"""The losses and accuracies of the teacher's recipe.

Shapes: `B` scenes, `S` side of a scene in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel

from trainables.datasets.worlds.scenes.captions import caption
from trainables.datasets.worlds.scenes.drawing import render
from trainables.datasets.worlds.scenes.sampling import sample_scene
from trainables.datasets.worlds.scenes.scene import COLOURS, DIGITS, SceneSpec
from trainables.datasets.worlds.world import Split, scene_rng
from trainables.recipes.common import PREPROCESSING
from trainables.recipes.contrast import Texts, text_accuracy
from trainables.recipes.teacher_training import GRID, LAYERS, WIDTH

DENSE_LAYERS = (3, 5)  # indices into hidden_states; 5 is the layer that the MLLM reads
# Where a head draws its patch's ink, INK x INK, so that shapes come before digits.
INK_LAYER, INK = 2, 7
NO_DIGIT, NO_COLOUR = len(DIGITS), len(COLOURS)


class Heads(nn.Module):
    """Auxiliary heads, trained with the teacher and dropped afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs = NO_DIGIT + 1 + NO_COLOUR + 1 + 4
        self.dense = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, self.outputs)) for _ in DENSE_LAYERS
        )
        self.ink = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, INK * INK))
        self.pooled = nn.Linear(WIDTH, 4 * self.outputs)

    def split(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., outputs) -> digit logits, colour logits, boxes."""
        parts = [NO_DIGIT + 1, NO_COLOUR + 1, 4]
        digits, colours, boxes = torch.split(values, parts, -1)
        return digits, colours, boxes

    def forward(self, hidden_states: Sequence[Tensor], pooled: Tensor) -> list[Tensor]:
        """One (B, 4 quadrants, n, outputs) per head: n = 16 tokens of the quadrant, or 1 for the
        pooled head."""
        results = []
        for head, layer in zip(self.dense, DENSE_LAYERS, strict=True):
            tokens = head(hidden_states[layer][:, 1:])
            grid = tokens.view(-1, 2, GRID // 2, 2, GRID // 2, self.outputs).transpose(2, 3)
            results.append(grid.reshape(-1, 4, GRID * GRID // 4, self.outputs))
        results.append(self.pooled(pooled).view(-1, 4, 1, self.outputs))
        return results


def targets(
    scenes: Sequence[SceneSpec], boxes: Sequence[Sequence[Sequence[int]]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Per quadrant: digit (B, 4) and colour (B, 4) classes, the last one meaning nothing; boxes (B,
    4, 4) in [0, 1]."""
    digit = torch.full((len(scenes), 4), NO_DIGIT)
    colour = torch.full((len(scenes), 4), NO_COLOUR)
    box = torch.zeros(len(scenes), 4, 4)
    for b, scene in enumerate(scenes):
        for o, corners in zip(scene.objects, boxes[b], strict=True):
            digit[b, o.position], colour[b, o.position] = o.digit, o.colour
            box[b, o.position] = torch.tensor(corners) / 128.0
    return digit, colour, box


def dense_loss(
    heads: Heads, outputs: Sequence[Tensor], truth: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """Mean over heads of digit + colour cross-entropy and box distance."""
    digit, colour, box = truth
    present = (digit != NO_DIGIT).float()
    total = torch.zeros(())
    for values in outputs:
        n = values.shape[2]
        digits, colours, boxes = heads.split(values)
        # Empty quadrants are easy and many; a lighter weight leaves the gradient to the digits.
        weight = torch.where(digit == NO_DIGIT, 0.3, 1.0)[..., None].expand(-1, -1, n)
        for logits, label in ((digits, digit), (colours, colour)):
            loss = F.cross_entropy(
                logits.flatten(0, 2), label[..., None].expand(-1, -1, n).flatten(), reduction="none"
            )
            total = total + (loss * weight.flatten()).sum() / weight.sum()
        distance = (boxes - box[:, :, None]).abs().mean(-1) * present[..., None]
        total = total + 4.0 * distance.sum() / (present.sum() * n)
    return total / len(outputs)


def ink_loss(heads: Heads, hidden_states: Sequence[Tensor], ink: Tensor) -> Tensor:
    """Cross-entropy of every patch's ink, (B, 1, S, S) in [0, 1], drawn from its token."""
    side = GRID * INK
    truth = F.interpolate(ink, size=(side, side), mode="bilinear", antialias=True).clamp(0.0, 1.0)
    truth = truth.view(-1, GRID, INK, GRID, INK).transpose(2, 3).reshape(-1, GRID * GRID, INK * INK)
    return F.binary_cross_entropy_with_logits(heads.ink(hidden_states[INK_LAYER][:, 1:]), truth)


def classes_of(scene: SceneSpec) -> list[int]:
    """The classes of a scene's digits."""
    return [o.class_index for o in scene.objects]


@torch.no_grad()
def evaluate(
    model: CLIPModel, heads: Heads, texts: Texts, split: Split, n_scenes: int
) -> dict[str, float]:
    """Accuracy of the dense head at the MLLM's layer, of the pooled head, and zero-shot accuracies
    from text."""
    model.train(False)
    scenes = [sample_scene(scene_rng(0, split, i, stream=2), split) for i in range(n_scenes)]
    images, boxes = render(scenes)
    pixels = PREPROCESSING(images)
    vision = [
        model.vision_model(pixel_values=p, output_hidden_states=True)
        for p in torch.split(pixels, 64)
    ]
    hidden = [torch.cat([v.hidden_states[i] for v in vision]) for i in range(LAYERS + 1)]
    pooled = torch.cat([v.pooler_output for v in vision])
    outputs = heads(hidden, pooled)
    digit, colour, box = targets(scenes, boxes)
    here = digit != NO_DIGIT
    result = {}
    for name, values in (("tokens", outputs[1]), ("pooled", outputs[2])):
        digits, colours, guess = heads.split(values.mean(2))
        result[f"{name}/digit"] = (digits.argmax(-1) == digit)[here].float().mean().item()
        result[f"{name}/colour"] = (colours.argmax(-1) == colour)[here].float().mean().item()
        result[f"{name}/empty"] = (digits.argmax(-1) == digit)[~here].float().mean().item()
        result[f"{name}/box_error_px"] = 128 * (guess - box).abs().mean(-1)[here].mean().item()
    embedded = model.visual_projection(pooled)
    captions = [caption(scene) for scene in scenes]
    result |= text_accuracy(model, embedded, captions, list(map(classes_of, scenes)), texts)
    model.train()
    return result

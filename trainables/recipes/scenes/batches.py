"""The training sequences of the MLLM of the world of scenes: turns about an image, and few-shot.

Shapes: `B` sequences, `L` positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPModel, PreTrainedTokenizerFast

from trainables.datasets.worlds.samples import LABELS, SceneSample
from trainables.datasets.worlds.scenes.drawing import render
from trainables.datasets.worlds.scenes.scene import COLOUR_NAMES, DIGITS, SceneSpec
from trainables.datasets.worlds.world import Boxes, DrawnScene
from trainables.recipes.common import BOS_ID, EOS_ID, IMAGE_ID, save_checkpoint
from trainables.recipes.packing import (
    IGNORE,
    PATCHES,
    Packed,
    image_tokens,
    pack_turns,
    stored_pool,
    word_ids,
)
from trainables.tasks import captioning, fewshot, rec, vqa


@dataclass
class Pool:
    """Train scenes with the teacher's tokens, computed once.

    Attributes:
        tokens: (n, 64, tower width), half precision.
    """

    scenes: list[SceneSpec]
    boxes: Boxes
    tokens: Tensor


@torch.no_grad()
def make_pool(
    teacher: CLIPModel, scenes: list[SceneSpec], cache: Path, made_of: Mapping[str, object]
) -> Pool:
    """Render scenes and run the teacher on them, or read what an earlier run left in `cache`.

    Args:
        made_of: what decides the scenes and tokens, besides the number of scenes.
    """
    if (state := stored_pool(cache, len(scenes), made_of)) is not None:
        return Pool(scenes, state["boxes"], state["tokens"])
    tokens, boxes = [], []
    for start in range(0, len(scenes), 64):
        images, corners = render(scenes[start : start + 64])
        tokens.append(image_tokens(teacher, images))
        boxes += corners
    pool = Pool(scenes, boxes, torch.cat(tokens))
    save_checkpoint(cache, {"boxes": boxes, "tokens": pool.tokens, "made_of": dict(made_of)})
    return pool


@dataclass(frozen=True)
class PackedBatch(Packed):
    """Packed sequences, and what each of their positions is about.

    Attributes:
        classes: (B, L); few-shot: class index of the image that the position speaks of, or IGNORE.
        quadrants: (B, L); scenes: the quadrant that an answer is to be read from, or IGNORE.
        colours, digits: (B, L); what an image token shows, what a question mentions where its
            answer begins, or IGNORE.
    """

    classes: Tensor
    quadrants: Tensor
    colours: Tensor
    digits: Tensor


def scene_batch(
    pool: Pool, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, size: int
) -> PackedBatch:
    """One caption, four questions and two referring expressions for each of `size` scenes."""
    rows = rng.integers(len(pool.scenes), size=size)
    patch = torch.arange(PATCHES)
    quadrant_of = patch // 8 // 4 * 2 + patch % 8 // 4
    turns = []
    for row in rows:
        scene = DrawnScene(pool.scenes[row], pool.boxes[row], 128)
        of_scene = captioning.TASK.scene_samples(scene, rng)
        of_scene += [vqa.question(scene.spec, rng) for _ in range(4)]
        of_scene += [turn for _ in range(2) for turn in rec.TASK.scene_samples(scene, rng)]
        turns.append(of_scene)
    packed = pack_turns(pool.tokens[torch.from_numpy(rows)], turns, tokenizer)
    quadrants, colours, digits = (torch.full_like(packed.labels, IGNORE) for _ in range(3))
    for b, of_scene in enumerate(turns):
        for o in pool.scenes[rows[b]].objects:
            here = 1 + patch[quadrant_of == o.position]
            colours[b, here], digits[b, here] = o.colour, o.digit
        for turn, asked in zip(of_scene, packed.asked[b], strict=True):
            quadrants[b, asked] = IGNORE if turn.position is None else turn.position
            colours[b, asked], digits[b, asked] = _mentioned(turn)
    nothing = torch.full_like(packed.labels, IGNORE)
    return PackedBatch(
        packed.ids,
        packed.images,
        packed.positions,
        packed.mask,
        packed.labels,
        nothing,
        quadrants,
        colours,
        digits,
    )


def _mentioned(turn: SceneSample) -> tuple[int, int]:
    """Index of the colour and of the digit in the words of a question, IGNORE where none is."""
    words = turn.prompt.split()
    colour = next((i for i, name in enumerate(COLOUR_NAMES) if name in words), IGNORE)
    digit = next((i for i, name in enumerate(DIGITS) if name in words), IGNORE)
    return colour, digit


def fewshot_batch(
    pool: Pool,
    by_class: Sequence[Sequence[int]],
    tokenizer: PreTrainedTokenizerFast,
    rng: np.random.Generator,
    size: int,
    kept: int,
) -> PackedBatch:
    """Sequences of labelled images: the supports, then queries.

    Args:
        by_class: rows of the pool for each class.
        kept: image tokens per image, 2 to 64. Fewer keep some of the digit's quadrant, and some
            others, at their usual positions: the same lesson, with room for more queries.
    """
    (cue,) = word_ids(tokenizer, "class")
    letters = [word_ids(tokenizer, letter)[0] for letter in LABELS]
    n_images = 8 if kept == PATCHES else 20
    stride, block = PATCHES + 2, kept + 2
    length = 1 + n_images * block
    ids = torch.full((size, length), IMAGE_ID)
    labels = torch.full((size, length), IGNORE)
    classes = torch.full((size, length), IGNORE)
    positions = torch.zeros(size, length, dtype=torch.long)
    images = []
    ids[:, 0] = BOS_ID
    for b in range(size):
        ways = int(rng.integers(2, len(LABELS) + 1))
        chosen = fewshot.draw_classes(rng, ways)
        names = rng.permutation(len(LABELS))[:ways]
        order = [*range(ways), *rng.integers(ways, size=n_images - ways).tolist()]
        seen: set[int] = set()
        for i, way in enumerate(order):
            rows = by_class[chosen[way]]
            row = rows[int(rng.integers(len(rows)))]
            patches = _kept_patches(pool.scenes[row].objects[0].position, kept, rng)
            images.append(pool.tokens[row][patches])
            start = 1 + i * block
            positions[b, start : start + kept] = patches + (1 + i * stride)
            positions[b, start + kept :] = 1 + i * stride + PATCHES
            positions[b, start + kept + 1] += 1
            ids[b, start + kept], ids[b, start + kept + 1] = cue, letters[names[way]]
            classes[b, start + kept : start + kept + 2] = chosen[way]
            if way in seen:
                labels[b, start + kept] = letters[names[way]]
            seen.add(way)
        labels[b, length - 1] = EOS_ID
    mask = torch.ones(size, 1, length, length, dtype=torch.bool).tril()
    nothing = torch.full_like(labels, IGNORE)
    colours = torch.where(classes == IGNORE, IGNORE, classes // len(DIGITS))
    digits = torch.where(classes == IGNORE, IGNORE, classes % len(DIGITS))
    tokens = torch.cat(images).float()
    return PackedBatch(ids, tokens, positions, mask, labels, classes, nothing, colours, digits)


def _kept_patches(position: int, kept: int, rng: np.random.Generator) -> Tensor:
    """Sorted indices of `kept` of the 64 patches, two thirds of them the digit's if possible."""
    patch = rng.permutation(PATCHES)
    here = (patch // 8 // 4 * 2 + patch % 8 // 4) == position
    inside = patch[here][: max(1, kept * 2 // 3)]
    outside = patch[~here][: kept - len(inside)]
    return torch.from_numpy(np.sort(np.concatenate([inside, outside])))

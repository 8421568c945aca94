"""Training sequences of the MLLM's recipes, packed from images whose tokens are known.

Shapes: `B` sequences, `L` positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPModel, PreTrainedTokenizerFast

from trainables.datasets.worlds.samples import SceneSample
from trainables.recipes.common import (
    BOS_ID,
    EOS_ID,
    IMAGE_ID,
    PAD_ID,
    PREPROCESSING,
    load_checkpoint,
)

LAYER_READ = -2
PATCHES = 64
IGNORE = -100


@torch.no_grad()
def image_tokens(teacher: CLIPModel, images: Tensor) -> Tensor:
    """What the MLLM reads: (B, 3, S, S) in [0, 1] -> (B, PATCHES, tower width), half precision."""
    pixels = PREPROCESSING(images)
    hidden = teacher.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
    tokens: Tensor = hidden[LAYER_READ][:, 1:].half()
    return tokens


def stored_pool(cache: Path, count: int, made_of: Mapping[str, object]) -> dict[str, Any] | None:
    """What an earlier run left of `count` scenes, if it was made of the same."""
    state = load_checkpoint(cache)
    if state is None or len(state["boxes"]) != count or state.get("made_of") != dict(made_of):
        return None
    return state


@dataclass(frozen=True)
class Packed:
    """Packed sequences.

    Attributes:
        ids: (B, L); IMAGE_ID where an image token goes.
        images: (number of image positions, tower width), in the order of the positions.
        positions: (B, L).
        mask: (B, 1, L, L), True where the row may look at the column.
        labels: (B, L); the token that each position must predict, or IGNORE.
    """

    ids: Tensor
    images: Tensor
    positions: Tensor
    mask: Tensor
    labels: Tensor


@dataclass(frozen=True)
class PackedTurns(Packed):
    """An image and its turns per sequence.

    Attributes:
        asked: for each sequence and turn the positions that predict the answer's words.
    """

    asked: list[list[slice]]


def pack_turns(
    tokens: Tensor, turns: Sequence[Sequence[SceneSample]], tokenizer: PreTrainedTokenizerFast
) -> PackedTurns:
    """Pack the turns of each image behind it; none of them sees another one.

    Args:
        tokens: (B, PATCHES, tower width) of the images.
        turns: of each image.
    """
    size, prefix = len(turns), 1 + PATCHES
    parts = [
        [
            (
                word_ids(tokenizer, turn.prompt.removeprefix("<image> ")),
                [*word_ids(tokenizer, turn.answer), EOS_ID],
            )
            for turn in of_image
        ]
        for of_image in turns
    ]
    length = prefix + max(sum(len(q) + len(a) for q, a in of_image) for of_image in parts)
    ids = torch.full((size, length), PAD_ID)
    labels = torch.full((size, length), IGNORE)
    positions = torch.zeros(size, length, dtype=torch.long)
    group = torch.full((size, length), -1)
    ids[:, 0], ids[:, 1:prefix] = BOS_ID, IMAGE_ID
    positions[:, :prefix] = torch.arange(prefix)
    group[:, :prefix] = 0
    asked: list[list[slice]] = []
    for b, of_image in enumerate(parts):
        asked.append([])
        start = prefix
        for number, (question, answer) in enumerate(of_image, 1):
            n = len(question) + len(answer)
            ids[b, start : start + n] = torch.tensor(question + answer)
            labels[b, start + len(question) - 1 : start + n - 1] = torch.tensor(answer)
            asked[b].append(slice(start + len(question) - 1, start + n - 2))
            positions[b, start : start + n] = torch.arange(prefix, prefix + n)
            group[b, start : start + n] = number
            start += n
    same = group[:, :, None] == group[:, None, :]
    mask = (same | (group[:, None, :] == 0)).tril()
    return PackedTurns(ids, tokens.flatten(0, 1).float(), positions, mask[:, None], labels, asked)


def word_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The numbers of a text's words."""
    # A dictionary is much faster than the tokenizer's call, and as good where words are tokens.
    ids = tokenizer.convert_tokens_to_ids(text.split())
    assert isinstance(ids, list)
    return ids

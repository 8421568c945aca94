"""The teacher in an evaluation: its features of a data set's images, which are the same for every
operating point, and the layers that it shares with an MLLM's tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainables.encoders.bridge import parts_of
from trainables.encoders.partial_encoder import Features, Teacher
from trainables.encoders.tower import Tower
from trainables.mllms import Mllm

ROOM = 1 << 28
"""Bytes of features that are kept by default."""

_Kept = tuple[Tensor | None, Tensor | None]


class KnownTeacher:
    """A teacher that computes features of an image once and keeps them while there is room.

    Args:
        teacher: the complete encoder.
        pooled, tokens: which features are computed, also by name in the attribute `wanted`.
        room: bytes of features to keep, in CPU memory; features of images that come later are
            computed again each time.
    """

    def __init__(self, teacher: Teacher, pooled: bool, tokens: bool, room: int = ROOM) -> None:
        self.teacher = teacher
        self.wanted = {"pooled": pooled, "tokens": tokens}
        self._room = room
        self._kept: dict[str, _Kept] = {}

    @torch.no_grad()
    def __call__(self, image_ids: Sequence[str] | None, images: Tensor) -> Features:
        """Features of images (B, 3, H, W) in [0, 1].

        Args:
            image_ids: an id always means the same image; None keeps no features.
        """
        if image_ids is None:
            unknown: Features = self.teacher(images, **self.wanted)
            return unknown
        if not all(image_id in self._kept for image_id in image_ids):
            features: Features = self.teacher(images, **self.wanted)
            self._keep(image_ids, features)
            return features
        kept = [self._kept[image_id] for image_id in image_ids]
        pooled, tokens = (
            torch.stack(parts).to(images.device) if wanted else None
            for parts, wanted in zip(zip(*kept, strict=True), self.wanted.values(), strict=True)
        )
        return Features(pooled, tokens)

    def _keep(self, image_ids: Sequence[str], features: Features) -> None:
        parts = [part.cpu() for part in (features.pooled, features.tokens) if part is not None]
        for index, image_id in enumerate(image_ids):
            size = sum(part[index].numel() * part.element_size() for part in parts)
            if image_id not in self._kept and size <= self._room:
                copies = iter([part[index].clone() for part in parts])
                pooled = next(copies) if features.pooled is not None else None
                self._kept[image_id] = (pooled, next(copies, None))
                self._room -= size


def shared_layer(answerer: object, teacher: Tower, token_layer: int) -> int | None:
    """The index of the hidden state at `token_layer`, if an MLLM computes it as the teacher does.

    It does if preprocessing, weights and precision are the same up to this layer. The teacher's
    tokens may then enter the MLLM there, and the MLLM's answers are those to the image.

    Args:
        answerer: of an evaluation; for anything but an MLLM, None is returned.
        teacher: the space's teacher.
        token_layer: index into the hidden states, may be negative.
    """
    if not isinstance(answerer, Mllm) or answerer.preprocess != teacher.preprocess:
        return None
    index = teacher.sizes.hidden_index(token_layer)
    if index > answerer.last_read:
        return None
    mllm, encoder = parts_of(answerer.tower), parts_of(teacher.model)
    pairs = [(mllm.stem, encoder.stem), *zip(mllm.between, encoder.between, strict=False)]
    pairs += zip(mllm.blocks[:index], encoder.blocks[:index], strict=False)
    same = len(mllm.between) == len(encoder.between) and all(_equal(*pair) for pair in pairs)
    return index if same else None


def _equal(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return (
        type(first) is type(second)
        and a.keys() == b.keys()
        and all(
            a[name].dtype == b[name].dtype
            and a[name].shape == b[name].shape
            and torch.equal(a[name].cpu(), b[name].cpu())
            for name in a
        )
    )

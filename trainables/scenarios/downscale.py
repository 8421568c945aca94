"""downscale: the base codec on a smaller image, which the receiver makes larger again."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.scenarios.downscale import SCENARIO
from trainables.codecs import LatentCodec
from trainables.encoders.partial_encoder import Teacher
from trainables.points.building import complete_encoder
from trainables.points.contract import Method, Trained
from trainables.points.counting import Counting, Part, codec_parts
from trainables.points.models import DecodedPoint, Received, Sent
from trainables.scenarios.uncompressed import ENCODER_PARTS

PREFIX = "downscaled_"
"""Of the names of the codec's parts, which run on the smaller image."""


class SmallerImage(DecodedPoint):
    """A learned codec between two resizings.

    Args:
        encoder: complete.
        codec: of the smaller images.
        factor: sides of the image over sides of what is coded.
    """

    def __init__(self, encoder: Teacher, codec: LatentCodec, factor: float) -> None:
        super().__init__(encoder, codec)
        self._factor = factor

    def encode(self, images: Tensor) -> Sent:
        """Streams of the smaller images."""
        height, width = images.shape[-2:]
        return super().encode(_resized(images, self._smaller((height, width))))

    def synthesis(self, received: Received) -> Tensor:
        """The decoded images at their first size."""
        small = self.codec.synthesis(received.symbols, self._smaller(received.size))
        return _resized(small, received.size)

    def _smaller(self, size: tuple[int, int]) -> tuple[int, int]:
        return smaller(size[0], self._factor), smaller(size[1], self._factor)


class DownscaleMethod(Method):
    """A smaller image through the base codec."""

    sender = tuple(PREFIX + name for name in Method.sender)
    receiver = (f"{PREFIX}entropy", f"{PREFIX}synthesis", *ENCODER_PARTS)

    def restore(self, trained: Trained) -> SmallerImage:
        """The base codec and the complete encoder."""
        encoder = complete_encoder(trained.space, trained.tower)
        return SmallerImage(encoder, trained.base_codec(), SCENARIO.factor(trained.space))

    def parts(self, counting: Counting) -> Iterator[Part]:
        """The codecs' parts on the smaller image."""
        side = smaller(counting.size, SCENARIO.factor(counting.space))
        for label, spec in counting.codecs.items():
            yield from codec_parts(counting, label, spec, side, PREFIX)


def smaller(side: int, factor: float) -> int:
    """A side in pixels after downscaling, at least 1."""
    return max(1, round(side / factor))


@torch.no_grad()
def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] at another size (H, W)."""
    resized = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)


METHOD = DownscaleMethod()

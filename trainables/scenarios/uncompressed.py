"""uncompressed: the original image enters the complete encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trainables.datasets.tensors import to_bytes, to_tensor
from trainables.encoders.bridge import Entry
from trainables.points.building import complete_encoder
from trainables.points.contract import Method, Trained
from trainables.points.models import PointModel, Received, Sent

ENCODER_PARTS = ("encoder_skipped", "encoder_run")
"""The parts of the complete encoder."""


class OriginalImage(PointModel):
    """Streams are the images' own bytes, 8 bits per component."""

    is_original = True

    def encode(self, images: Tensor) -> Sent:
        """The images' bytes; the estimate is their number."""
        streams = [pixels.tobytes() for pixels in to_bytes(images)]
        return Sent(streams, [8.0 * len(stream) for stream in streams])

    def decode(self, streams: Sequence[bytes], size: tuple[int, int]) -> Received:
        """The images."""
        images = [np.frombuffer(s, np.uint8).reshape(*size, 3).copy() for s in streams]
        device: torch.device = next(self.encoder.parameters()).device
        return Received(to_tensor(images).to(device), size)

    def enter(self, received: Received) -> Entry:
        """The images."""
        return Entry(received.symbols, None)


class UncompressedMethod(Method):
    """The original image."""

    sender = ()
    receiver = ENCODER_PARTS

    def restore(self, trained: Trained) -> OriginalImage:
        """The complete encoder."""
        return OriginalImage(complete_encoder(trained.space, trained.tower))


METHOD = UncompressedMethod()

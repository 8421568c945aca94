"""classical: a standard's decoded image enters the complete encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from search_spaces.scenarios.classical import SCENARIO
from trainables.datasets.tensors import to_bytes, to_tensor
from trainables.encoders.bridge import Entry
from trainables.encoders.partial_encoder import Teacher
from trainables.points.building import complete_encoder
from trainables.points.contract import Method, Trained
from trainables.points.models import PointModel, Received, Sent
from trainables.scenarios.uncompressed import ENCODER_PARTS
from trainables.standards.files import ClassicalCodec


class ImageFiles(PointModel):
    """Streams are files of a standard."""

    def __init__(self, encoder: Teacher, files: ClassicalCodec) -> None:
        super().__init__(encoder)
        self.files = files

    def encode(self, images: Tensor) -> Sent:
        """A file per image; standards have no entropy model to ask for an estimate."""
        return Sent([self.files.encode(pixels) for pixels in to_bytes(images)], None)

    def decode(self, streams: Sequence[bytes], size: tuple[int, int]) -> Received:
        """The files' images."""
        device: torch.device = next(self.encoder.parameters()).device
        images = to_tensor([self.files.decode(stream) for stream in streams]).to(device)
        return Received(images, size, images)

    def enter(self, received: Received) -> Entry:
        """The decoded images."""
        return Entry(received.symbols, None)

    def image(self, received: Received) -> Tensor | None:
        """The decoded images."""
        return received.x_hat


class ClassicalMethod(Method):
    """A standard's codec."""

    sender = ()
    receiver = ENCODER_PARTS

    def restore(self, trained: Trained) -> ImageFiles:
        """The standard's codec and the complete encoder."""
        assert trained.point.quality is not None
        form = SCENARIO.format_of(trained.space, trained.point)
        files = ClassicalCodec(form, trained.point.quality)
        return ImageFiles(complete_encoder(trained.space, trained.tower), files)


METHOD = ClassicalMethod()

"""A trained operating point in use: images to bytes, bytes to what enters an encoder.

    image --encode--> bytes --decode--> Received --enter--> Entry into the visual encoder
                                            +------image--> the image that people see, if any

Everything between an image and its bytes belongs to the operating point: a scenario that resizes
before it codes does so inside `encode`. Evaluation mode, no gradients.

Shapes: `B` images of one size, `M` latent channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.codecs import LatentCodec
from trainables.codecs.entropy.bitstream import overhead_bytes
from trainables.encoders.bridge import Entry
from trainables.encoders.partial_encoder import PartialEncoder, Teacher


@dataclass(frozen=True)
class Sent:
    """Encoded images.

    Attributes:
        streams: the bytes that are sent, one self-contained stream per image.
        bits_estimated: the entropy model's estimate of the bits of each; None where there is none.
    """

    streams: list[bytes]
    bits_estimated: list[float] | None


@dataclass
class Received:
    """Decoded streams.

    Attributes:
        symbols: decoded latents (B, M, h, w), or images (B, 3, H, W) where streams hold pixels.
        size: (H, W) of the images that were encoded.
        x_hat: the decoded images, once they have been computed.
    """

    symbols: Tensor
    size: tuple[int, int]
    x_hat: Tensor | None = None


class PointModel(ABC):
    """One operating point, ready to encode, decode and enter an encoder.

    Attributes:
        encoder: the teacher from where the point enters it: complete, or from block k on.
        is_original: whether the encoder gets the original image; student and teacher are then the
            same.
    """

    is_original = False

    def __init__(self, encoder: PartialEncoder | Teacher) -> None:
        self.encoder = encoder.eval()

    def to(self, device: torch.device) -> PointModel:
        """Move all parts to a device."""
        for part in self.parts().values():
            part.to(device)
        return self

    @abstractmethod
    def encode(self, images: Tensor) -> Sent:
        """Encode images (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def decode(self, streams: Sequence[bytes], size: tuple[int, int]) -> Received:
        """Decode the streams of images of one size.

        Args:
            size: (H, W) of the images that were encoded.

        Raises:
            BitstreamError: a stream is damaged or was written with other weights.
        """

    @abstractmethod
    def enter(self, received: Received) -> Entry:
        """The input of the visual encoder, and the block at which it enters."""

    def image(self, received: Received) -> Tensor | None:
        """The images that people see, (B, 3, H, W) in [0, 1]; None where none is decoded."""
        return None

    @property
    def verification_s(self) -> float:
        """Seconds of all decoding so far that it took to check the decoded symbols."""
        return 0.0

    def overhead_bytes(self, stream: bytes) -> int:
        """The number of bytes of a stream that are container, not content."""
        return 0

    def parts(self) -> dict[str, nn.Module]:
        """The networks by name; a network that two parts share belongs to the first."""
        return {"encoder": self.encoder}

    def parameters(self) -> dict[str, int]:
        """Number of parameters of each part."""
        seen: set[int] = set()
        counts = {}
        for name, part in self.parts().items():
            new = {id(p): p.numel() for p in part.parameters() if id(p) not in seen}
            seen |= new.keys()
            counts[name] = sum(new.values())
        return counts


class CodedPoint(PointModel):
    """An operating point whose streams a learned codec writes."""

    has_image = True
    """Whether images can be decoded for people."""

    def __init__(self, encoder: PartialEncoder | Teacher, codec: LatentCodec) -> None:
        super().__init__(encoder)
        self.codec = codec.eval()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Sent:
        """The codec's streams and estimates."""
        streams, estimates = self.codec.encode_and_estimate(images)
        return Sent(streams, estimates.tolist())

    @torch.no_grad()
    def decode(self, streams: Sequence[bytes], size: tuple[int, int]) -> Received:
        """The codec's latents."""
        return Received(self.codec.decode(streams), size)

    def image(self, received: Received) -> Tensor | None:
        """The codec's images, decoded when they are first asked for."""
        if self.has_image and received.x_hat is None:
            received.x_hat = self.synthesis(received)
        return received.x_hat

    def synthesis(self, received: Received) -> Tensor:
        """Decode the images, (B, 3, H, W) in [0, 1]."""
        return self.codec.synthesis(received.symbols, received.size)

    @property
    def verification_s(self) -> float:
        """The codec's."""
        return self.codec.verification_s

    def overhead_bytes(self, stream: bytes) -> int:
        """The container's bytes."""
        return overhead_bytes(stream)

    def parts(self) -> dict[str, nn.Module]:
        """Encoder and codec."""
        return {**super().parts(), "codec": self.codec}


class DecodedPoint(CodedPoint):
    """Decoded images enter the encoder, unchanged or after `network`.

    Args:
        network: images (B, 3, H, W) in [0, 1] to the encoder's input; None for none.
        network_name: its name among the parts.
        block: where the network's tokens enter; None where images enter the complete encoder.
    """

    def __init__(
        self,
        encoder: PartialEncoder | Teacher,
        codec: LatentCodec,
        network: nn.Module | None = None,
        network_name: str = "network",
        block: int | None = None,
    ) -> None:
        super().__init__(encoder, codec)
        self.network = None if network is None else network.eval()
        self._network_name = network_name
        self._block = block

    @torch.no_grad()
    def enter(self, received: Received) -> Entry:
        """The images, or the network's output."""
        x_hat = self.image(received)
        assert x_hat is not None
        return Entry(x_hat if self.network is None else self.network(x_hat), self._block)

    def parts(self) -> dict[str, nn.Module]:
        """Encoder, codec and network."""
        network = {} if self.network is None else {self._network_name: self.network}
        return {**super().parts(), **network}


class BridgedPoint(CodedPoint):
    """Latents enter the encoder at block k through a neck; no image is decoded for it.

    Args:
        encoder: from block k on.
        neck: latents (B, M, h, w) to tokens (B, T, D).
        has_image: whether the codec's synthesis transform still fits its latents, so that an image
            can be decoded for people.
        crop: whether the latents of padding around the image are cut off.
    """

    def __init__(
        self,
        encoder: PartialEncoder,
        codec: LatentCodec,
        neck: nn.Module,
        has_image: bool = True,
        crop: bool = True,
    ) -> None:
        super().__init__(encoder, codec)
        self.neck = neck.eval()
        self._block = encoder.first
        self.has_image = has_image
        self._crop = crop

    @torch.no_grad()
    def enter(self, received: Received) -> Entry:
        """The neck's tokens, at block k."""
        y_hat = received.symbols
        if self._crop:
            # The neck lays its latents over the encoder's whole grid.
            rows, columns = (-(-side // self.codec.stride) for side in received.size)
            y_hat = y_hat[..., :rows, :columns]
        return Entry(self.neck(y_hat), self._block)

    def parts(self) -> dict[str, nn.Module]:
        """Encoder, codec and neck."""
        return {**super().parts(), "neck": self.neck}

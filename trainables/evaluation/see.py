"""Images through an operating point: written, read, and looked at.

    image --encode--> bytes --decode--> y_hat --enter--> tokens or image --look--> features
                        |                  |                   |
                        +--> bpp           +--> PSNR           +--> against the teacher: surrogate

`uncompressed` takes the same path: its stream is the raw image, 8 bits per component, so 24 bits
per pixel.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from trainables.bitstream import overhead_bytes
from trainables.bridge import Entry
from trainables.data import to_tensor
from trainables.encoder import Features, Teacher
from trainables.evaluation.dataset import Pixels
from trainables.points import PointModel

BATCH = 32
"""Images seen together. Their streams are written and read one by one."""


@dataclass(frozen=True)
class Rate:
    """What an image costs and keeps; a row of `images.parquet`.

    n_bytes: the whole stream; bpp: its bits per pixel of the image given to the codec;
    bpp_estimated: the entropy model's estimate, None where there is none; psnr: of the decoded
    image in dB, None where no image is decoded; overhead_bytes: of n_bytes, what is container;
    pooled, tokens: the surrogate loss's distillation terms, mean squared errors against the teacher
    on the image itself, None where the space's loss has no such term.
    """

    image_id: str
    n_bytes: int
    bpp: float
    bpp_estimated: float | None
    psnr: float | None
    overhead_bytes: int
    pooled: float | None
    tokens: float | None


@dataclass(frozen=True)
class Seen:
    """An image as an answerer keeps it."""

    rate: Rate
    features: Tensor


class Answerer(Protocol):
    """What looks at images, or at what enters its encoder, and answers: an MLLM or the encoder."""

    def look(self, entry: Entry, /) -> Sequence[Tensor]:
        """What is kept of each of B images."""
        ...

    def answer(
        self,
        prompts: Sequence[str],
        features: Sequence[Sequence[Tensor]],
        max_new_tokens: int,
        batch_size: int,
    ) -> list[str]:
        """Answers to prompts, each with the features of its images."""
        ...


class Clock:
    """Seconds spent in each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, part: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call it, and count."""
        started = time.monotonic()
        result = function(*arguments)
        self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - started
        return result


def batches(images: Iterable[tuple[str, Pixels]]) -> Iterator[list[tuple[str, Pixels]]]:
    """Consecutive images of one size, at most BATCH."""
    for _, same in itertools.groupby(images, key=lambda item: item[1].shape):
        while batch := list(itertools.islice(same, BATCH)):
            yield batch


class Eye:
    """Sees images as one answerer does through one operating point.

    Args:
        model: the operating point, on `device`.
        teacher: the complete encoder; its features are what the surrogate terms compare with.
        pooled, tokens: which terms there are.
        answerer: who looks.
        device: where it all stands.
        clock: counts the seconds of the parts.
    """

    def __init__(
        self,
        model: PointModel,
        teacher: Teacher,
        pooled: bool,
        tokens: bool,
        answerer: Answerer,
        device: torch.device,
        clock: Clock,
    ) -> None:
        self._model, self._answerer = model, answerer
        self._teacher = teacher
        self._pooled, self._tokens = pooled, tokens
        self._device, self._clock = device, clock

    @torch.no_grad()
    def see(self, batch: Sequence[tuple[str, Pixels]]) -> list[Seen]:
        """Write, read and look at images of one size."""
        model, time_ = self._model, self._clock.time
        image = to_tensor([pixels for _, pixels in batch])
        height, width = image.shape[-2:]
        image, read, streams, bits, y_hat = self._coded(image, batch)
        entry, x_hat = time_("enter", model.enter, read, y_hat)
        features = time_("look", self._answerer.look, entry)
        # What people would see: for post_processing the codec's image, before the U-Net.
        if y_hat is not None and x_hat is None:
            x_hat = model.reconstruct(y_hat)
        psnr: list[float | None] = [None] * len(batch)
        if x_hat is not None:
            psnr = _psnr(x_hat[..., :height, :width], image).tolist()
        terms = time_("surrogate", self._surrogate, image, entry)
        return [
            Seen(
                Rate(
                    image_id=image_id,
                    n_bytes=len(streams[i]),
                    bpp=8 * len(streams[i]) / (height * width),
                    bpp_estimated=None if bits is None else bits[i] / (height * width),
                    psnr=psnr[i],
                    overhead_bytes=overhead_bytes(streams[i]) if model.codec is not None else 0,
                    pooled=terms["pooled"][i],
                    tokens=terms["tokens"][i],
                ),
                features[i],
            )
            for i, (image_id, _) in enumerate(batch)
        ]

    @torch.no_grad()
    def decoded(self, pixels: Pixels) -> Pixels | None:
        """An image as people see it after coding, (H, W, 3); None where none is decoded."""
        _, read, _, _, y_hat = self._coded(to_tensor([pixels]), [("", pixels)])
        if self._model.classical is not None:
            x_hat: Tensor | None = read
        else:
            x_hat = None if y_hat is None else self._model.reconstruct(y_hat)
        if x_hat is None:
            return None
        height, width, _ = pixels.shape
        levels = (x_hat[0, :, :height, :width] * 255).round().byte()
        shown: Pixels = levels.permute(1, 2, 0).cpu().numpy()
        return shown

    def _coded(
        self, image: Tensor, batch: Sequence[tuple[str, Pixels]]
    ) -> tuple[Tensor, Tensor, list[bytes], list[float] | None, Tensor | None]:
        """The image, the image that is read back where it is one, both on the device; streams,
        estimated bits, and the latents that are read."""
        codec, files, time_ = self._model.codec, self._model.classical, self._clock.time
        image = image.to(self._device)
        if codec is not None:
            streams, estimates = time_("encode", codec.encode_and_estimate, image)
            return image, image, streams, estimates.tolist(), time_("decode", codec.decode, streams)
        if files is not None:
            streams = [time_("encode", files.encode, pixels) for _, pixels in batch]
            decoded = [time_("decode", files.decode, stream) for stream in streams]
            return image, to_tensor(decoded).to(self._device), streams, None, None
        streams = [pixels.tobytes() for _, pixels in batch]
        read = [
            np.frombuffer(stream, np.uint8).reshape(pixels.shape).copy()
            for stream, (_, pixels) in zip(streams, batch, strict=True)
        ]
        bits = [8.0 * len(stream) for stream in streams]
        return image, to_tensor(read).to(self._device), streams, bits, None

    def _surrogate(self, image: Tensor, entry: Entry) -> dict[str, list[float | None]]:
        """The distillation terms of each image."""
        wanted = {"pooled": self._pooled, "tokens": self._tokens}
        if self._model.scenario == "uncompressed":
            # The teacher against itself.
            return {name: [0.0 if there else None] * len(image) for name, there in wanted.items()}
        student: Features = self._model.encoder(entry.given, **wanted)
        teacher: Features = self._teacher(image, **wanted)
        terms: dict[str, list[float | None]] = {}
        for name in wanted:
            one, other = getattr(student, name), getattr(teacher, name)
            if one is None:
                terms[name] = [None] * len(image)
            else:
                terms[name] = (one - other).square().flatten(1).mean(1).tolist()
        return terms


def _psnr(x_hat: Tensor, x: Tensor) -> Tensor:
    """Per image in dB, of values in [0, 1] that are not rounded to 8 bits; at most 100."""
    return -10 * (x_hat - x).square().flatten(1).mean(1).clamp(min=1e-10).log10()

"""Images through an operating point: written, read, and looked at.

    image --encode--> bytes --decode--> y_hat --enter--> tokens or image --look--> features
                        |                  |                   |
                        +--> bpp           +--> PSNR           +--> against the teacher: surrogate

An operating point without a codec takes the same path: its stream is the raw image, 8 bits per
component, so 24 bits per pixel.

An MLLM that reads crops has the image cut into views first, as its own processor does. Each view
takes this path as an image of its own; the bits are those of all views, per pixel of the image that
was given, and what is measured of a view is averaged over them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from trainables.datasets.tensors import Pixels, to_bytes, to_tensor
from trainables.encoders.bridge import Entry
from trainables.encoders.partial_encoder import Features
from trainables.evaluation.teacher_features import KnownTeacher
from trainables.points.models import PointModel, Received, Sent

BATCH = 32
"""Images seen together. Their streams are written and read one by one."""


@dataclass(frozen=True)
class Rate:
    """What an image costs and keeps; a row of `images.parquet`.

    n_bytes: the whole stream, or those of all views; bpp: its bits per pixel of the image given;
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

    def views(self, pixels: Pixels, /) -> list[Pixels]:
        """What of an image is coded, each as an image of its own: the image, or its crops."""
        ...

    def look(self, entry: Entry, size: tuple[int, int], /) -> Sequence[Tensor]:
        """What is kept of each of B images of a size (H, W); all their views enter."""
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
        teacher: its features are what the surrogate terms compare with.
        pooled, tokens: which terms there are.
        answerer: who looks.
        shared: the hidden state (the teacher's `token_layer`) up to which the answerer's tower
            computes what the teacher's does, so that it need not do so again; None if it does not.
        device: where it all stands.
        clock: counts the seconds of the parts.
    """

    def __init__(
        self,
        model: PointModel,
        teacher: KnownTeacher,
        pooled: bool,
        tokens: bool,
        answerer: Answerer,
        shared: int | None,
        device: torch.device,
        clock: Clock,
    ) -> None:
        self._model, self._answerer = model, answerer
        self._teacher = teacher
        self._pooled, self._tokens, self._shared = pooled, tokens, shared
        self._device, self._clock = device, clock

    def see(self, batch: Sequence[tuple[str, Pixels]]) -> list[Seen]:
        """Write, read and look at images of one size."""
        count = len(self._answerer.views(batch[0][1]))
        at_once = max(1, BATCH // count)
        starts = range(0, len(batch), at_once)
        return [seen for start in starts for seen in self._see(batch[start : start + at_once])]

    @torch.no_grad()
    def _see(self, batch: Sequence[tuple[str, Pixels]]) -> list[Seen]:
        model, time_ = self._model, self._clock.time
        height, width = batch[0][1].shape[:2]
        cut = [self._answerer.views(pixels) for _, pixels in batch]
        views, count = [view for own in cut for view in own], len(cut[0])
        image, sent, received = self._coded(views)
        streams, bits = sent.streams, sent.bits_estimated
        entry = time_("enter", model.enter, received)
        student = time_("surrogate", self._student, entry)
        # A tower that is shared holds for a whole image, not for what is cut of it.
        inside = self._further(entry, student) if count == 1 else entry
        features = time_("look", self._answerer.look, inside, (height, width))
        x_hat = model.image(received)
        psnr: list[float | None] = [None] * len(views)
        if x_hat is not None:
            psnr = _psnr(x_hat, image).tolist()
        # The same image in other views, for another MLLM, is another image to the teacher.
        ids = [image_id for image_id, _ in batch] if count == 1 else None
        terms = time_("surrogate", self._surrogate, ids, image, student)
        found = []
        for number, (image_id, _) in enumerate(batch):
            own = slice(number * count, (number + 1) * count)
            n_bytes = sum(map(len, streams[own]))
            containers = map(model.overhead_bytes, streams[own])
            rate = Rate(
                image_id=image_id,
                n_bytes=n_bytes,
                bpp=8 * n_bytes / (height * width),
                bpp_estimated=None if bits is None else sum(bits[own]) / (height * width),
                psnr=_mean(psnr[own]),
                overhead_bytes=sum(containers),
                pooled=_mean(terms["pooled"][own]),
                tokens=_mean(terms["tokens"][own]),
            )
            found.append(Seen(rate, features[number]))
        return found

    @torch.no_grad()
    def decoded(self, pixels: Pixels) -> Pixels | None:
        """An image, or its base view, as people see it after coding; None where none is decoded."""
        shown = self._answerer.views(pixels)[0]
        _, _, received = self._coded([shown])
        x_hat = self._model.image(received)
        return None if x_hat is None else to_bytes(x_hat)[0]

    def _coded(self, batch: Sequence[Pixels]) -> tuple[Tensor, Sent, Received]:
        """The images on the device, what is sent of them, and what is read back."""
        model, time_ = self._model, self._clock.time
        image = to_tensor(batch).to(self._device)
        height, width = image.shape[-2:]
        sent: Sent = time_("encode", model.encode, image)
        received: Received = time_("decode", model.decode, sent.streams, (height, width))
        return image, sent, received

    def _student(self, entry: Entry) -> Features:
        """What the teacher's encoder makes of what entered it."""
        if self._model.is_original:
            # The teacher against itself.
            return Features(None, None)
        student: Features = self._model.encoder(
            entry.given, pooled=self._pooled, tokens=self._tokens or self._shared is not None
        )
        return student

    def _further(self, entry: Entry, student: Features) -> Entry:
        """The same, further inside where the answerer's tower is the teacher's."""
        if self._shared is None or student.tokens is None:
            return entry
        return Entry(student.tokens, self._shared)

    def _surrogate(
        self, image_ids: Sequence[str] | None, image: Tensor, student: Features
    ) -> dict[str, list[float | None]]:
        """The distillation terms of each image."""
        wanted = {"pooled": self._pooled, "tokens": self._tokens}
        if self._model.is_original:
            return {name: [0.0 if there else None] * len(image) for name, there in wanted.items()}
        teacher = self._teacher(image_ids, image)
        terms: dict[str, list[float | None]] = {}
        for name, there in wanted.items():
            if not there:
                terms[name] = [None] * len(image)
            else:
                one, other = getattr(student, name), getattr(teacher, name)
                terms[name] = (one - other).square().flatten(1).mean(1).tolist()
        return terms


def _psnr(x_hat: Tensor, x: Tensor) -> Tensor:
    """Per image in dB, of values in [0, 1] that are not rounded to 8 bits; at most 100."""
    return -10 * (x_hat - x).square().flatten(1).mean(1).clamp(min=1e-10).log10()


def _mean(values: Sequence[float | None]) -> float | None:
    """Over an image's views; None where there is nothing to measure."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None

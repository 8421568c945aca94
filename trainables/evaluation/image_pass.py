"""Images through an operating point: encoded, decoded, and given to an answerer.

    image --encode--> bytes --decode--> y_hat --enter--> tokens or image --look--> features
                        |                  |                   |
                        +--> bpp           +--> PSNR           +--> against the teacher: surrogate

An operating point without a codec takes the same path: its stream is the raw image, 8 bits per
component, so 24 bits per pixel.

For an MLLM that reads crops, the image is first cut into views, as the MLLM's processor does. Each
view takes this path like an image. The bits are those of all views, per pixel of the original
image; other measurements are means over the views.

The original image is what was resized: grey that made a square of it is coded, and its bits count,
but it has no pixels among which they are divided.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from trainables.codecs.entropy.bitstream import BitstreamError
from trainables.datasets.arrays import Pixels
from trainables.datasets.tensors import psnr_of, to_bytes, to_tensor
from trainables.encoders.bridge import Entry
from trainables.encoders.partial_encoder import Features
from trainables.evaluation.teacher_features import KnownTeacher
from trainables.points.models import PointModel, Received, Sent

log = logging.getLogger(__name__)

BATCH = 32
"""Images that are coded together. Their streams are written and read one by one."""


@dataclass(frozen=True)
class Rate:
    """The rate of an image and the errors that coding causes; a row of `images.parquet`.

    Attributes:
        n_bytes: of the whole stream, or of the streams of all views.
        bpp: bits of these bytes per pixel of the original image.
        bpp_estimated: the entropy model's estimate; None where there is none.
        psnr: of the decoded image in dB; None where no image is decoded.
        overhead_bytes: the part of `n_bytes` that is container, not content.
        pooled, tokens: the distillation terms of the surrogate loss, mean squared errors against
            the teacher on the original image; None where the space's loss has no such term.
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
class CodedImage:
    """The rate of an image and the features that an answerer keeps of it."""

    rate: Rate
    features: Tensor


class Answerer(Protocol):
    """An MLLM or the encoder: computes features of images and answers prompts about them."""

    def views(self, pixels: Pixels, /) -> list[Pixels]:
        """The views of an image (H, W, 3) that are coded: the image itself, or its crops."""

    def look(self, entry: Entry, size: tuple[int, int], /) -> Sequence[Tensor]:
        """The features of B images of a size (H, W); the entry holds all their views."""

    def answer(
        self,
        prompts: Sequence[str],
        features: Sequence[Sequence[Tensor]],
        max_new_tokens: int,
        batch_size: int,
    ) -> list[str]:
        """Answers to prompts, each with the features of its images."""


class Clock:
    """Seconds spent in each step, until its results are there.

    Args:
        device: that is waited for, where it works on its own.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._nested = 0.0
        """Seconds of the steps within the one that is going on."""

    def time(self, step: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call it, and count; a step within another one counts for itself alone."""
        started, before, self._nested = self._now(), self._nested, 0.0
        result = function(*arguments)
        spent = self._now() - started
        self.seconds[step] = self.seconds.get(step, 0.0) + spent - self._nested
        self._nested = before + spent
        return result

    def move(self, seconds: float, step: str, to: str) -> None:
        """Count seconds of a step as those of another one."""
        self.seconds[step] -= seconds
        self.seconds[to] = self.seconds.get(to, 0.0) + seconds

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.monotonic()


def batches(images: Iterable[tuple[str, Pixels]]) -> Iterator[list[tuple[str, Pixels]]]:
    """Consecutive images of one size, at most BATCH."""
    for _, same in itertools.groupby(images, key=lambda item: item[1].shape):
        while batch := list(itertools.islice(same, BATCH)):
            yield batch


class ImagePass:
    """Codes images with one operating point and computes an answerer's features of them.

    Args:
        model: the operating point, on `device`.
        teacher: its features are the targets of the surrogate terms; those that it computes are
            measured.
        answerer: computes features.
        shared: the hidden state (the teacher's `token_layer`) up to which the answerer's tower
            computes what the teacher's does, so that it need not do so again; None if it does not.
        device: of model, teacher and answerer.
        clock: counts the seconds of each step.
    """

    def __init__(
        self,
        model: PointModel,
        teacher: KnownTeacher,
        answerer: Answerer,
        shared: int | None,
        device: torch.device,
        clock: Clock,
    ) -> None:
        self._model, self._answerer = model, answerer
        self._teacher, self._shared = teacher, shared
        self._device, self._clock = device, clock

    def run(
        self, batch: Sequence[tuple[str, Pixels]], areas: Sequence[int] | None = None
    ) -> list[CodedImage]:
        """Encode and decode images of one size; return their rates and features.

        Args:
            areas: pixels of each that are the original's; None for all.

        Raises:
            BitstreamError: the decoder refuses the stream of an image.
        """
        height, width = batch[0][1].shape[:2]
        areas = areas or [height * width] * len(batch)
        count = len(self._answerer.views(batch[0][1]))
        at_once = max(1, BATCH // count)
        slices = (slice(start, start + at_once) for start in range(0, len(batch), at_once))
        return [image for s in slices for image in self._run_at_once(batch[s], areas[s])]

    @torch.no_grad()
    def _run_at_once(
        self, batch: Sequence[tuple[str, Pixels]], areas: Sequence[int]
    ) -> list[CodedImage]:
        model, time_ = self._model, self._clock.time
        height, width = batch[0][1].shape[:2]
        views_of = [self._answerer.views(pixels) for _, pixels in batch]
        views, count = [view for views in views_of for view in views], len(views_of[0])
        image, sent, received = self._coded(views)
        streams, bits = sent.streams, sent.bits_estimated
        entry = time_("enter", model.enter, received)
        student = time_("surrogate", self._student, entry)
        # The teacher sees whole images, so its tokens do not serve for views.
        inside = self._further(entry, student) if count == 1 else entry
        features = time_("look", self._answerer.look, inside, (height, width))
        x_hat = model.image(received)
        psnr: list[float | None] = [None] * len(views)
        if x_hat is not None:
            psnr = psnr_of(x_hat, image).tolist()
        # The same image in other views, for another MLLM, is another image to the teacher.
        ids = [image_id for image_id, _ in batch] if count == 1 else None
        terms = time_("surrogate", self._surrogate, ids, image, student)
        coded = []
        for number, (image_id, _) in enumerate(batch):
            image_views = slice(number * count, (number + 1) * count)
            n_bytes = sum(map(len, streams[image_views]))
            containers = map(model.overhead_bytes, streams[image_views])
            # A raw image that is sent as it is needs no grey; that of its stream is not counted.
            area = height * width if model.is_original else areas[number]
            rate = Rate(
                image_id=image_id,
                n_bytes=n_bytes,
                bpp=8 * n_bytes / area,
                bpp_estimated=None if bits is None else sum(bits[image_views]) / area,
                psnr=_mean(psnr[image_views]),
                overhead_bytes=sum(containers),
                pooled=_mean(terms["pooled"][image_views]),
                tokens=_mean(terms["tokens"][image_views]),
            )
            coded.append(CodedImage(rate, features[number]))
        return coded

    @torch.no_grad()
    def originals(self, batch: Sequence[tuple[str, Pixels]]) -> dict[str, Tensor]:
        """The answerer's features of original images of one size, by image id."""
        features: dict[str, Tensor] = {}
        height, width = batch[0][1].shape[:2]
        at_once = max(1, BATCH // len(self._answerer.views(batch[0][1])))
        for start in range(0, len(batch), at_once):
            part = batch[start : start + at_once]
            views = [view for _, pixels in part for view in self._answerer.views(pixels)]
            entry = Entry(to_tensor(views).to(self._device), None)
            looked = self._clock.time("originals", self._answerer.look, entry, (height, width))
            features |= {i: found for (i, _), found in zip(part, looked, strict=True)}
        return features

    @torch.no_grad()
    def decoded(self, pixels: Pixels) -> Pixels | None:
        """The decoded image, or its first view, (H, W, 3); None where no image is decoded.

        So it is of an image whose stream the decoder refuses, which is logged.
        """
        shown = self._answerer.views(pixels)[0]
        try:
            _, _, received = self._coded([shown])
        except BitstreamError:
            log.exception("the decoder refuses the stream of an example")
            return None
        x_hat = self._model.image(received)
        return None if x_hat is None else to_bytes(x_hat)[0]

    def _coded(self, batch: Sequence[Pixels]) -> tuple[Tensor, Sent, Received]:
        """The images on the device, their encoded streams, and what is decoded from these."""
        model, time_ = self._model, self._clock.time
        image = to_tensor(batch).to(self._device)
        height, width = image.shape[-2:]
        sent: Sent = time_("encode", model.encode, image)
        verified_s = model.verification_s
        received: Received = time_("decode", model.decode, sent.streams, (height, width))
        self._clock.move(model.verification_s - verified_s, "decode", "verify")
        return image, sent, received

    def _student(self, entry: Entry) -> Features:
        """The features that the teacher's encoder computes from an entry."""
        if self._model.is_original:
            # The teacher against itself.
            return Features(None, None)
        wanted = self._teacher.wanted
        student: Features = self._model.encoder(
            entry.given, wanted["pooled"], wanted["tokens"] or self._shared is not None
        )
        return student

    def _further(self, entry: Entry, student: Features) -> Entry:
        """The entry at a later block, already computed, if the answerer shares the teacher's."""
        if self._shared is None or student.tokens is None:
            return entry
        return Entry(student.tokens, self._shared)

    def _surrogate(
        self, image_ids: Sequence[str] | None, image: Tensor, student: Features
    ) -> dict[str, list[float | None]]:
        """The distillation terms of each image."""
        wanted = self._teacher.wanted
        if self._model.is_original:
            return {name: [0.0 if used else None] * len(image) for name, used in wanted.items()}
        teacher = self._teacher(image_ids, image)
        terms: dict[str, list[float | None]] = {}
        for name, used in wanted.items():
            if not used:
                terms[name] = [None] * len(image)
            else:
                error = getattr(student, name) - getattr(teacher, name)
                terms[name] = error.square().flatten(1).mean(1).tolist()
        return terms


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean over an image's views; None where nothing was measured."""
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if measured else None

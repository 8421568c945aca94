"""Codecs of the standards, as competitors: no latents, so the MLLM reads the decoded image."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from search_spaces.specs.base import Spec

ClassicalFormat = Literal["jpeg", "jpeg2000", "webp", "avif", "vvc"]

QUALITIES: Final[dict[str, tuple[int, int]]] = {
    "jpeg": (1, 95),
    "jpeg2000": (15, 60),
    "webp": (0, 100),
    "avif": (0, 100),
    "vvc": (0, 63),
}
"""Lowest and highest quality: of JPEG 2000 the PSNR in dB that it aims at, of VVC the QP, of which
less is better."""
_DEFAULTS: Final[dict[str, tuple[int, ...]]] = {
    "jpeg": (2, 5, 10, 20, 40),
    "jpeg2000": (18, 21, 24, 28, 32),
    "webp": (0, 5, 15, 30, 60),
    "avif": (2, 10, 20, 35, 55),
    "vvc": (57, 51, 45, 38, 30),
}


class ClassicalSpec(Spec):
    """A standard's codec at several qualities, through Pillow; VVC intra through ffmpeg."""

    format: ClassicalFormat
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = ""
    """Its `codec` in points; empty for its format."""
    qualities: tuple[int, ...] = ()
    """Of each point; empty for five that span the rates. JPEG 1 to 95, WebP and AVIF 0 to 100, JPEG
    2000 the PSNR in dB that it aims at, 15 to 60; VVC the QP, 63 (worst) to 0."""

    @property
    def label(self) -> str:
        """The name in points and plots."""
        return self.name or self.format

    @property
    def rates(self) -> tuple[int, ...]:
        """The qualities."""
        return self.qualities or _DEFAULTS[self.format]

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = QUALITIES[self.format]
        wrong = [quality for quality in self.rates if not low <= quality <= high]
        if wrong:
            raise ValueError(f"qualities of {self.format} are {low} to {high}, not {wrong[0]}")
        if len(set(self.rates)) != len(self.rates):
            raise ValueError(f"qualities names something twice: {self.rates}")
        return self

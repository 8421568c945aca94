"""Settings of a codec whose latents have a position per 8 x 8 pixels."""

from typing import ClassVar, Literal

from search_spaces.specs.base import Positive
from search_spaces.specs.codec import CodecSpec


class Stride8(CodecSpec):
    """A factorized prior behind three convolutions."""

    implementation: ClassVar[str] = "bridgesweep_example.codec_network:build"
    stride: ClassVar[int] = 8
    pad_to: ClassVar[int] = 8
    arch: Literal["stride-8"]
    N: Positive = 16
    M: Positive = 24

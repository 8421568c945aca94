"""Settings of a third party's codecs with strides of 8 and 32; see `plugin.py`."""

from typing import ClassVar, Literal

from search_spaces.specs.base import Positive
from search_spaces.specs.codec import CodecSpec


class Stride8(CodecSpec):
    implementation: ClassVar[str] = "tests.trainables.codecs.strided_network:build"
    stride: ClassVar[int] = 8

    arch: Literal["strided-8"]
    N: Positive = 8
    M: Positive = 12


class Stride32(CodecSpec):
    implementation: ClassVar[str] = "tests.trainables.codecs.strided_network:build"
    stride: ClassVar[int] = 32

    arch: Literal["strided-32"]
    N: Positive = 8
    M: Positive = 12

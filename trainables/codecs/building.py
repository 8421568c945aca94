"""Building a codec from its settings, and checking the network against them."""

from __future__ import annotations

import copy

import torch

from search_spaces import CodecSpec
from search_spaces.plugins import BrokenPluginError, implementation
from trainables.codecs.codec import Codec

_SIDE = 256
"""Pixels; the image that a network is checked with has at least this side."""


def build_codec(spec: CodecSpec) -> Codec:
    """A codec with fresh weights (from the global random generator), in training mode.

    Raises:
        BrokenPluginError: the computing half of the codec's family cannot be imported, or makes
            no `Codec`.
        ValueError: the network's stride, padding or latent channels are not those that the
            settings declare.
    """
    codec = implementation(spec.implementation)(spec)
    if not isinstance(codec, Codec):
        raise BrokenPluginError(
            f"{spec.implementation} makes a {type(codec).__name__} of {spec.arch}, not a Codec"
        )
    check_geometry(codec)
    return codec


@torch.no_grad()
def check_geometry(codec: Codec) -> None:
    """Compare a codec's transforms with the stride and the latent channels of its settings.

    Runs copies of `g_a` and `g_s` without data, on torch's device `meta`.

    Raises:
        ValueError: one of them differs.
    """
    arch, stride = codec.arch, codec.stride
    if codec.pad_to != codec.spec.pad_to:
        raise ValueError(
            f"{arch}: pad_to is {codec.spec.pad_to}, but the entropy model needs sides that are "
            f"multiples of {codec.pad_to}"
        )
    g_a, g_s = (copy.deepcopy(module).eval().to("meta") for module in (codec.g_a, codec.g_s))
    side = codec.pad_to * -(-_SIDE // codec.pad_to)
    image = torch.empty(1, 3, side, 2 * side, device="meta")
    y = g_a(image)
    measured = (side / y.shape[2], 2 * side / y.shape[3])
    if measured != (stride, stride):
        strides = " x ".join(f"{value:g}" for value in dict.fromkeys(measured))
        raise ValueError(f"{arch}: stride is {stride}, but g_a has a stride of {strides}")
    if y.shape[1] != codec.M:
        raise ValueError(f"{arch}: M is {codec.M}, but g_a gives {y.shape[1]} latent channels")
    x_hat = g_s(y)
    if x_hat.shape != image.shape:
        sizes = " and ".join(" x ".join(map(str, x.shape[1:])) for x in (image, x_hat))
        raise ValueError(f"{arch}: g_a and g_s do not give an image's size again: {sizes}")

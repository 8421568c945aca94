"""Counting the cost of a part of an operating point: parameters and multiply-accumulates.

Costs are counted, not quoted: modules built from a space run once on the meta device (no memory, no
weights) under PyTorch's FlopCounterMode; one MAC is two counted FLOPs. It counts matrix products
and convolutions. Attention runs on its plain mathematical path, so that both of its products are
counted (the counter does not see into fused kernels on every device). Normalisations, activations,
softmax, resizing and table look-ups are not counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import CodecSpec, Space
from trainables.codecs import build_codec
from trainables.encoders.tower import Tower

Side = Literal["sender", "receiver", "both", "training"]


@dataclass(frozen=True)
class Part:
    """One part of one codec's operating points; a row of the table.

    Attributes:
        codec: its label; empty where the part does not depend on one.
        part: its name.
        side: where it runs.
        parameters: the number of parameters.
        macs: for one image.
        kmac_per_pixel: per pixel of the image given to the codec.
        meaning: its function in a few words.
        variant: of the space; empty where the variants do not differ.
    """

    codec: str
    part: str
    side: Side
    parameters: int
    macs: int
    kmac_per_pixel: float
    meaning: str
    variant: str = ""


def count_macs(run: Callable[[], object], *inside: nn.Module) -> list[int]:
    """Count the MACs of matrix products and convolutions.

    Args:
        run: the computation.
        inside: modules that it calls.

    Returns:
        The MACs of the whole computation, then of each module.
    """
    mode = FlopCounterMode(display=False)
    sums = [0] * len(inside)
    handles = []
    for index, module in enumerate(inside):

        def enter(_module: nn.Module, _arguments: Any, index: int = index) -> None:
            sums[index] -= mode.get_total_flops()

        def leave(_module: nn.Module, _arguments: Any, _output: Any, index: int = index) -> None:
            sums[index] += mode.get_total_flops()

        handles += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave),
        ]
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), mode:
            run()
    finally:
        for handle in handles:
            handle.remove()
    return [flops // 2 for flops in (mode.get_total_flops(), *sums)]


def number_of_parameters(modules: Iterable[nn.Module]) -> int:
    """Number of parameters of some modules."""
    return sum(p.numel() for module in modules for p in module.parameters())


def meta(*shape: int) -> Tensor:
    """One item of a shape, on the meta device."""
    return torch.empty(1, *shape, device="meta")


@dataclass(frozen=True)
class Counting:
    """A space whose parts are counted.

    Attributes:
        space: without variants, or of one variant.
        tower: the space's teacher on the meta device.
    """

    space: Space
    tower: Tower

    @property
    def size(self) -> int:
        """Side of the images given to the codec, in pixels."""
        return self.space.data.size

    @functools.cached_property
    def codecs(self) -> dict[str, CodecSpec]:
        """The codecs by label; if a codec's widths depend on the quality, by label and widths."""
        return codecs_of(self.space)

    def part(
        self,
        codec: str,
        name: str,
        side: Side,
        meaning: str,
        modules: Iterable[nn.Module],
        run: Callable[[], object],
    ) -> Part:
        """Count a part: the parameters of `modules`, and the MACs of `run` on one image."""
        (macs,) = count_macs(run)
        return self.sized(codec, name, side, meaning, number_of_parameters(modules), macs)

    def sized(
        self, codec: str, name: str, side: Side, meaning: str, parameters: int, macs: int
    ) -> Part:
        """A part whose cost is known."""
        return Part(codec, name, side, parameters, macs, macs / self.size**2 / 1000, meaning)

    def latents(self, spec: CodecSpec) -> Tensor:
        """Latents of one image, on the meta device."""
        return meta(spec.M, *spec.latent_sides(self.size, self.size))


def codec_parts(
    counting: Counting, label: str, spec: CodecSpec, side: int | None = None, prefix: str = ""
) -> list[Part]:
    """Count the parts of a codec.

    Args:
        label: of the codec.
        side: of the square image that it codes, in pixels; None for the image given.
        prefix: of the parts' names.
    """
    side = counting.size if side is None else side
    # CompressAI's layers compute their first weights, so they are built with memory.
    codec = build_codec(spec).eval().to("meta")
    image = meta(3, side, side)
    y_hat = torch.empty_like(codec.latents(image))
    hyper = [m for name, m in codec.net.named_modules() if name.rpartition(".")[2] == "h_a"]
    g_a, g_s = codec.g_a, codec.g_s
    encoding, analysis, *hyper_analysis = count_macs(lambda: codec.latents(image), g_a, *hyper)
    (synthesis,) = count_macs(lambda: codec.synthesis(y_hat))
    macs = (analysis, sum(hyper_analysis), encoding - analysis - sum(hyper_analysis), synthesis)
    sizes = [number_of_parameters(modules) for modules in ([g_a], hyper, [g_s])]
    sizes.insert(2, number_of_parameters([codec]) - sum(sizes))
    described: tuple[tuple[str, Side, str], ...] = (
        ("analysis", "sender", "g_a: image to latents"),
        ("hyper_analysis", "sender", "h_a: latents to hyper-latents"),
        ("entropy", "both", "h_s, context and parameter networks"),
        ("synthesis", "receiver", "g_s: latents to image"),
    )
    return [
        counting.sized(label, prefix + name, who, meaning, parameters, cost)
        for (name, who, meaning), parameters, cost in zip(described, sizes, macs, strict=True)
    ]


def codecs_of(space: Space) -> dict[str, CodecSpec]:
    """The codecs by label; if a codec's widths depend on the quality, by label and widths."""
    codecs: dict[str, CodecSpec] = {}
    for spec in space.codecs:
        sizes = {at_rate.widths: at_rate for at_rate in map(spec.at, spec.lambdas)}
        for widths, at_rate in sizes.items():
            suffix = "" if len(sizes) == 1 else " " + "/".join(map(str, widths))
            codecs[spec.label + suffix] = at_rate
    return codecs

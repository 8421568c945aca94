"""CompressAI's qualities: the lambda that each stands for, and the widths of its pretrained models.

Facts of CompressAI 1.2, where quality 1 is the lowest rate. The loss of the `mse` models is
bpp + lambda * 255^2 * MSE, that of the `ms-ssim` models bpp + lambda * (1 - MS-SSIM).
"""

from __future__ import annotations

ZOO = "compressai:"
"""Prefix of names of pretrained weights: `compressai:METRIC`."""

LAMBDAS = {
    "mse": (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800),
    "ms-ssim": (2.40, 4.58, 8.73, 16.64, 31.73, 60.50, 115.37, 220.00),
}

_FIVE_NARROW = ((128, 192),) * 5 + ((192, 320),) * 3
_FOUR_NARROW = ((128, 192),) * 4 + ((192, 320),) * 4
_WIDE = ((192, 320),) * 8
_CHENG = ((128, 128),) * 3 + ((192, 192),) * 3

WIDTHS: dict[str, tuple[tuple[int, int], ...]] = {
    "bmshj2018-factorized": _FIVE_NARROW,
    "bmshj2018-factorized-relu": _FIVE_NARROW,
    "bmshj2018-hyperprior": _FIVE_NARROW,
    "mbt2018-mean": _FOUR_NARROW,
    "mbt2018": ((192, 192),) * 4 + ((192, 320),) * 4,
    "cheng2020-anchor": _CHENG,
    "cheng2020-attn": _CHENG,
    "bmshj2018-hyperprior-vbr": _WIDE,
    "mbt2018-mean-vbr": _WIDE,
    "mbt2018-vbr": _WIDE,
}
"""(N, M) by architecture and quality, 1 first."""

_OTHER_METRICS: dict[str, tuple[str, ...]] = {
    "bmshj2018-factorized-relu": (),
    "bmshj2018-hyperprior-vbr": ("mse",),
    "mbt2018-mean-vbr": ("mse",),
    "mbt2018-vbr": ("mse",),
}


def metrics(arch: str) -> tuple[str, ...]:
    """The metrics that CompressAI has pretrained models of an architecture for."""
    return _OTHER_METRICS.get(arch, ("mse", "ms-ssim")) if arch in WIDTHS else ()

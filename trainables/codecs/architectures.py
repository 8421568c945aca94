"""The architectures by their names, and building one."""

from __future__ import annotations

from collections.abc import Callable

from compressai.layers import conv1x1
from compressai.models import (
    Cheng2020Anchor,
    Cheng2020Attention,
    CompressionModel,
    Elic2022Chandelier,
    FactorizedPrior,
    FactorizedPriorReLU,
    JointAutoregressiveHierarchicalPriors,
    JointAutoregressiveHierarchicalPriorsVbr,
    MeanScaleHyperprior,
    MeanScaleHyperpriorVbr,
    ScaleHyperprior,
    ScaleHyperpriorVbr,
)
from compressai.models.utils import conv
from torch import nn

from search_spaces import CodecSpec
from trainables.codecs.codec import Codec
from trainables.codecs.entropy.model import (
    Autoregressive,
    CausalAttention,
    ChannelGroups,
    Entropy,
    Factorized,
    Hyperprior,
)
from trainables.codecs.tic import TIC
from trainables.codecs.variable_rate import AutoregressiveVbr, HyperpriorVbr


def _elic(spec: CodecSpec) -> Elic2022Chandelier:
    net = Elic2022Chandelier(spec.N, spec.M, groups=spec.groups and list(spec.groups))
    if spec.context_width == 1.0:
        return net
    first, second, third, fourth = (
        max(8, round(width * spec.context_width)) for width in (224, 128, 2 * spec.M, 512)
    )
    groups = net.latent_codec.y
    for k, size in enumerate(net.groups):
        if k > 0:
            seen = net.groups[0] + (net.groups[k - 1] if k > 1 else 0)
            groups.channel_context[f"y{k}"] = nn.Sequential(
                conv(seen, first, kernel_size=5, stride=1),
                nn.ReLU(inplace=True),
                conv(first, second, kernel_size=5, stride=1),
                nn.ReLU(inplace=True),
                conv(second, 2 * size, kernel_size=5, stride=1),
            )
        given = 2 * size + (2 * size if k > 0 else 0) + 2 * spec.M
        groups.latent_codec[f"y{k}"].entropy_parameters = nn.Sequential(
            conv1x1(given, third),
            nn.ReLU(inplace=True),
            conv1x1(third, fourth),
            nn.ReLU(inplace=True),
            conv1x1(fourth, 2 * size),
        )
    return net


_ARCHS: dict[str, tuple[Callable[[CodecSpec], CompressionModel], Entropy]] = {
    "bmshj2018-factorized": (lambda s: FactorizedPrior(s.N, s.M), Factorized()),
    "bmshj2018-factorized-relu": (lambda s: FactorizedPriorReLU(s.N, s.M), Factorized()),
    "bmshj2018-hyperprior": (lambda s: ScaleHyperprior(s.N, s.M), Hyperprior(means=False)),
    "mbt2018-mean": (lambda s: MeanScaleHyperprior(s.N, s.M), Hyperprior(means=True)),
    "mbt2018": (
        lambda s: JointAutoregressiveHierarchicalPriors(s.N, s.M),
        Autoregressive(),
    ),
    "cheng2020-anchor": (lambda s: Cheng2020Anchor(s.N), Autoregressive()),
    "cheng2020-attn": (lambda s: Cheng2020Attention(s.N), Autoregressive()),
    "bmshj2018-hyperprior-vbr": (
        lambda s: ScaleHyperpriorVbr(s.N, s.M, vr_entbttlnck=True),
        HyperpriorVbr(means=False),
    ),
    "mbt2018-mean-vbr": (
        lambda s: MeanScaleHyperpriorVbr(s.N, s.M, vr_entbttlnck=True),
        HyperpriorVbr(means=True),
    ),
    "mbt2018-vbr": (
        lambda s: JointAutoregressiveHierarchicalPriorsVbr(s.N, s.M),
        AutoregressiveVbr(),
    ),
    "elic2022-chandelier": (_elic, ChannelGroups()),
    "tic": (lambda s: TIC(s.N, s.M, s.depths), CausalAttention()),
}


def build_codec(spec: CodecSpec) -> Codec:
    """A codec with fresh weights (from the global random generator), in training mode."""
    build, entropy = _ARCHS[spec.arch]
    return Codec(spec, build(spec), entropy)

"""The computing half of a third party's codecs: hyperpriors with as many stages as their stride."""

from itertools import pairwise
from math import log2

from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models.utils import conv, deconv
from torch import nn

from tests.trainables.codecs.strided_settings import Stride8, Stride32
from trainables.codecs import Codec
from trainables.codecs.hyperprior import Hyperprior


class Network(nn.Module):
    def __init__(self, N: int, M: int, stages: int) -> None:
        super().__init__()
        inner = [N] * (stages - 1)
        self.g_a = stack(conv, [3, *inner, M])
        self.g_s = stack(deconv, [M, *inner, 3])
        self.h_a = stack(conv, [M, N, N])
        self.h_s = stack(deconv, [N, N, 2 * M])
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional(None)


def stack(layer, channels):
    layers = []
    for before, after in pairwise(channels):
        layers += [layer(before, after), nn.LeakyReLU()]
    return nn.Sequential(*layers[:-1])


def build(settings: Stride8 | Stride32) -> Codec:
    network = Network(settings.N, settings.M, int(log2(settings.stride)))
    return Codec(settings, network, Hyperprior(network, means=True))

"""The network of `codec.py`."""

from compressai.entropy_models import EntropyBottleneck
from compressai.models.utils import conv, deconv
from torch import nn

from bridgesweep_example.codec import Stride8
from trainables.codecs import Codec
from trainables.codecs.factorized import Factorized


def build(settings: Stride8) -> Codec:
    """A codec with fresh weights."""
    N, M, network = settings.N, settings.M, nn.Module()
    network.g_a = nn.Sequential(conv(3, N), nn.GELU(), conv(N, N), nn.GELU(), conv(N, M))
    network.g_s = nn.Sequential(deconv(M, N), nn.GELU(), deconv(N, N), nn.GELU(), deconv(N, 3))
    network.entropy_bottleneck = EntropyBottleneck(M)
    return Codec(settings, network, Factorized(network))

"""The contract of all learned codecs: images, bytes, latents.

A family's computing half makes a `Codec` of a network with `g_a` and `g_s` and of an
`EntropyModel`, which codes the latents.

The entropy coder needs the same distributions of symbols from encoder and decoder, to the bit. They
come from networks, so `encode` and `decode` compute exactly (`trainables.arithmetic`), an image at
a time, in the same shapes and memory format. A stream is therefore decoded where it was written: by
the same weights, on the same CPU or GPU with the same libraries and as many threads. Elsewhere
another order of a sum may move a scale over a step of the table; the stream is then refused, not
decoded to other symbols (`entropy/bitstream.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from compressai.entropy_models import EntropyBottleneck, EntropyBottleneckVbr
from torch import Tensor, nn

from search_spaces import CodecSpec
from trainables.arithmetic.precision import exact
from trainables.codecs.entropy.bitstream import (
    MAX_PIXELS,
    BitstreamError,
    Container,
    SymbolReader,
    pack,
    unpack,
)
from trainables.codecs.entropy.coding import Estimate, Likelihoods, Read, Write
from trainables.codecs.entropy.model import EntropyModel
from trainables.codecs.entropy.tables import CodingTables, coding_tables


@dataclass(frozen=True)
class CodecOutput:
    """What a codec gives for a batch of images.

    y_hat: quantised latents, (B, M, h, w); x_hat: decoded images, (B, 3, H, W), or None where no
    synthesis was asked for; likelihoods: per symbol, each (B, ...).
    """

    y_hat: Tensor
    x_hat: Tensor | None
    likelihoods: Likelihoods


def bits_estimated(likelihoods: Mapping[str, Tensor]) -> Tensor:
    """The entropy model's estimate of the bits per image, (B,)."""
    return torch.stack([-p.flatten(1).log2().sum(1) for p in likelihoods.values()]).sum(0)


class LatentCodec(nn.Module):
    """Writes what an analysis transform makes of images, and reads it.

    Args:
        arch: name of the architecture; streams carry a hash of it and of the weights.
        M: channels of the latents.
        net: the network, with `g_a`, and with `g_s` where images are decoded.
        entropy: the entropy model of that network.
        stride: pixels per latent position, in both directions.
        rate: see the attribute.

    Attributes:
        rates: rates that these weights serve; more than one in a variable-rate model.
        rate: the index, 0 .. rates - 1, at which images are analysed and written. Streams carry
            it, so `decode` reads streams of any rate.
        pad_to: images are padded to sides that are multiples of this.
        verification_s: seconds of all its decoding that it took to check the decoded symbols.
    """

    def __init__(
        self,
        arch: str,
        M: int,
        net: nn.Module,
        entropy: EntropyModel,
        stride: int,
        rate: int = 0,
    ) -> None:
        super().__init__()
        self.arch = arch
        self.M = M
        self.net = net
        self.stride = stride
        self.rates = entropy.rates
        self.rate = rate
        self.pad_to = stride * entropy.hyper_stride
        self.verification_s = 0.0
        self._entropy = entropy
        self._tables: list[CodingTables] | None = None
        self._id = 0

    @property
    def g_a(self) -> nn.Module:
        """The analysis transform: (B, 3, H, W), sides multiples of `pad_to`, to (B, M, h, w)."""
        return self.net.get_submodule("g_a")

    @property
    def g_s(self) -> nn.Module:
        """The synthesis transform: (B, M, h, w) to (B, 3, H, W)."""
        return self.net.get_submodule("g_s")

    def forward(self, x: Tensor, synthesis: bool = True) -> CodecOutput:
        """Latents, likelihoods and, with synthesis, the image; with gradients.

        Args:
            x: images in [0, 1], (B, 3, H, W).
            synthesis: False never runs the synthesis transform.

        In training mode the quantisation is a proxy (see the package); in eval mode y_hat is the
        decoder's and the likelihoods are those of the symbols that would be written. Under
        autocast the transforms run in lower precision, whatever makes the rate in fp32.
        """
        y = self.analyse(self._pad(x)) if self.training else self._analysis(x)
        y_hat, likelihoods = self.quantise(y)
        x_hat = self.g_s(y_hat).float() if synthesis else None
        if x_hat is not None:
            x_hat = x_hat[..., : x.shape[-2], : x.shape[-1]]
        return CodecOutput(y_hat, x_hat, likelihoods)

    def quantise(self, y: Tensor) -> tuple[Tensor, Likelihoods]:
        """y_hat and likelihoods of latents, (B, M, h, w); a proxy in training mode."""
        if self.training:
            with exact(y.device):
                return self._entropy.train_pass(y.float(), self.rate)
        estimate = Estimate()
        y_hat = self._entropy.walk(y, y.shape, estimate, self.rate)
        return y_hat, estimate.likelihoods

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        """The y_hat that a decoder would get for images in [0, 1], (B, M, h, w); no g_s.

        Equal to `decode(encode(x))` for one image. In a batch the float arithmetic of the entropy
        model may differ in the last place, so on a rare tie a symbol differs by one step. Under
        autocast, too, it is computed in fp32, as a decoder does.
        """
        self._demand_eval()
        with exact(x.device):
            y = self._analysis(x)
            coding = Estimate(likelihoods_too=False)
            return self._entropy.walk(y, y.shape, coding, self.rate)

    def encode(self, x: Tensor) -> list[bytes]:
        """Write images in [0, 1], (B, 3, H, W): one self-contained stream each.

        Raises:
            RuntimeError: the entropy coder's tables are missing; call `update()` first.
        """
        return self.encode_and_estimate(x)[0]

    @torch.no_grad()
    def encode_and_estimate(self, x: Tensor) -> tuple[list[bytes], Tensor]:
        """Streams as `encode` writes them, and the estimated bits of the same symbols, (B,)."""
        tables = self._demand_tables()[self.rate]
        rate = self.rate if self.rates > 1 else None
        streams, bits = [], []
        # Image by image, here and in decode: then an image's bytes do not depend on its batch.
        for image in torch.split(x, 1):
            writing = Write(tables)
            with exact(x.device):
                y = self.analyse(self._pad(image))
                self._entropy.walk(y, y.shape, writing, self.rate)
            payload = writing.writer.finish()
            streams.append(pack(Container(self._id, x.shape[-2], x.shape[-1], payload, rate)))
            bits.append(bits_estimated(writing.likelihoods))
        return streams, torch.cat(bits)

    @torch.no_grad()
    def decode(self, streams: Sequence[bytes], max_pixels: int = MAX_PIXELS) -> Tensor:
        """Read streams of images of one size, whatever their rates: y_hat (B, M, h, w); no g_s.

        Args:
            streams: the bytes of an image each.
            max_pixels: of an image, at the most, as its stream claims.

        Raises:
            BitstreamError: a stream is truncated, damaged, foreign, of a larger image or written by
                other weights.
            ValueError: no streams, or streams of images of different sizes.
            RuntimeError: the entropy coder's tables are missing; call `update()` first.
        """
        tables = self._demand_tables()
        containers = [unpack(stream, self._id, max_pixels) for stream in streams]
        if len({self._latent_size(c.height, c.width) for c in containers}) != 1:
            raise ValueError("decode needs streams of images of one size; decode others apart")
        device = next(self.net.parameters()).device
        latents = []
        for container in containers:
            h, w = self._latent_size(container.height, container.width)
            reader = SymbolReader(container.payload, self._entropy.symbols(self.M, h, w))
            rate = self._rate_of(container)
            reading = Read(tables[rate], reader, device)
            with exact(device):
                shape = torch.Size((1, self.M, h, w))
                latents.append(self._entropy.walk(None, shape, reading, rate))
            reader.finish()
            self.verification_s += reader.verification_s
        return torch.cat(latents)

    def _rate_of(self, container: Container) -> int:
        if (container.rate is None) != (self.rates == 1):
            has = "carries no rate" if container.rate is None else "carries a rate"
            raise BitstreamError(f"the stream {has}: not written by {self.arch}")
        rate = container.rate or 0
        if rate >= self.rates:
            raise BitstreamError(f"the stream's rate is {rate}; there are 0 to {self.rates - 1}")
        return rate

    @torch.no_grad()
    def synthesis(self, y_hat: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Decoded images in [0, 1], (B, 3, H, W); size (H, W) cuts the padding off again.

        Under autocast, too, they are computed in fp32, as a decoder does.
        """
        with exact(y_hat.device):
            x_hat = _image_by_image(self.g_s, y_hat).clamp(0, 1)
        return x_hat if size is None else x_hat[..., : size[0], : size[1]]

    @torch.no_grad()
    def update(self) -> None:
        """Compute the entropy coder's tables from the current weights; before encode, decode."""
        steps = [self._entropy.step(rate) for rate in range(self.rates)]
        self._tables = [coding_tables(self.net, step) for step in steps]
        self._id = self._fingerprint()

    def train(self, mode: bool = True) -> LatentCodec:
        """As in PyTorch; training makes the entropy coder's tables stale, so they go."""
        if mode:
            self._tables = None
        super().train(mode)
        return self

    def aux_loss(self) -> Tensor:
        """Loss of the entropy bottleneck's quantiles; for `aux_parameters()` alone."""
        bottlenecks = (EntropyBottleneck, EntropyBottleneckVbr)
        losses = [m.loss() for m in self.net.modules() if isinstance(m, bottlenecks)]
        return torch.stack(losses).sum()

    def aux_parameters(self) -> list[nn.Parameter]:
        """The quantiles, which only the auxiliary loss trains."""
        return [p for n, p in self.named_parameters() if n.endswith(".quantiles")]

    def main_parameters(self) -> list[nn.Parameter]:
        """All parameters that the rate-distortion loss trains."""
        return [p for n, p in self.named_parameters() if not n.endswith(".quantiles")]

    def _fingerprint(self) -> int:
        digest = hashlib.sha256(self.arch.encode())
        for name, parameter in sorted(self.net.named_parameters()):
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
        return digest.digest()[0]

    def analyse(self, x: Tensor) -> Tensor:
        """Latents y, not quantised, of images whose sides are multiples of `pad_to`."""
        y: Tensor = self.g_a(x)
        return y

    def _analysis(self, x: Tensor) -> Tensor:
        return _image_by_image(self.analyse, self._pad(x))

    def _pad(self, x: Tensor) -> Tensor:
        x = x.contiguous()  # an image's bytes must not depend on the memory format it comes in
        bottom, right = (-side % self.pad_to for side in x.shape[-2:])
        # Zeros would give every picture an edge to code.
        return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x

    def _latent_size(self, height: int, width: int) -> tuple[int, int]:
        padded = (side + -side % self.pad_to for side in (height, width))
        h, w = (side // self.stride for side in padded)
        return h, w

    def _demand_eval(self) -> None:
        if self.training:
            raise RuntimeError("the codec is in training mode: call eval() first")

    def _demand_tables(self) -> list[CodingTables]:
        self._demand_eval()
        if self._tables is None:
            raise RuntimeError("the entropy coder has no tables: call update() first")
        return self._tables


class Codec(LatentCodec):
    """One learned codec of images.

    The lambda of its training follows CompressAI's convention: bpp + lambda * 255^2 * MSE, the MSE
    of images in [0, 1].

    Args:
        spec: the codec's settings.
        net: the network of that architecture, with the modules `g_a` and `g_s`.
        entropy: the entropy model of that network.
    """

    def __init__(self, spec: CodecSpec, net: nn.Module, entropy: EntropyModel) -> None:
        super().__init__(spec.arch, spec.M, net, entropy, spec.stride, spec.rate)
        self.spec = spec


def _image_by_image(transform: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """A transform of each image; on a CPU apart, which halves the time as it stays in the cache."""
    if batch.device.type != "cpu":
        return transform(batch)
    return torch.cat([transform(image) for image in torch.split(batch, 1)])

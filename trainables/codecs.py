"""Learned image codecs behind one contract; callers never ask which one they have.

              +-----+   y   +---------------+  y_hat  +-----+
    x  --->---| g_a |---->--| entropy model |---->----| g_s |--->--  x_hat
    (B,3,H,W) +-----+       +---------------+    |    +-----+      (B,3,H,W)
                                  | bytes        +--->--  neck (no image is decoded)

The networks are CompressAI's classes (their parameters' names and shapes included); what is done
with them, training pass, coding, decoding, is written here once per family of entropy model.

Quantisation in the training pass, the same for all codecs (Minnen and Singh 2020, ICIP): `y_hat`,
which goes to `g_s` and to the neck, is rounded around its predicted means with straight-through
gradients, so it takes the values that a decoder gets; likelihoods are those of y plus uniform
noise. Only the context of the autoregressive models (mbt2018, cheng2020) is y plus noise, as the
means that rounding needs come after the context.

Outside training, `forward`, `latents`, `encode` and `decode` walk the entropy model in one and the
same way, so `y_hat` is the decoder's everywhere.

Shapes: B images, M latent channels, h = H/16 and w = W/16 latent positions.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.layers import conv1x1
from compressai.models import (
    Cheng2020Anchor,
    Cheng2020Attention,
    CompressionModel,
    Elic2022Chandelier,
    FactorizedPrior,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from compressai.models.base import get_scale_table
from compressai.models.utils import conv
from compressai.ops import quantize_ste
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from search_spaces import CodecSpec
from trainables.bitstream import (
    BitstreamError,
    Container,
    SymbolReader,
    SymbolWriter,
    Tables,
    pack,
    unpack,
)

WEIGHTS_FILE = "model.safetensors"

Likelihoods = dict[str, Tensor]


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


class Codec(nn.Module):
    """One learned codec.

    Args:
        spec: architecture and widths.
        net: the CompressAI model of that architecture.
        entropy: its entropy model's family.
    """

    stride = 16

    def __init__(self, spec: CodecSpec, net: CompressionModel, entropy: _Entropy) -> None:
        super().__init__()
        self.spec = spec
        self.M = spec.M
        self.net = net
        self._entropy = entropy
        self._pad_to = 16 if spec.arch == "bmshj2018-factorized" else 64
        self._tables: dict[str, Tables] | None = None
        self._id = 0

    def forward(self, x: Tensor, synthesis: bool = True) -> CodecOutput:
        """Latents, likelihoods and, with synthesis, the image; with gradients.

        Args:
            x: images in [0, 1], (B, 3, H, W).
            synthesis: False never runs the synthesis transform.

        In training mode the quantisation is a proxy (see the module); in eval mode y_hat is the
        decoder's and the likelihoods are those of the symbols that would be written.
        """
        if self.training:
            y_hat, likelihoods = self._entropy.train_pass(self.net, self.net.g_a(self._pad(x)))
        else:
            y = self._analysis(x)
            estimate = _Estimate()
            y_hat = self._entropy.walk(self.net, y, y.shape, estimate)
            likelihoods = estimate.likelihoods
        x_hat = self.net.g_s(y_hat) if synthesis else None
        if x_hat is not None:
            x_hat = x_hat[..., : x.shape[-2], : x.shape[-1]]
        return CodecOutput(y_hat, x_hat, likelihoods)

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        """The y_hat that a decoder would get for images in [0, 1], (B, M, h, w); no g_s.

        Equal to `decode(encode(x))` for one image. In a batch the float arithmetic of the entropy
        model may differ in the last place, so on a rare tie a symbol differs by one step.
        """
        self._demand_eval()
        y = self._analysis(x)
        return self._entropy.walk(self.net, y, y.shape, _Estimate(likelihoods_too=False))

    def encode(self, x: Tensor) -> list[bytes]:
        """Write images in [0, 1], (B, 3, H, W): one self-contained stream each.

        Raises:
            RuntimeError: the entropy coder's tables are missing; call `update()` first.
        """
        return self.encode_and_estimate(x)[0]

    @torch.no_grad()
    def encode_and_estimate(self, x: Tensor) -> tuple[list[bytes], Tensor]:
        """Streams as `encode` writes them, and the estimated bits of the same symbols, (B,)."""
        tables = self._demand_tables()
        streams, bits = [], []
        # Image by image, here and in decode: then an image's bytes do not depend on its batch.
        for image in torch.split(x, 1):
            y = self.net.g_a(self._pad(image))
            writing = _Write(tables)
            self._entropy.walk(self.net, y, y.shape, writing)
            payload = writing.writer.finish()
            streams.append(pack(Container(self._id, x.shape[-2], x.shape[-1], payload)))
            bits.append(bits_estimated(writing.likelihoods))
        return streams, torch.cat(bits)

    @torch.no_grad()
    def decode(self, streams: Sequence[bytes]) -> Tensor:
        """Read streams of images of one size back: y_hat (B, M, h, w); never runs g_s.

        Raises:
            BitstreamError: a stream is truncated, damaged, foreign or written by other weights.
            ValueError: no streams, or streams of images of different sizes.
            RuntimeError: the entropy coder's tables are missing; call `update()` first.
        """
        tables = self._demand_tables()
        containers = [unpack(stream, self._id) for stream in streams]
        if len({self._latent_size(c.height, c.width) for c in containers}) != 1:
            raise ValueError("decode needs streams of images of one size; decode others apart")
        device = next(self.net.parameters()).device
        latents = []
        for container in containers:
            h, w = self._latent_size(container.height, container.width)
            count = self._entropy.count(self.net, self.M, h, w)
            reading = _Read(tables, SymbolReader(container.payload, count), device)
            try:
                latents.append(
                    self._entropy.walk(self.net, None, torch.Size((1, self.M, h, w)), reading)
                )
            except (ValueError, RuntimeError) as error:
                raise BitstreamError(f"the stream cannot be decoded: {error}") from error
            reading.reader.finish()
        return torch.cat(latents)

    @torch.no_grad()
    def synthesis(self, y_hat: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Decoded images in [0, 1], (B, 3, H, W); size (H, W) cuts the padding off again."""
        x_hat = _one_by_one(self.net.g_s, y_hat).clamp(0, 1)
        return x_hat if size is None else x_hat[..., : size[0], : size[1]]

    def update(self) -> None:
        """Compute the entropy coder's tables from the current weights; before encode, decode."""
        tables = {"gaussian": _gaussian_tables()}
        for name, bottleneck in self._bottlenecks():
            tables[name] = _bottleneck_tables(bottleneck)
        self._tables = tables
        self._id = self._fingerprint()

    def train(self, mode: bool = True) -> Codec:
        """As in PyTorch; training makes the entropy coder's tables stale, so they go."""
        if mode:
            self._tables = None
        super().train(mode)
        return self

    def aux_loss(self) -> Tensor:
        """Loss of the entropy bottleneck's quantiles; for `aux_parameters()` alone."""
        return cast(Tensor, self.net.aux_loss())

    def aux_parameters(self) -> list[nn.Parameter]:
        """The quantiles, which only the auxiliary loss trains."""
        return [p for n, p in self.named_parameters() if n.endswith(".quantiles")]

    def main_parameters(self) -> list[nn.Parameter]:
        """All parameters that the rate-distortion loss trains."""
        return [p for n, p in self.named_parameters() if not n.endswith(".quantiles")]

    def _bottlenecks(self) -> Iterator[tuple[str, EntropyBottleneck]]:
        for module in self.net.modules():
            if isinstance(module, EntropyBottleneck):
                yield "bottleneck", module

    def _fingerprint(self) -> int:
        digest = hashlib.sha256(self.spec.arch.encode())
        for name, parameter in sorted(self.net.named_parameters()):
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
        return digest.digest()[0]

    def _analysis(self, x: Tensor) -> Tensor:
        return _one_by_one(self.net.g_a, self._pad(x))

    def _pad(self, x: Tensor) -> Tensor:
        x = x.contiguous()  # an image's bytes must not depend on the memory format it comes in
        bottom, right = (-side % self._pad_to for side in x.shape[-2:])
        # Zeros would give every picture an edge to code.
        return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x

    def _latent_size(self, height: int, width: int) -> tuple[int, int]:
        padded = (side + -side % self._pad_to for side in (height, width))
        h, w = (side // self.stride for side in padded)
        return h, w

    def _demand_eval(self) -> None:
        if self.training:
            raise RuntimeError("the codec is in training mode: call eval() first")

    def _demand_tables(self) -> dict[str, Tables]:
        self._demand_eval()
        if self._tables is None:
            raise RuntimeError("the entropy coder has no tables: call update() first")
        return self._tables


# --- coding: what happens to a value when the entropy model is walked -------------------------


class _Estimate:
    """Quantises, and keeps the likelihoods of the symbols."""

    def __init__(self, likelihoods_too: bool = True) -> None:
        self._likelihoods_too = likelihoods_too
        self._parts: dict[str, list[Tensor]] = {}

    @property
    def likelihoods(self) -> Likelihoods:
        """Per symbol, (B, symbols), for `y` and, where there are hyper-latents, `z`."""
        return {part: torch.cat(tensors, 1) for part, tensors in self._parts.items()}

    def gaussian(
        self, prior: GaussianConditional, y: Tensor | None, scales: Tensor, means: Tensor | None
    ) -> Tensor:
        assert y is not None
        y_hat = _symbols(y, means)
        y_hat = y_hat if means is None else y_hat + means
        if self._likelihoods_too:
            self._keep("y", prior.likelihood_lower_bound(prior._likelihood(y_hat, scales, means)))
        # In one memory format here and in the decoder: convolutions round differently by format,
        # and a scale on the other side of a table's step is another distribution.
        return y_hat.contiguous()

    def bottleneck(
        self, prior: EntropyBottleneck, z: Tensor | None, shape: torch.Size, part: str
    ) -> Tensor:
        assert z is not None
        medians = _medians(prior)
        z_hat = _symbols(z, medians) + medians
        if self._likelihoods_too:
            self._keep(part, prior(z_hat, training=False)[1])
        return z_hat.contiguous()

    def _keep(self, part: str, likelihoods: Tensor) -> None:
        self._parts.setdefault(part, []).append(likelihoods.flatten(1))


class _Write(_Estimate):
    """The same, and writes the symbols."""

    def __init__(self, tables: Mapping[str, Tables]) -> None:
        super().__init__()
        self._tables = tables
        self.writer = SymbolWriter()

    def gaussian(
        self, prior: GaussianConditional, y: Tensor | None, scales: Tensor, means: Tensor | None
    ) -> Tensor:
        assert y is not None
        symbols = _symbols(y, means).int()
        self.writer.write(self._tables["gaussian"], _scale_rows(scales), symbols)
        return super().gaussian(prior, y, scales, means)

    def bottleneck(
        self, prior: EntropyBottleneck, z: Tensor | None, shape: torch.Size, part: str
    ) -> Tensor:
        assert z is not None
        symbols = _symbols(z, _medians(prior)).int()
        self.writer.write(self._tables["bottleneck"], _channel_rows(shape), symbols)
        return super().bottleneck(prior, z, shape, part)


class _Read:
    """Reads symbols; the values to code are not known."""

    def __init__(
        self, tables: Mapping[str, Tables], reader: SymbolReader, device: torch.device
    ) -> None:
        self._tables = tables
        self._device = device
        self.reader = reader

    def gaussian(
        self, prior: GaussianConditional, y: Tensor | None, scales: Tensor, means: Tensor | None
    ) -> Tensor:
        symbols = self.reader.read(self._tables["gaussian"], _scale_rows(scales))
        symbols = symbols.to(self._device, torch.float32)
        return symbols if means is None else (symbols + means).contiguous()

    def bottleneck(
        self, prior: EntropyBottleneck, z: Tensor | None, shape: torch.Size, part: str
    ) -> Tensor:
        symbols = self.reader.read(self._tables["bottleneck"], _channel_rows(shape))
        medians = _medians(prior)
        return symbols.to(self._device, torch.float32) + medians


_Coding = _Estimate | _Write | _Read


def _one_by_one(transform: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """A transform of each image; on a CPU apart, which halves the time as it stays in the cache."""
    if batch.device.type != "cpu":
        return transform(batch)
    return torch.cat([transform(image) for image in torch.split(batch, 1)])


def _symbols(values: Tensor, means: Tensor | None) -> Tensor:
    return torch.round(values if means is None else values - means)


def _medians(prior: EntropyBottleneck) -> Tensor:
    return cast(Tensor, prior._get_medians()).detach().reshape(1, -1, 1, 1)


@functools.cache
def _scale_table() -> Tensor:
    return cast(Tensor, get_scale_table())


def _scale_rows(scales: Tensor) -> Tensor:
    """The table row of each scale: the first one that is at least as wide, the last at most."""
    return torch.bucketize(scales.cpu(), _scale_table()[:-1])


def _channel_rows(shape: torch.Size) -> Tensor:
    return torch.arange(shape[1]).reshape(1, -1, 1, 1).expand(shape)


@functools.cache
def _gaussian_tables() -> Tables:
    prior = GaussianConditional(None)
    prior.update_scale_table(_scale_table().tolist())
    return Tables.of(prior.quantized_cdf, prior.cdf_length, prior.offset)


def _bottleneck_tables(bottleneck: EntropyBottleneck) -> Tables:
    prior = copy.deepcopy(bottleneck).cpu()
    # The tails exactly, however far the auxiliary loss has come; the medians stay, as training
    # rounds around them.
    medians = prior.quantiles.detach()[:, :, 1].clone()
    prior._update_quantiles()
    with torch.no_grad():
        prior.quantiles[:, :, 1] = medians
    prior.update(force=True)
    return Tables.of(prior.quantized_cdf, prior.cdf_length, prior.offset)


# --- the families of entropy models -----------------------------------------------------------


class _Entropy:
    """How one family of CompressAI models codes its latents; has no parameters of its own."""

    def train_pass(self, net: Any, y: Tensor) -> tuple[Tensor, Likelihoods]:
        """y_hat with straight-through gradients, and the likelihoods of y plus noise."""
        raise NotImplementedError

    def walk(self, net: Any, y: Tensor | None, shape: torch.Size, coding: _Coding) -> Tensor:
        """Code the latents y, or read them where y is None; returns y_hat of that shape."""
        raise NotImplementedError

    def count(self, net: Any, M: int, h: int, w: int) -> int:
        """Symbols per image."""
        z: int = self.bottleneck(net).channels
        return M * h * w + z * -(-h // 4) * -(-w // 4)

    def bottleneck(self, net: Any) -> Any:
        return net.entropy_bottleneck


class _Factorized(_Entropy):
    """bmshj2018-factorized: every channel has its own distribution."""

    def train_pass(self, net: Any, y: Tensor) -> tuple[Tensor, Likelihoods]:
        y_hat, likelihoods = _bottleneck_pass(net.entropy_bottleneck, y)
        return y_hat, {"y": likelihoods}

    def walk(self, net: Any, y: Tensor | None, shape: torch.Size, coding: _Coding) -> Tensor:
        return coding.bottleneck(net.entropy_bottleneck, y, shape, "y")

    def count(self, net: Any, M: int, h: int, w: int) -> int:
        return M * h * w


class _Hyperprior(_Entropy):
    """bmshj2018-hyperprior and mbt2018-mean: scales, and means, from hyper-latents z."""

    def __init__(self, means: bool) -> None:
        self._means = means

    def _analysis(self, net: Any, y: Tensor) -> Tensor:
        return cast(Tensor, net.h_a(y if self._means else y.abs()))

    def _parameters(self, net: Any, z_hat: Tensor) -> tuple[Tensor, Tensor | None]:
        parameters = net.h_s(z_hat)
        if not self._means:
            return parameters, None
        scales, means = parameters.chunk(2, 1)
        return scales, means

    def train_pass(self, net: Any, y: Tensor) -> tuple[Tensor, Likelihoods]:
        z_hat, z_likelihoods = _bottleneck_pass(net.entropy_bottleneck, self._analysis(net, y))
        scales, means = self._parameters(net, z_hat)
        _, y_likelihoods = net.gaussian_conditional(y, scales, means=means)
        y_hat = quantize_ste(y) if means is None else quantize_ste(y - means) + means
        return y_hat, {"y": y_likelihoods, "z": z_likelihoods}

    def walk(self, net: Any, y: Tensor | None, shape: torch.Size, coding: _Coding) -> Tensor:
        z = None if y is None else self._analysis(net, y)
        z_hat = coding.bottleneck(net.entropy_bottleneck, z, _hyper_shape(net, shape), "z")
        return coding.gaussian(net.gaussian_conditional, y, *self._parameters(net, z_hat))


class _Autoregressive(_Entropy):
    """mbt2018 and cheng2020: means and scales also from the latents above and to the left."""

    def train_pass(self, net: Any, y: Tensor) -> tuple[Tensor, Likelihoods]:
        z_hat, z_likelihoods = _bottleneck_pass(net.entropy_bottleneck, net.h_a(y))
        context = net.context_prediction(net.gaussian_conditional.quantize(y, "noise"))
        parameters = net.entropy_parameters(torch.cat((net.h_s(z_hat), context), 1))
        scales, means = parameters.chunk(2, 1)
        _, y_likelihoods = net.gaussian_conditional(y, scales, means=means)
        return quantize_ste(y - means) + means, {"y": y_likelihoods, "z": z_likelihoods}

    def walk(self, net: Any, y: Tensor | None, shape: torch.Size, coding: _Coding) -> Tensor:
        z = None if y is None else net.h_a(y)
        z_hat = coding.bottleneck(net.entropy_bottleneck, z, _hyper_shape(net, shape), "z")
        side = net.h_s(z_hat)
        layer = net.context_prediction
        weight = layer.weight * layer.mask
        reach = layer.kernel_size[0] // 2
        # Positions that are not coded yet are under the mask, so their zeros do not matter.
        canvas = F.pad(torch.zeros(shape, device=side.device), (reach,) * 4)
        for row in range(shape[2]):
            for column in range(shape[3]):
                window = canvas[..., row : row + 2 * reach + 1, column : column + 2 * reach + 1]
                context = F.conv2d(window, weight, layer.bias)
                here = side[..., row : row + 1, column : column + 1]
                scales, means = net.entropy_parameters(torch.cat((here, context), 1)).chunk(2, 1)
                value = None if y is None else y[..., row : row + 1, column : column + 1]
                y_hat = coding.gaussian(net.gaussian_conditional, value, scales, means)
                canvas = canvas.clone() if torch.is_grad_enabled() else canvas
                canvas[..., row + reach, column + reach] = y_hat[..., 0, 0]
        return canvas[..., reach:-reach, reach:-reach].contiguous()


class _ChannelGroups(_Entropy):
    """ELIC: groups of channels, each in two checkerboard passes (arXiv 2203.10886)."""

    def bottleneck(self, net: Any) -> Any:
        return net.latent_codec.hyper.entropy_bottleneck

    def train_pass(self, net: Any, y: Tensor) -> tuple[Tensor, Likelihoods]:
        # CompressAI's own pass quantises as the module's docstring says.
        out = net.latent_codec(y)
        return out["y_hat"], out["likelihoods"]

    def walk(self, net: Any, y: Tensor | None, shape: torch.Size, coding: _Coding) -> Tensor:
        hyper, groups = net.latent_codec.hyper, net.latent_codec.y
        z = None if y is None else hyper.h_a(y)
        z_shape = torch.Size(
            (shape[0], hyper.entropy_bottleneck.channels, shape[2] // 4, shape[3] // 4)
        )
        z_hat = coding.bottleneck(hyper.entropy_bottleneck, z, z_shape, "z")
        side = hyper.h_s(z_hat)
        done: list[Tensor] = []
        parts = [None] * len(groups.groups) if y is None else torch.split(y, groups.groups, 1)
        for k, part in enumerate(parts):
            board = groups.latent_codec[f"y{k}"]
            cells = board.unembed(groups._get_ctx_params(k, side, done))
            values = (None, None) if part is None else board.unembed(part)
            anchors, others = torch.zeros(
                2, shape[0], groups.groups[k], shape[2], shape[3] // 2, device=side.device
            )
            for step in range(2):
                context = board.unembed(
                    board.context_prediction(board.embed(torch.stack((anchors, others))))
                )[step]
                # Nothing is known at the anchors: not even the context layer's bias is used.
                context = torch.zeros_like(context) if step == 0 else context
                parameters = board.entropy_parameters(board.merge(context, cells[step]))
                scales, means = board.latent_codec["y"]._chunk(parameters)
                prior = board.latent_codec["y"].gaussian_conditional
                y_hat = coding.gaussian(prior, values[step], scales, means)
                anchors, others = (y_hat, others) if step == 0 else (anchors, y_hat)
            done.append(board.embed(torch.stack((anchors, others))))
        return torch.cat(done, 1)


def _hyper_shape(net: Any, shape: torch.Size) -> torch.Size:
    return torch.Size((shape[0], net.entropy_bottleneck.channels, shape[2] // 4, shape[3] // 4))


def _bottleneck_pass(bottleneck: Any, z: Tensor) -> tuple[Tensor, Tensor]:
    _, likelihoods = bottleneck(z)
    medians = bottleneck._get_medians().reshape(1, -1, 1, 1)
    return quantize_ste(z - medians) + medians, likelihoods


# --- building, loading, saving ----------------------------------------------------------------


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


_ARCHS: dict[str, tuple[Callable[[CodecSpec], CompressionModel], _Entropy]] = {
    "bmshj2018-factorized": (lambda s: FactorizedPrior(s.N, s.M), _Factorized()),
    "bmshj2018-hyperprior": (lambda s: ScaleHyperprior(s.N, s.M), _Hyperprior(means=False)),
    "mbt2018-mean": (lambda s: MeanScaleHyperprior(s.N, s.M), _Hyperprior(means=True)),
    "mbt2018": (
        lambda s: JointAutoregressiveHierarchicalPriors(s.N, s.M),
        _Autoregressive(),
    ),
    "cheng2020-anchor": (lambda s: Cheng2020Anchor(s.N), _Autoregressive()),
    "cheng2020-attn": (lambda s: Cheng2020Attention(s.N), _Autoregressive()),
    "elic2022-chandelier": (_elic, _ChannelGroups()),
}


def build_codec(spec: CodecSpec) -> Codec:
    """A codec with fresh weights (from the global random generator), in training mode."""
    build, entropy = _ARCHS[spec.arch]
    return Codec(spec, build(spec), entropy)


def save_codec(codec: Codec, directory: Path) -> None:
    """Write the parameters under CompressAI's names to `directory/model.safetensors`."""
    directory.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in codec.net.named_parameters()}
    save_file(state, directory / WEIGHTS_FILE)


def mismatches(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """What keeps given weights from fitting: missing, unknown and wrongly shaped names."""
    problems = [f"{name} is missing" for name in own if name not in given]
    problems += [f"{name} is unknown" for name in given if name not in own]
    return problems + [
        f"{name} is {tuple(given[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]


def load_weights(codec: Codec, file: Path) -> None:
    """Load safetensors with CompressAI's names (any float type) into a codec.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape: not weights of this codec.
    """
    # CompressAI's buffers are constants, some too small for half precision, and tables that are
    # computed from the parameters: none is taken from a file.
    buffers = {name for name, _ in codec.net.named_buffers()}
    given = {k: v for k, v in load_file(file).items() if k not in buffers}
    own = dict(codec.net.named_parameters())
    problems = mismatches(own, given)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(
            f"{file} does not hold weights of {codec.spec.label} (N={codec.spec.N}, "
            f"M={codec.M}): {'; '.join(problems[:3])}{more}"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(given[name])


def load_codec(spec: CodecSpec, directory: Path) -> Codec:
    """The codec saved in a directory, frozen, in eval mode, ready to encode and decode."""
    codec = build_codec(spec)
    load_weights(codec, directory / WEIGHTS_FILE)
    codec.eval().requires_grad_(False)
    codec.update()
    return codec

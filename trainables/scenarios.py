"""What each scenario means: what it trains, on which loss, from what data, and how it sees.

    scenario         trained       loss                                          reads in training
    (base codec)     codec         R + lambda 255^2 MSE                          images
    d1               neck          surrogate: alpha CE + beta L_dist             latents, features
    d2               codec, neck   R + lambda (gamma MSE + delta L_dist)         images, features
    d3               codec, neck   R + lambda delta L_dist; never runs g_s       images, features
    post_processing  U-Net         surrogate, through the complete encoder       images, features
    reconstruction   nothing       -                                             -
    classical        nothing       -                                             -
    uncompressed     nothing       -                                             -

    scenario         enters an encoder with
    d1, d2, d3       y_hat -> neck -> encoder blocks k ..
    post_processing  y_hat -> g_s -> U-Net -> complete encoder
    reconstruction   y_hat -> g_s -> complete encoder
    classical        file of a standard's codec -> complete encoder
    uncompressed     image -> complete encoder

R is in bits per pixel, MSE on the [0, 1] scale; d2 and d3 start from d1's neck and the base codec.
*Bridging Compressed Image Latents and Multimodal Large Language Models* (ICLR 2025, arXiv
2407.19651), sections 3.3 and 3.4.

Shapes: `B` images, `M` latent channels, `T` tokens of the encoder, `D` width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from search_spaces.codec_spec import CodecSpec
from search_spaces.points import OperatingPoint
from search_spaces.spec import Space
from search_spaces.zoo import LAMBDAS
from trainables.bridge import Entry
from trainables.codecs import (
    Codec,
    CodecOutput,
    bits_estimated,
    build_codec,
    fill,
    load_codec,
    mismatches,
)
from trainables.data import Batch
from trainables.encoder import Features, PartialEncoder, Teacher
from trainables.images.classical import ClassicalCodec
from trainables.neck import TransformNeck
from trainables.released import read_weights
from trainables.surrogate import cross_entropy, distillation, phase_at
from trainables.tower import Tower, load_tower
from trainables.unet import UNet

POINT_FILE = "model.safetensors"


@dataclass(frozen=True)
class Group:
    """Parameters that are trained alike."""

    parameters: list[nn.Parameter]
    lr: float
    main: bool = True
    """False for the quantiles of an entropy bottleneck: constant rate, gradient not clipped."""


class Learner(nn.Module):
    """One scenario in training: `forward` gives a step's loss, `validate` the fixed metric.

    Its parameters with `requires_grad` are exactly what the scenario trains; the rest is frozen
    and stays in evaluation mode.
    """

    columns: tuple[str, ...]
    """What batches must hold."""

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Mean over the batch of `loss`, which is minimised, and of its terms.

        Where there is an `aux`, it is minimised too: the loss of an entropy bottleneck's
        quantiles, which have no gradient from `loss`, and nothing else has one from `aux`.
        """
        raise NotImplementedError

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Mean over the batch of `loss`, by which the best weights are chosen, and of others."""
        raise NotImplementedError

    def groups(self) -> list[Group]:
        """All trained parameters with their learning rates."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> Learner:
        """As in PyTorch, but what is frozen stays in evaluation mode."""
        super().train(mode)
        for child in self.children():
            child.train(mode and any(p.requires_grad for p in child.parameters()))
        return self

    def trained(self) -> dict[str, Tensor]:
        """Names and values of what is trained: `neck.*`, `unet.*`, `codec.*`."""
        return {n: p.detach() for n, p in self.named_parameters() if p.requires_grad}

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Set what is trained; the names must be exactly those of `trained()`."""
        _overlay(self.trained(), state)


class CodecLearner(Learner):
    """A base codec: R + lambda * 255^2 * MSE.

    A variable-rate codec sees one of its rates, drawn at random, per step, with the lambda of that
    rate; its validation is the mean over all.
    """

    columns = ("image",)

    def __init__(self, codec: Codec, lmbda: float) -> None:
        super().__init__()
        self.codec = codec.requires_grad_(True)
        self._lambdas = (lmbda,) if codec.rates == 1 else LAMBDAS["mse"][: codec.rates]

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss`, `bpp_estimated`, `mse` and `aux`."""
        if self.codec.rates > 1:
            self.codec.rate = int(torch.randint(self.codec.rates, ()))
        return {**self._terms(batch), "aux": self.codec.aux_loss()}

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, `bpp_estimated`, `mse`, `psnr`."""
        found: list[dict[str, Tensor]] = []
        for rate in range(self.codec.rates):
            self.codec.rate = rate
            found.append(self._terms(batch))
        return {name: torch.stack([terms[name] for terms in found]).mean(0) for name in found[0]}

    def groups(self) -> list[Group]:
        """The codec's parameters and its quantiles."""
        spec = self.codec.spec.train
        return _codec_groups(self.codec, spec.lr, spec.aux_lr)

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.image is not None
        output = self.codec(batch.image)
        bpp = _bpp(output, batch.image)
        terms = {"bpp_estimated": bpp, **_image_terms(output, batch.image, self.training)}
        weight = self._lambdas[self.codec.rate] * 255**2
        return {"loss": bpp + weight * terms["mse"], **terms}


class NeckLearner(Learner):
    """d1: the neck alone, on stored latents and the teacher's stored features."""

    def __init__(
        self, space: Space, neck: TransformNeck, tower: Tower, text: Tensor | None
    ) -> None:
        super().__init__()
        self.neck = neck
        self.encoder = partial_encoder(space, tower)
        self._space = space
        self.text_weights: Tensor | None
        self.register_buffer("text_weights", text, persistent=False)
        self.columns = ("y_hat", *_feature_columns(space), *_class_column(space))

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss` of the step's phase and its terms, of `ce`, `distill`, `pooled`, `tokens`."""
        assert batch.y_hat is not None
        phase = phase_at(self._space.surrogate, step, self._space.d1.steps)
        spec = self._space.surrogate
        student = self.encoder(
            self.neck(batch.y_hat),
            pooled=bool(phase.ce or (phase.distill and spec.pooled)),
            tokens=bool(phase.distill and spec.tokens),
        )
        return _surrogate_terms(
            self._space, student, batch, self.text_weights, phase.ce, phase.distill
        )

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`: the distillation loss, whatever the phase, and its terms."""
        assert batch.y_hat is not None
        return _distillation_terms(self._space, self.encoder, self.neck(batch.y_hat), batch)

    def groups(self) -> list[Group]:
        """The neck, its linear layer apart."""
        spec = self._space.d1
        linear = list(self.neck.linear.parameters())
        rest = [p for name, p in self.neck.named_parameters() if not name.startswith("linear.")]
        return [Group(linear, spec.linear_lr or spec.lr), Group(rest, spec.lr)]


class JointLearner(Learner):
    """d2 and d3: codec and neck; d3 is d2 without the image, so it never runs g_s."""

    def __init__(
        self,
        space: Space,
        scenario: str,
        codec: Codec,
        neck: TransformNeck,
        tower: Tower,
        lmbda: float,
    ) -> None:
        super().__init__()
        assert scenario in ("d2", "d3")
        self.codec = codec.requires_grad_(True)
        self.neck = neck
        self.encoder = partial_encoder(space, tower)
        self._space = space
        self._spec = space.d2 if scenario == "d2" else space.d3
        self._synthesis = scenario == "d2"
        self._lmbda = lmbda
        self.columns = ("image", *_feature_columns(space))
        if not self._synthesis:
            self.codec.net.g_s.requires_grad_(False)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss`, its terms and `aux`."""
        return {**self._terms(batch), "aux": self.codec.aux_loss()}

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`: the rate-distortion objective, and its terms; `psnr` where there is an image."""
        return self._terms(batch)

    def groups(self) -> list[Group]:
        """The neck, the codec's parameters (without g_s in d3) and its quantiles."""
        codec = _codec_groups(self.codec, self._spec.codec_lr, self.codec.spec.train.aux_lr)
        return [Group(list(self.neck.parameters()), self._spec.lr), *codec]

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.image is not None
        output = self.codec(batch.image, synthesis=self._synthesis)
        bpp = _bpp(output, batch.image)
        terms = _distillation_terms(self._space, self.encoder, self.neck(output.y_hat), batch)
        distortion = self._spec.delta * terms["distill"]
        if self._synthesis:
            terms |= _image_terms(output, batch.image, self.training)
            distortion = distortion + self._spec.gamma * terms["mse"]
        return {**terms, "bpp_estimated": bpp, "loss": bpp + self._lmbda * distortion}


class UNetLearner(Learner):
    """post_processing: a U-Net on the frozen codec's decoded image, through the teacher.

    Decodes stored latents where there are any (`from_latents`), else computes them from images.
    """

    def __init__(
        self,
        space: Space,
        unet: UNet,
        codec: Codec,
        tower: Tower,
        text: Tensor | None,
        from_latents: bool,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.codec = codec.requires_grad_(False)
        self.encoder = complete_encoder(space, tower)
        self._space = space
        self.text_weights: Tensor | None
        self.register_buffer("text_weights", text, persistent=False)
        source = "y_hat" if from_latents else "image"
        self.columns = (source, *_feature_columns(space), *_class_column(space))

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss` of the step's phase and its terms, of `ce`, `distill`, `pooled`, `tokens`."""
        spec = self._space.surrogate
        phase = phase_at(spec, step, self._space.post_processing.steps)
        student = self.encoder(
            self.unet(self._decoded(batch)),
            pooled=bool(phase.ce or (phase.distill and spec.pooled)),
            tokens=bool(phase.distill and spec.tokens),
        )
        return _surrogate_terms(
            self._space, student, batch, self.text_weights, phase.ce, phase.distill
        )

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`: the distillation loss, whatever the phase, and its terms."""
        return _distillation_terms(
            self._space, self.encoder, self.unet(self._decoded(batch)), batch
        )

    def groups(self) -> list[Group]:
        """The U-Net."""
        return [Group(list(self.unet.parameters()), self._space.post_processing.lr)]

    @torch.no_grad()
    def _decoded(self, batch: Batch) -> Tensor:
        if batch.y_hat is not None:
            return self.codec.synthesis(batch.y_hat)
        assert batch.image is not None
        return self.codec.synthesis(self.codec.latents(batch.image))


class PointModel:
    """An operating point in use: how an image enters an encoder. Evaluation mode, no gradients.

    Attributes:
        codec: whose streams it reads, ready to encode and decode; None for `uncompressed` and
            `classical`.
        classical: whose files it reads, of `classical`.
        encoder: the teacher from where this point enters it: complete, or from block k on.
    """

    def __init__(
        self,
        scenario: str,
        encoder: PartialEncoder | Teacher,
        codec: Codec | None = None,
        neck: TransformNeck | None = None,
        unet: UNet | None = None,
        classical: ClassicalCodec | None = None,
    ) -> None:
        self.scenario = scenario
        self.classical = classical
        self.encoder = encoder.eval()
        self.codec = codec.eval() if codec is not None else None
        self.neck = neck.eval() if neck is not None else None
        self.unet = unet.eval() if unet is not None else None

    def to(self, device: torch.device) -> PointModel:
        """Move all its parts."""
        for part in self._parts().values():
            part.to(device)
        return self

    @torch.no_grad()
    def enter(self, image: Tensor, y_hat: Tensor | None) -> tuple[Entry, Tensor | None]:
        """What of an image enters a visual encoder, and where.

        Args:
            image: (B, 3, H, W) in [0, 1], of `classical` as decoded; looked at by `uncompressed`
                and `classical` alone.
            y_hat: decoded latents (B, M, h, w); None for these two.

        Returns:
            The entry, and the decoded image where it needed one.
        """
        if self.codec is None:
            return Entry(image, None), None if self.classical is None else image
        assert y_hat is not None
        if self.neck is not None:
            assert isinstance(self.encoder, PartialEncoder)
            return Entry(self.neck(y_hat), self.encoder.first), None
        x_hat = self.codec.synthesis(y_hat)[..., : image.shape[-2], : image.shape[-1]]
        return Entry(x_hat if self.unet is None else self.unet(x_hat), None), x_hat

    @torch.no_grad()
    def reconstruct(self, y_hat: Tensor) -> Tensor | None:
        """The decoded image, (B, 3, H, W) in [0, 1], as people see it (before any U-Net).

        None for `uncompressed` and for d3, whose latents the synthesis transform no longer knows.
        """
        if self.codec is None or self.scenario == "d3":
            return None
        return self.codec.synthesis(y_hat)

    def parameters(self) -> dict[str, int]:
        """Number of parameters of each part."""
        return {
            name: sum(p.numel() for p in part.parameters()) for name, part in self._parts().items()
        }

    def _parts(self) -> dict[str, nn.Module]:
        parts = {"encoder": self.encoder, "codec": self.codec, "neck": self.neck, "unet": self.unet}
        return {name: part for name, part in parts.items() if part is not None}


def load_point(
    space: Space, point: OperatingPoint, codec_dir: Path | None, point_dir: Path
) -> PointModel:
    """An operating point as it was trained, ready to use.

    Args:
        codec_dir: the base codec's directory; None for `uncompressed`.
        point_dir: the operating point's own directory.

    Raises:
        ValueError: the stored weights are not exactly those that the scenario trains.
    """
    tower = load_tower(space.teacher.model)
    if point.classical is not None:
        assert point.quality is not None
        files = ClassicalCodec(point.classical.format, point.quality)
        return PointModel(point.scenario, complete_encoder(space, tower), classical=files)
    if point.codec is None:
        return PointModel(point.scenario, complete_encoder(space, tower))
    assert codec_dir is not None
    codec = load_point_codec(point, codec_dir, point_dir)
    if point.scenario == "reconstruction":
        return PointModel(point.scenario, complete_encoder(space, tower), codec)
    state = load_file(point_dir / POINT_FILE)
    if point.scenario == "post_processing":
        unet = build_unet(space)
        _overlay(_named(unet=unet), state)
        return PointModel(point.scenario, complete_encoder(space, tower), codec, unet=unet)
    neck = build_neck(space, point.codec, tower)
    if point.scenario in ("d2", "d3"):
        state = {n: v for n, v in state.items() if not n.startswith("codec.")}
    _overlay(_named(neck=neck), state)
    return PointModel(point.scenario, partial_encoder(space, tower), codec, neck)


def load_point_codec(point: OperatingPoint, codec_dir: Path, point_dir: Path) -> Codec:
    """An operating point's codec, frozen, ready to encode and decode: d2's and d3's own.

    Args:
        codec_dir, point_dir: as in `load_point`.

    Raises:
        ValueError: the stored weights are not exactly those that the scenario trains.
    """
    assert point.codec is not None
    codec = load_codec(point.codec, codec_dir)
    if point.scenario not in ("d2", "d3"):
        return codec
    state = load_file(point_dir / POINT_FILE)
    trained = _without_unused(point.scenario, _named(codec=codec))
    _overlay(trained, {n: v for n, v in state.items() if n.startswith("codec.")})
    codec.update()
    return codec


def save_trained(state: Mapping[str, Tensor], directory: Path) -> None:
    """Write what a scenario trained, as `load_point` reads it."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(tensors, directory / POINT_FILE)


def build_neck(space: Space, codec: CodecSpec, tower: Tower) -> TransformNeck:
    """A fresh neck between a codec and the space's teacher."""
    from_encoder = space.neck.init == "encoder"
    neck = TransformNeck(
        latent_channels=codec.M,
        encoder=tower.sizes,
        heads=space.neck.heads,
        layers=space.neck.layers,
        mlp_ratio=space.neck.mlp_ratio,
        norm=tower.pre_norm is not None or not from_encoder,
    )
    if from_encoder:
        neck.start_from(tower, space.teacher.block)
    return neck


def load_neck(space: Space, codec: CodecSpec, tower: Tower, d1: Path) -> TransformNeck:
    """The neck of a trained d1 point."""
    neck = build_neck(space, codec, tower)
    _overlay(_named(neck=neck), load_file(d1 / POINT_FILE))
    return neck


def released_point(
    space: Space, point: OperatingPoint, file: Path
) -> tuple[dict[str, Tensor], str]:
    """What a scenario would have trained, from a released file; and where that comes from.

    The codec that a file of d1 holds must be the base codec; only its neck is taken.

    Raises:
        ValueError: the file does not hold exactly what the scenario trains.
    """
    assert point.codec is not None
    found = read_weights(file)
    neck = build_neck(space, point.codec, load_tower(space.teacher.model))
    codec = build_codec(point.codec)
    fill(codec, found.codec, str(file))
    trained = _named(neck=neck)
    problems = mismatches(trained, {f"neck.{name}": value for name, value in found.neck.items()})
    if problems:
        lines = "\n  ".join(problems)
        raise ValueError(f"{file} does not hold the neck of {point.label}:\n  {lines}")
    state = {name: found.neck[name.removeprefix("neck.")].float() for name in trained}
    if point.scenario != "d1":
        state |= _named(codec=codec)
    return _without_unused(point.scenario, state), found.origin


def _without_unused(scenario: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what a scenario does not train: d3 leaves the synthesis transform alone."""
    unused = "codec.net.g_s." if scenario == "d3" else None
    return {n: v for n, v in state.items() if unused is None or not n.startswith(unused)}


def build_unet(space: Space) -> UNet:
    """A fresh U-Net of the space's size."""
    return UNet(space.post_processing.channels, space.post_processing.levels)


def partial_encoder(space: Space, tower: Tower) -> PartialEncoder:
    """The space's teacher from block k on."""
    return PartialEncoder(
        tower,
        space.teacher.block,
        space.surrogate.token_layer,
        space.surrogate.double_norm,
        space.resources.checkpoint_blocks,
    )


def complete_encoder(space: Space, tower: Tower) -> Teacher:
    """The space's teacher."""
    surrogate = space.surrogate
    return Teacher(
        tower, surrogate.token_layer, surrogate.double_norm, space.resources.checkpoint_blocks
    )


def _named(**modules: nn.Module) -> dict[str, Tensor]:
    return {
        f"{prefix}.{name}": parameter.detach()
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters()
    }


@torch.no_grad()
def _overlay(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Copy stored values into parameters; names and shapes must agree exactly."""
    problems = mismatches(own, given)
    if problems:
        raise ValueError(f"stored weights do not fit: {'; '.join(problems[:5])}")
    for name, value in own.items():
        value.copy_(given[name])


def _feature_columns(space: Space) -> tuple[str, ...]:
    weights = {"pooled": space.surrogate.pooled, "tokens": space.surrogate.tokens}
    return tuple(name for name, weight in weights.items() if weight)


def _class_column(space: Space) -> tuple[str, ...]:
    return ("classes",) if any(phase.ce for phase in space.surrogate.phases) else ()


def _codec_groups(codec: Codec, lr: float, aux_lr: float) -> list[Group]:
    trained = [p for p in codec.main_parameters() if p.requires_grad]
    return [Group(trained, lr), Group(codec.aux_parameters(), aux_lr, main=False)]


def _bpp(output: CodecOutput, image: Tensor) -> Tensor:
    pixels = image.shape[-2] * image.shape[-1]
    return bits_estimated(output.likelihoods).mean() / pixels


def _image_terms(output: CodecOutput, image: Tensor, training: bool) -> dict[str, Tensor]:
    assert output.x_hat is not None
    terms = {"mse": F.mse_loss(output.x_hat, image)}
    if not training:
        # As people see it: clamped, and the mean of the images' decibels.
        errors = (output.x_hat.clamp(0, 1) - image).square().flatten(1).mean(1)
        terms["psnr"] = (-10 * errors.clamp(min=1e-10).log10()).mean()
    return terms


def _surrogate_terms(
    space: Space,
    student: Features,
    batch: Batch,
    text: Tensor | None,
    ce: float,
    distill: float,
) -> dict[str, Tensor]:
    parts: list[Tensor] = []
    terms: dict[str, Tensor] = {}
    if ce:
        assert student.pooled is not None
        assert batch.classes is not None
        assert text is not None, "the cross-entropy needs the classes' text weights"
        terms["ce"] = cross_entropy(student.pooled, text, batch.classes)
        parts.append(ce * terms["ce"])
    if distill:
        total, split = distillation(space.surrogate, student, Features(batch.pooled, batch.tokens))
        terms |= {"distill": total, **split}
        parts.append(distill * total)
    return {"loss": sum(parts[1:], parts[0]), **terms}


def _distillation_terms(
    space: Space, encoder: PartialEncoder | Teacher, given: Tensor, batch: Batch
) -> dict[str, Tensor]:
    spec = space.surrogate
    student = encoder(given, pooled=bool(spec.pooled), tokens=bool(spec.tokens))
    total, split = distillation(spec, student, Features(batch.pooled, batch.tokens))
    return {"loss": total, "distill": total, **split}

"""What each scenario means: what it trains, on which loss, and from what data.

    scenario           trained       loss                                        reads in training
    (base codec)       codec         R + lambda 255^2 MSE                        images
    d1                 neck          surrogate: alpha CE + beta L_dist           latents, features
    d2                 codec, neck   R + lambda (gamma MSE + delta L_dist)       images, features
    d3                 codec, neck   R + lambda delta L_dist; never runs g_s     images, features
    post_processing    U-Net         surrogate, through the complete encoder     images, features
    feature_coding     token codec   R + lambda MSE of tokens (competitors.py)   images
    shared_neck        once: neck    d1's, on latents of all rates in turn       latents, features
    transfer           nothing       takes another codec's neck of d1            -
    transfer_tuned     neck          d1's, from another codec's neck             latents, features
    end_to_end_oracle  neck          the MLLM's answers (competitors.py)         latents, answers
    reconstruction     nothing       -                                           -
    classical          nothing       -                                           -
    uncompressed       nothing       -                                           -

R is in bits per pixel, MSE on the [0, 1] scale; d2, d3 and the oracle start from d1's neck. How a
point then enters an encoder stands in `points.py`.
*Bridging Compressed Image Latents and Multimodal Large Language Models* (ICLR 2025, arXiv
2407.19651), sections 3.3 and 3.4.

Shapes: `B` images, `M` latent channels, `T` tokens of the encoder, `D` width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.specs.space import Space
from trainables.codecs import Codec, CodecOutput, LatentCodec, bits_estimated
from trainables.datasets.rows import Batch
from trainables.encoders.partial_encoder import Features, PartialEncoder, Teacher
from trainables.encoders.tower import Tower
from trainables.networks.neck import TransformNeck
from trainables.networks.surrogate_loss import cross_entropy, distillation, phase_at
from trainables.networks.unet import UNet
from trainables.scenarios.building import complete_encoder, overlay, partial_encoder


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
        overlay(self.trained(), state)


class CodecLearner(Learner):
    """A base codec: R + lambda * 255^2 * MSE.

    A variable-rate codec sees one of its rates, drawn at random, per step, with the lambda of that
    rate; its validation is the mean over all.
    """

    columns = ("image",)

    def __init__(self, codec: Codec, lmbda: float) -> None:
        super().__init__()
        self.codec = codec.requires_grad_(True)
        self._lambdas = (lmbda,) if codec.rates == 1 else codec.spec.rate_table

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss`, `bpp_estimated`, `mse` and `aux`."""
        if len(self._lambdas) > 1:
            self.codec.rate = int(torch.randint(len(self._lambdas), ()))
        return {**self._terms(batch), "aux": self.codec.aux_loss()}

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, `bpp_estimated`, `mse`, `psnr`."""
        found: list[dict[str, Tensor]] = []
        for rate in range(len(self._lambdas)):
            self.codec.rate = rate
            found.append(self._terms(batch))
        return {name: torch.stack([terms[name] for terms in found]).mean(0) for name in found[0]}

    def groups(self) -> list[Group]:
        """The codec's parameters and its quantiles."""
        spec = self.codec.spec.train
        return codec_groups(self.codec, spec.lr, spec.aux_lr)

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.image is not None
        output = self.codec(batch.image)
        bpp = _bpp(output, batch.image)
        terms = {"bpp_estimated": bpp, **_image_terms(output, batch.image, self.training)}
        weight = self._lambdas[self.codec.rate] * 255**2
        return {"loss": bpp + weight * terms["mse"], **terms}


class NeckLearner(Learner):
    """d1: the neck alone, on stored latents and the teacher's stored features.

    transfer_tuned is the same from a trained neck, with the weights of the loss's last phase.
    """

    def __init__(
        self,
        space: Space,
        neck: TransformNeck,
        tower: Tower,
        text: Tensor | None,
        tuned: bool = False,
    ) -> None:
        super().__init__()
        self.neck = neck
        self._tuned = tuned
        self._spec = space.transfer if tuned else space.d1
        self.encoder = partial_encoder(space, tower)
        self._space = space
        self.text_weights: Tensor | None
        self.register_buffer("text_weights", text, persistent=False)
        self.columns = ("y_hat", *_feature_columns(space), *_class_column(space))

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss` of the step's phase and its terms, of `ce`, `distill`, `pooled`, `tokens`."""
        assert batch.y_hat is not None
        spec = self._space.surrogate
        phase = spec.phases[-1] if self._tuned else phase_at(spec, step, self._spec.steps)
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
        linear = list(self.neck.linear.parameters())
        rest = [p for name, p in self.neck.named_parameters() if not name.startswith("linear.")]
        return [Group(linear, self._spec.linear_lr or self._spec.lr), Group(rest, self._spec.lr)]


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
        codec = codec_groups(self.codec, self._spec.codec_lr, self.codec.spec.train.aux_lr)
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


def _feature_columns(space: Space) -> tuple[str, ...]:
    weights = {"pooled": space.surrogate.pooled, "tokens": space.surrogate.tokens}
    return tuple(name for name, weight in weights.items() if weight)


def _class_column(space: Space) -> tuple[str, ...]:
    return ("classes",) if any(phase.ce for phase in space.surrogate.phases) else ()


def codec_groups(codec: LatentCodec, lr: float, aux_lr: float) -> list[Group]:
    """A codec's parameters, and its quantiles apart."""
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

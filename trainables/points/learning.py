"""Learners: the contract between a training loop and what it trains, and losses that they share.

    batch, step --> Learner.forward --> loss and its terms, and the entropy bottleneck's `aux` loss
    batch       --> Learner.validate --> the fixed metric by which the best weights are chosen

R is in bits per pixel, MSE on the [0, 1] scale.
*Bridging Compressed Image Latents and Multimodal Large Language Models* (ICLR 2025, arXiv
2407.19651), sections 3.3 and 3.4.

Shapes: `B` images, `M` latent channels, `T` tokens of the encoder, `D` width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.specs.space import Space
from trainables.codecs import CodecOutput, LatentCodec, bits_estimated
from trainables.datasets.rows import Batch
from trainables.datasets.tensors import psnr_of
from trainables.encoders.partial_encoder import Features, PartialEncoder, Teacher
from trainables.networks.surrogate_loss import cross_entropy, distillation, phase_at
from trainables.points.weights import overlay


@dataclass(frozen=True)
class Group:
    """Parameters with one learning rate."""

    parameters: list[nn.Parameter]
    lr: float
    main: bool = True
    """False for the quantiles of an entropy bottleneck: constant rate, gradient not clipped."""


class Learner(nn.Module):
    """One scenario in training: `forward` gives a step's loss, `validate` the fixed metric.

    Parameters with `requires_grad` are exactly those that the scenario trains; the rest is frozen
    and stays in evaluation mode.
    """

    columns: tuple[str, ...]
    """The columns that batches must hold."""

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Means over the batch of `loss`, which is minimised, and of its terms.

        A term `aux`, the loss of an entropy bottleneck's quantiles, is minimised too. Only the
        quantiles have a gradient from `aux`, and they have none from `loss`.
        """
        raise NotImplementedError

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Means over the batch: `loss` chooses the best weights; further terms are reported."""
        raise NotImplementedError

    def groups(self) -> list[Group]:
        """All trained parameters with their learning rates."""
        raise NotImplementedError

    def settles_at(self, steps: int) -> int:
        """The step of a training of `steps` from which the loss keeps its formula."""
        return 0

    def train(self, mode: bool = True) -> Learner:
        """Set the training mode; frozen modules stay in evaluation mode."""
        super().train(mode)
        for child in self.children():
            child.train(mode and any(p.requires_grad for p in child.parameters()))
        return self

    def trained(self) -> dict[str, Tensor]:
        """The trained parameters by name, such as `neck.*` and `codec.*`."""
        return {n: p.detach() for n, p in self.named_parameters() if p.requires_grad}

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Set the trained parameters; the names must be exactly those of `trained()`."""
        overlay(self.trained(), state)


@dataclass(frozen=True)
class SurrogateSetting:
    """The ingredients of the surrogate loss.

    Attributes:
        space: its `surrogate` is the loss.
        encoder: complete or from block k on, frozen.
        text: text embeddings of the classes, (P, C); None where the loss has no cross-entropy.
        steps: of the whole training, which the loss's phases divide.
        last_phase_only: use the loss's last phase throughout.
    """

    space: Space
    encoder: PartialEncoder | Teacher
    text: Tensor | None
    steps: int
    last_phase_only: bool = False


class SurrogateLearner(Learner):
    """A network in front of a frozen encoder, trained with the surrogate loss.

    Args:
        setting: of the loss.
        source: the column of a batch that `student_input` reads.
    """

    def __init__(self, setting: SurrogateSetting, source: str) -> None:
        super().__init__()
        self.encoder = setting.encoder
        self._setting = setting
        self.text_weights: Tensor | None
        self.register_buffer("text_weights", setting.text, persistent=False)
        space = setting.space
        self.columns = (source, *feature_columns(space), *class_column(space))

    def student_input(self, batch: Batch) -> Tensor:
        """The input of the encoder that the trained network computes from a batch."""
        raise NotImplementedError

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss` of the step's phase and its terms, of `ce`, `distill`, `pooled`, `tokens`."""
        setting, spec = self._setting, self._setting.space.surrogate
        phase = spec.phases[-1] if setting.last_phase_only else phase_at(spec, step, setting.steps)
        student = self.encoder(
            self.student_input(batch),
            pooled=bool(phase.ce or (phase.distill and spec.pooled)),
            tokens=bool(phase.distill and spec.tokens),
        )
        weighted: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        if phase.ce:
            assert student.pooled is not None
            assert batch.classes is not None
            assert self.text_weights is not None, "the cross-entropy needs text weights"
            terms["ce"] = cross_entropy(student.pooled, self.text_weights, batch.classes)
            weighted.append(phase.ce * terms["ce"])
        if phase.distill:
            total, split = distillation(spec, student, Features(batch.pooled, batch.tokens))
            terms |= {"distill": total, **split}
            weighted.append(phase.distill * total)
        return {"loss": sum(weighted[1:], weighted[0]), **terms}

    def settles_at(self, steps: int) -> int:
        """The start of the loss's last phase."""
        phases = self._setting.space.surrogate.phases
        if self._setting.last_phase_only or len(phases) == 1:
            return 0
        return math.ceil(phases[-2].until * steps)

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`: the distillation loss, whatever the phase, and its terms."""
        entered = self.student_input(batch)
        return distillation_terms(self._setting.space, self.encoder, entered, batch)


def feature_columns(space: Space) -> tuple[str, ...]:
    """The columns of the teacher's features that the surrogate loss uses."""
    weights = {"pooled": space.surrogate.pooled, "tokens": space.surrogate.tokens}
    return tuple(name for name, weight in weights.items() if weight)


def class_column(space: Space) -> tuple[str, ...]:
    """The column of classes, where the surrogate loss uses it."""
    return ("classes",) if space.trains_on_classes else ()


def codec_groups(codec: LatentCodec, lr: float, aux_lr: float) -> list[Group]:
    """Two groups: a codec's parameters, and the quantiles of its entropy bottleneck."""
    trained = [p for p in codec.main_parameters() if p.requires_grad]
    return [Group(trained, lr), Group(codec.aux_parameters(), aux_lr, main=False)]


def bpp_estimated(output: CodecOutput, image: Tensor) -> Tensor:
    """The entropy model's mean estimate of bits per pixel of images (B, 3, H, W)."""
    pixels = image.shape[-2] * image.shape[-1]
    return bits_estimated(output.likelihoods).mean() / pixels


def image_terms(output: CodecOutput, image: Tensor, training: bool) -> dict[str, Tensor]:
    """`mse` of decoded images in [0, 1] and, outside training, `psnr` in dB."""
    assert output.x_hat is not None
    terms = {"mse": F.mse_loss(output.x_hat, image)}
    if not training:
        # Of the image that people see, which is clamped; a mean over the images' decibels.
        terms["psnr"] = psnr_of(output.x_hat.clamp(0, 1), image).mean()
    return terms


def distillation_terms(
    space: Space, encoder: PartialEncoder | Teacher, entered: Tensor, batch: Batch
) -> dict[str, Tensor]:
    """`loss`: the distillation loss of the encoder's input, and its terms."""
    spec = space.surrogate
    student = encoder(entered, pooled=bool(spec.pooled), tokens=bool(spec.tokens))
    total, split = distillation(spec, student, Features(batch.pooled, batch.tokens))
    return {"loss": total, "distill": total, **split}

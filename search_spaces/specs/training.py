"""Settings of training that scenarios share: teacher, neck, surrogate loss, optimiser."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from search_spaces.facts.texts import template_sets
from search_spaces.settings.paths import Location, LocationOrName, locate
from search_spaces.specs.base import Fraction, ModelName, Positive, Rate, Spec, Weight


class TeacherSpec(Spec):
    """The complete visual encoder whose features are the target."""

    model: LocationOrName = "openai/clip-vit-large-patch14"
    """`shipped:NAME`, a local directory or a hub id (`ORG/MODEL` or `ORG/MODEL@REVISION`) of a
    transformers CLIP or SigLIP, or of an MLLM, which stands for its own visual tower: tokens to
    distil, nothing pooled, no text. The paper's."""
    name: ModelName = ""
    """The `mllm` in points and plots of tasks that the encoder does alone; empty for the
    hub id or the directory's name."""
    block: Annotated[int, Field(ge=0)] = 2
    """k: the encoder block at which the neck's tokens enter, 0 to the number of blocks; the
    paper's."""


class NeckSpec(Spec):
    """The transform-neck's size; its width is the encoder's."""

    layers: Positive = 1
    """Residual attention blocks; the paper's."""
    heads: Positive | None = None
    """Attention heads; null for the encoder's number, the authors'."""
    mlp_ratio: Rate | None = None
    """Hidden width of its MLP relative to its width; null for the encoder's (4 in the paper)."""
    init: Literal["random", "encoder"] = "random"
    """`random`: PyTorch's own start of attention and linear layers, the authors'. `encoder`: from
    the part of the encoder that the neck stands in for (class token, positions, first LayerNorm,
    its last `layers` skipped blocks), its linear layer from a least-squares fit of the patch
    embeddings; ours, and needs few steps. A SigLIP has no first LayerNorm, so the neck has none."""


class Phase(Spec):
    """A stretch of the surrogate loss's schedule."""

    until: Fraction
    """Share of the steps at which the phase ends."""
    ce: Weight
    """alpha: weight of the cross-entropy against the class names' text embeddings."""
    distill: Weight
    """beta: weight of the distillation against the teacher."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ce + self.distill == 0:
            raise ValueError("one of ce and distill must be above 0")
        return self


def _templates(value: Any) -> Any:
    """A set of templates by its name, or the absolute path of a file."""
    return value if value in template_sets() else locate(value)


class SurrogateSpec(Spec):
    """The loss that stands in for the MLLM: cross-entropy and distillation (paper, section 3.3).

    The weights are the authors'. Their code multiplies the whole loss by 11.52, too: Adam, which
    divides by the gradient's size, takes the same steps without, as long as nothing clips it.
    """

    phases: tuple[Phase, ...] = (
        Phase(until=1 / 3, ce=100, distill=0),
        Phase(until=2 / 3, ce=1, distill=100),
        Phase(until=1, ce=0, distill=100),
    )
    """The stretches of training and their weights; the authors' twenty epochs each."""
    pooled: Weight = 1.0
    """Weight, within the distillation, of the MSE on the pooled feature: CLIP's projected class
    token, the output of SigLIP's attention pooling head; neither normalised. The authors'."""
    tokens: Weight = 0.0
    """Weight, within the distillation, of the MSE on the tokens of the layer an MLLM reads; the
    authors' code has no such term."""
    token_layer: int = -2
    """That layer, as an index into the encoder's hidden states; LLaVA's. Ours."""
    double_norm: bool = False
    """Apply CLIP's final LayerNorm twice, as the authors' modified CLIP does. Points of `released`
    are used so in any case: they were trained so. Ours is once."""
    templates: Annotated[str, BeforeValidator(_templates)] = "imagenet-80"
    """Prompts around the class names: `imagenet-80` (CLIP's eighty, the paper's), `plain` (the
    name alone), `data` (the data set's own), or a file: a template a line, `{}` for the name."""
    classes: Location | None = None
    """A file with a class name a line, in the data set's order; null for the data set's names.
    Ours."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        ends = [phase.until for phase in self.phases]
        if not ends or ends != sorted(set(ends)) or ends[-1] != 1:
            raise ValueError("phases must end at rising shares of the steps, the last at 1")
        if self.pooled + self.tokens == 0:
            raise ValueError("one of pooled and tokens must be above 0")
        return self


_OF_PLATEAU: Final = ("until", "patience", "least_progress")
"""Settings of an `Optimiser` that have no effect on a training of a fixed length."""


class Optimiser(Spec):
    """How long and how fast something is trained (Adam). Ours, but for what is said to be d1's."""

    steps: Positive
    """Optimiser steps; the most of them with `until: plateau`."""
    until: Literal["steps", "plateau"] = "steps"
    """`plateau`: the learning rate falls when the validation loss stands still, after `lr_drop_at`
    at the latest, and training ends when it does so again. The loss's last phase alone counts."""
    patience: Positive = 5
    """Validations without progress after which the loss stands still (ours)."""
    least_progress: Fraction = 0.01
    """Share by which a lower validation loss is progress (ours)."""
    batch_size: Positive = 32
    """Images per step over all workers together; the authors' for d1."""
    lr: Rate = 1e-4
    """Learning rate of Adam at the start; the authors' for d1."""
    lr_drop_at: Fraction = 0.8
    """Share of the steps after which the learning rate falls."""
    lr_drop: Rate = 0.1
    """What it falls to, relative to `lr`; the authors' for d1."""
    lr_decay: Literal["step", "linear"] = "step"
    """`step`: at once. `linear`: evenly until the last step."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises linearly from zero."""
    grad_clip: Rate | None = 1.0
    """Largest L2 norm of the gradient; null for none."""
    accumulate: Positive = 1
    """Slices in which a worker's batch is computed, one after the other, to save memory."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: transforms, neck and encoder under bfloat16 autocast; what makes the rate, frozen
    codecs, losses, the weights and their updates stay in fp32. GPUs that have TF32 round to it what
    a training step multiplies in fp32, but for frozen codecs. Validation is in fp32 alone."""
    validate_every: Positive = 500
    """Steps between two passes over the validation images; one more follows the last step."""
    keep: Literal["best", "last"] = "best"
    """The weights that are kept: of the lowest validation loss (ours), or of the last step."""
    checkpoint_every: Positive = 500
    """Steps between two checkpoints."""

    @model_validator(mode="after")
    def _check_plateau(self) -> Self:
        if self.until == "plateau" and self.lr_decay != "step":
            raise ValueError("until: plateau needs lr_decay: step; its last step is not known")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that decide the trained weights, as JSON data, for a stage's key.

        Slices of a batch change no more than rounding, checkpoints nothing. Settings without an
        effect have one value: of a rate that never falls, and of a validation after the last step.
        """
        settings = self.model_dump(mode="json", exclude={"accumulate", "checkpoint_every"})
        if self.until == "steps":
            settings = {k: v for k, v in settings.items() if k not in _OF_PLATEAU}
        settings["validate_every"] = min(self.validate_every, self.steps)
        if self.keep == "best":
            del settings["keep"]
        if self.lr_drop == 1 or self.lr_drop_at * self.steps > self.steps - 1:
            settings |= dict.fromkeys(("lr_drop_at", "lr_drop", "lr_decay"))
        return settings


class BaseCodecTraining(Optimiser):
    """Training of a base codec with the rate-distortion loss `bpp + lambda * 255^2 * MSE`."""

    steps: Annotated[int, Field(ge=0)] = 1_000_000
    """Optimiser steps; 0 takes `weights` as they are."""
    batch_size: Positive = 16
    crop: Positive | None = None
    """Side, in pixels, of the random crops, each mirrored at random; null for the largest multiple
    of the codec's padding that is at most three quarters of the image (ours)."""
    aux_lr: Rate = 1e-3
    """Learning rate of the entropy bottleneck's quantiles (CompressAI's auxiliary loss)."""

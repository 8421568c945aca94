"""The typed specs a space is made of; every mistake in one is found at construction.

Defaults are the paper's values (*Bridging Compressed Image Latents and Multimodal Large
Language Models*, ICLR 2025, arXiv 2407.19651) where it gives them. A spec never looks at the
hardware, imports nothing heavy and is immutable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from search_spaces.overrides import PathError, explain, merge, unknown
from search_spaces.zoo import LAMBDAS, WIDTHS, ZOO, is_vbr, metrics

Scenario = Literal["d1", "d2", "d3"]
Baseline = Literal["uncompressed", "reconstruction", "post_processing"]
TaskName = Literal["captioning", "vqa", "rec", "fewshot", "zeroshot"]
ENCODER_TASKS: tuple[TaskName, ...] = ("zeroshot",)
"""Tasks that the visual encoder does alone, without an MLLM."""
Arch = Literal[
    "bmshj2018-factorized",
    "bmshj2018-hyperprior",
    "mbt2018-mean",
    "mbt2018",
    "cheng2020-anchor",
    "cheng2020-attn",
    "bmshj2018-factorized-relu",
    "bmshj2018-hyperprior-vbr",
    "mbt2018-mean-vbr",
    "mbt2018-vbr",
    "elic2022-chandelier",
    "tic",
]

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:-]*$")]
VARIED: Final = ("codecs", "teacher", "neck", "surrogate", "d1", "d2", "d3", "post_processing")
"""What a variant may change: how points are trained, never what they are measured on."""
JOINED: Final = "+"
"""Between the names of several variants that share a point."""


class Spec(BaseModel):
    """Base of all specs: unknown settings are errors, values are final, types are strict."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Optimiser(Spec):
    """How long and how fast something is trained (Adam)."""

    steps: Positive
    """Optimiser steps."""
    batch_size: Positive = 32
    """Images per step over all workers together."""
    lr: Rate = 1e-4
    """Learning rate of Adam at the start."""
    lr_drop_at: Fraction = 0.8
    """Share of the steps after which the learning rate falls."""
    lr_drop: Rate = 0.1
    """What it falls to, relative to `lr`."""
    lr_decay: Literal["step", "linear"] = "step"
    """`step`: at once. `linear`: evenly until the last step."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises linearly from zero."""
    grad_clip: Rate | None = 1.0
    """Largest L2 norm of the gradient; null for none."""
    accumulate: Positive = 1
    """Slices in which a worker's batch is computed, one after the other, to save memory."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: transforms, neck and encoder under bfloat16 autocast; what makes the rate, the
    weights and their updates stay in fp32."""
    validate_every: Positive = 500
    """Steps between two passes over the validation images."""
    checkpoint_every: Positive = 500
    """Steps between two checkpoints."""


class BaseCodecTraining(Optimiser):
    """Training of a base codec with the rate-distortion loss `bpp + lambda * 255^2 * MSE`."""

    steps: Annotated[int, Field(ge=0)] = 1_000_000
    """Optimiser steps; 0 takes `weights` as they are."""
    batch_size: Positive = 16
    aux_lr: Rate = 1e-3
    """Learning rate of the entropy bottleneck's quantiles (CompressAI's auxiliary loss)."""


class ReleasedSpec(Spec):
    """Files of finished operating points by scenario, one per rate; of the paper's format."""

    d1: tuple[str, ...] = ()
    d2: tuple[str, ...] = ()
    d3: tuple[str, ...] = ()

    def named(self) -> dict[Scenario, tuple[str, ...]]:
        """The scenarios that have files."""
        files: dict[Scenario, tuple[str, ...]] = {"d1": self.d1, "d2": self.d2, "d3": self.d3}
        return {scenario: given for scenario, given in files.items() if given}


class CodecSpec(Spec):
    """One codec architecture and the rates it is trained for."""

    arch: Arch
    """CompressAI's name of the architecture, or `tic`."""
    name: str = ""
    """How the codec is called in points and plots; empty for the architecture's name."""
    N: Positive = 192
    """Channels of the transforms; 128 for tic."""
    M: Positive = 320
    """Channels of the latents; 192 for tic."""
    groups: tuple[Positive, ...] | None = None
    """Channel groups of ELIC's latents, adding up to M; null for 16, 16, 32, 64, M - 128."""
    context_width: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Width of ELIC's context and parameter networks relative to the published one."""
    depths: tuple[Positive, ...] = (2, 4, 6, 2, 2)
    """TIC's Swin blocks per stage, three of the transforms and two of the hyper-transforms; the
    released implementation has 1, 2, 3, 1, 1."""
    lambdas: tuple[Rate, ...] = (0.004, 0.008, 0.016, 0.032)
    """One base codec each; CompressAI's convention, loss = bpp + lambda * 255^2 * MSE."""
    qualities: tuple[Annotated[int, Field(ge=1, le=8)], ...] | None = None
    """CompressAI's qualities in the place of lambdas, which follow from them as N and M do. Of a
    `-vbr` architecture they are the rates of one base codec, all eight unless given."""
    weights: str | tuple[str, ...] | None = None
    """What base codecs start from, one for all or one per rate: `shipped:NAME`, a weights file,
    `compressai:mse` or `compressai:ms-ssim` (CompressAI's pretrained models), null for scratch."""
    released: ReleasedSpec = ReleasedSpec()
    """Finished operating points of this codec, which are then used and not trained."""
    train: BaseCodecTraining = BaseCodecTraining()
    """With `compressai:` weights they are taken as they are unless this is given."""

    @property
    def label(self) -> str:
        """The name in points and plots."""
        return self.name or self.arch

    @property
    def rate(self) -> int:
        """Index of a `-vbr` architecture's (first) rate; 0 for all others."""
        return self.qualities[0] - 1 if self.qualities and is_vbr(self.arch) else 0

    def at(self, lmbda: float) -> CodecSpec:
        """This codec at one of its rates alone, with that rate's widths and files.

        Raises:
            ValueError: lmbda is none of its lambdas.
        """
        if lmbda not in self.lambdas:
            raise ValueError(f"{self.label} has lambdas {self.lambdas}, not {lmbda:g}")
        place = self.lambdas.index(lmbda)
        update: dict[str, object] = {"lambdas": (lmbda,)}
        if isinstance(self.weights, tuple):
            update["weights"] = self.weights[place]
        if self.qualities is not None:
            quality = self.qualities[place]
            update["qualities"] = (quality,)
            if not is_vbr(self.arch):
                update["N"], update["M"] = WIDTHS[self.arch][quality - 1]
                if isinstance(self.weights, str) and self.weights.count(":") == 1:
                    update["weights"] = f"{self.weights}:{quality}"
        released = {scenario: (files[place],) for scenario, files in self.released.named().items()}
        update["released"] = ReleasedSpec(**released)
        return self.model_copy(update=update)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Defaults that follow from others; a given value that differs is left for `_check`."""
        if not isinstance(data, dict):
            return data
        if data.get("arch") == "tic":
            return {"N": 128, "M": 192, **data}
        if data.get("arch") not in WIDTHS:
            return data
        data, arch = dict(data), data["arch"]
        weights = data.get("weights")
        if is_vbr(arch) and data.get("qualities") is None and "lambdas" not in data:
            data["qualities"] = tuple(range(1, 9))
        qualities = data.get("qualities")
        if isinstance(qualities, (list, tuple)) and set(qualities) <= set(range(1, 9)):
            table = LAMBDAS["ms-ssim" if "ms-ssim" in str(weights) else "mse"]
            data.setdefault("lambdas", tuple(table[quality - 1] for quality in qualities))
            if qualities and qualities[0] <= len(WIDTHS[arch]):
                N, M = WIDTHS[arch][qualities[0] - 1]
                data.setdefault("N", N)
                data.setdefault("M", M)
        if isinstance(weights, str) and weights.startswith(ZOO):
            data.setdefault("train", {"steps": 0})
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [*self._problems_of_rates(), *self._problems_of_weights()]
        if self.groups is not None:
            if self.arch != "elic2022-chandelier":
                problems.append(f"groups is a setting of elic2022-chandelier, not of {self.arch}")
            elif sum(self.groups) != self.M:
                problems.append(f"groups add up to {sum(self.groups)}, but M is {self.M}")
        elif self.arch == "elic2022-chandelier" and self.M <= 128:
            problems.append(f"groups is needed where M ({self.M}) is 128 or less")
        if self.arch.startswith("cheng2020") and self.M != self.N:
            problems.append(f"{self.arch} has M = N; M is {self.M} and N is {self.N}")
        if self.context_width != 1 and self.arch != "elic2022-chandelier":
            problems.append(f"context_width is a setting of elic2022-chandelier, not {self.arch}")
        if self.arch != "tic" and self.depths != type(self).model_fields["depths"].default:
            problems.append(f"depths is a setting of tic, not of {self.arch}")
        if self.arch == "tic" and (self.N % 16 or self.M % 16 or len(self.depths) != 5):
            problems.append(
                f"tic needs N and M that are multiples of 16 and five depths, not N {self.N}, "
                f"M {self.M} and depths {self.depths}"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _problems_of_rates(self) -> list[str]:
        if len(set(self.lambdas)) != len(self.lambdas) or not self.lambdas:
            return ["lambdas must be one or more different values"]
        if self.qualities is None:
            return ["a -vbr codec has qualities, not lambdas"] if is_vbr(self.arch) else []
        widths = WIDTHS.get(self.arch)
        if widths is None:
            return [f"qualities: CompressAI has none of {self.arch}; valid: {', '.join(WIDTHS)}"]
        if not self.qualities or max(self.qualities) > len(widths):
            return [f"qualities of {self.arch} are 1 to {len(widths)}, not {self.qualities}"]
        problems = []
        table = LAMBDAS[self._metric or "mse"]
        if self.lambdas != tuple(table[quality - 1] for quality in self.qualities):
            problems.append("lambdas follow from the qualities: give one of the two")
        if not is_vbr(self.arch) and widths[self.qualities[0] - 1] != (self.N, self.M):
            problems.append(
                f"N and M follow from the qualities ({widths[self.qualities[0] - 1]} for quality "
                f"{self.qualities[0]} of {self.arch}), not {self.N}, {self.M}"
            )
        return problems

    def _problems_of_weights(self) -> list[str]:
        problems = []
        rates = len(self.lambdas)
        if isinstance(self.weights, tuple):
            if len(self.weights) != rates:
                problems.append(f"weights names {len(self.weights)} files for {rates} rates")
            if is_vbr(self.arch) or any(name.startswith(ZOO) for name in self.weights):
                problems.append("weights is one name for all rates of a -vbr or compressai: codec")
        elif self._metric is not None:
            if self._metric not in metrics(self.arch):
                has = ", ".join(ZOO + metric for metric in metrics(self.arch)) or "none"
                problems.append(f"weights {self.weights!r}: pretrained {self.arch} are {has}")
            elif self.qualities is None:
                problems.append(f"weights {self.weights!r} needs qualities, such as [1, 2, 3, 4]")
            if self._metric == "ms-ssim" and self.train.steps:
                problems.append("train.steps must be 0 with ms-ssim weights: the loss here is MSE")
        if self.weights is None and not self.train.steps:
            problems.append("train.steps is 0 and there are no weights to take as they are")
        for scenario, files in self.released.named().items():
            if len(files) != rates:
                problems.append(f"released.{scenario} names {len(files)} files for {rates} rates")
        return problems

    @property
    def _metric(self) -> str | None:
        """What CompressAI's pretrained models named by `weights` are for, if it names any."""
        if not isinstance(self.weights, str) or not self.weights.startswith(ZOO):
            return None
        return self.weights.removeprefix(ZOO).split(":")[0]

    @property
    def lambda_is_of_mse(self) -> bool:
        """Whether lambda weighs the MSE, as d2 and d3 take it to."""
        return self._metric != "ms-ssim"


class SplitNames(Spec):
    """Which of a data set's own splits each of ours is taken from."""

    train: str
    val: str
    test: str


class DataSpec(Spec):
    """The images and the tasks over them.

    `scenes` are made; of the other kinds, which are data sets, `uri` says where they are. Their
    images are resized to `size` on the shorter side (bicubic, as Pillow and torchvision do) and
    cropped in the centre, once, and kept without loss.
    """

    kind: Literal["scenes", "folder", "parquet", "datasets"] = "scenes"
    """`scenes`: digits on photographs, made from bundled data. `folder`: image files, a folder per
    class, with or without a folder per split above them. `parquet`: Parquet files with a column of
    images. `datasets`: a directory of Hugging Face datasets, as `save_to_disk` writes it (Arrow)
    or as it stands on the hub (Parquet)."""
    name: str = ""
    """How the data set is called in points; empty for the last part of `uri`, or for `scenes`."""
    uri: str | None = None
    """A data set's directory (or a Parquet file): a path, or a URI that fsspec knows."""
    splits: SplitNames | None = None
    """null: the data set's own train, val (validation, valid, dev) and test. Where it lacks one,
    test is taken from its val, and what else is lacking from its train; where it has none, all
    from all of its images. Splits of one origin never share an image."""
    names: str | None = None
    """A file that names the classes: lines `KEY NAME`, of which the name counts up to its first
    comma (the usual list of synsets), or JSON, {KEY: NAME} or a list. KEY is the class's folder or
    the value in `label_column`. null: what the data set itself says."""
    image_column: str = "image"
    """Of Parquet and datasets: encoded images, bare or beside their path (`bytes`, `path`)."""
    label_column: str | None = "label"
    """Of Parquet and datasets: a whole number or a text; null for images without classes."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the scenes; of which images of a data set are taken, and in which order."""
    size: Positive = 128
    """Height and width in pixels of the image given to the codec; a multiple of 64."""
    train: Positive | None = None
    """Training images; null for 4096 scenes, or for all that the data set has."""
    val: Positive | None = None
    """Validation images: checkpoints are chosen on them. null for 128 scenes; of a data set, for
    all that are in a split of their own, else for a twentieth of those that they are taken from."""
    test: Positive | None = None
    """Test images: every number that is reported comes from them. null for 256 scenes; of a data
    set as for `val`."""
    episodes: Positive = 256
    """Test episodes of few-shot classification on scenes."""
    shard_size: Positive = 512
    """Images per shard of pre-computed features and latents."""
    max_unreadable: Fraction = 0.01
    """Share of unreadable images above which a sweep stops."""

    @property
    def label(self) -> str:
        """The name in points and plots."""
        if self.name or self.uri is None:
            return self.name or self.kind
        return self.uri.rstrip("/").rpartition("/")[2] or self.kind

    @property
    def identity(self) -> dict[str, object]:
        """The settings that decide what the images are, as JSON data."""
        without = {"name", "shard_size", "max_unreadable"}
        if self.kind == "scenes":
            without |= {"uri", "splits", "names", "image_column", "label_column"}
        else:
            without |= {"episodes"}
        if self.kind == "folder":
            without |= {"image_column", "label_column"}
        return self.model_dump(mode="json", exclude=without)

    @model_validator(mode="before")
    @classmethod
    def _scenes(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("kind", "scenes") == "scenes":
            return {"train": 4096, "val": 128, "test": 256, **values}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        if self.size % 64:
            problems.append(f"size {self.size} is not a multiple of 64")
        settings = {"scenes": {"episodes"}, "folder": set(), "parquet": _COLUMNS}
        own = settings.get(self.kind, _COLUMNS)
        if self.kind != "scenes":
            own = own | {"name", "uri", "splits", "names"}
            if not self.uri:
                problems.append(f"uri must be given where kind is {self.kind!r}")
        elif None in (self.train, self.val, self.test):
            problems.append("train, val and test must be numbers where kind is 'scenes'")
        for setting in sorted({"episodes", "uri", "splits", "names", *_COLUMNS} - own):
            if getattr(self, setting) != type(self).model_fields[setting].default:
                problems.append(f"{setting} is no setting of kind {self.kind!r}")
        for uri in (self.uri, self.names):
            user, at, _ = (uri or "").partition("://")[2].partition("/")[0].rpartition("@")
            if at and ":" in user:
                problems.append("uri and names must hold no password: give it by the environment")
        if problems:
            raise ValueError("; ".join(problems))
        return self


_COLUMNS = {"image_column", "label_column"}


class TeacherSpec(Spec):
    """The complete visual encoder whose features are the target."""

    model: str = "openai/clip-vit-large-patch14"
    """`shipped:NAME`, a local directory or a hub id of a transformers CLIP or SigLIP."""
    block: Annotated[int, Field(ge=0)] = 2
    """k: the encoder block at which the neck's tokens enter, 0 to the number of blocks."""


class NeckSpec(Spec):
    """The transform-neck's size; its width is the encoder's."""

    layers: Positive = 1
    """Residual attention blocks."""
    heads: Positive | None = None
    """Attention heads; null for the encoder's number."""
    mlp_ratio: Rate | None = None
    """Hidden width of its MLP relative to its width; null for the encoder's (4 in the paper)."""
    init: Literal["random", "encoder"] = "random"
    """`random`: the paper's. `encoder`: from the part of the encoder that the neck stands in for
    (class token, positions, first LayerNorm, its last `layers` skipped blocks), its linear layer
    from a least-squares fit of the patch embeddings; needs few steps. A SigLIP has no first
    LayerNorm, and so the neck has none."""


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


class SurrogateSpec(Spec):
    """The loss that stands in for the MLLM: cross-entropy and distillation (paper, section 3.3)."""

    phases: tuple[Phase, ...] = (
        Phase(until=1 / 3, ce=100, distill=0),
        Phase(until=2 / 3, ce=1, distill=100),
        Phase(until=1, ce=0, distill=100),
    )
    pooled: Weight = 1.0
    """Weight, within the distillation, of the MSE on the pooled feature: CLIP's projected class
    token, the output of SigLIP's attention pooling head; neither normalised."""
    tokens: Weight = 0.0
    """Weight, within the distillation, of the MSE on the tokens of the layer an MLLM reads."""
    token_layer: int = -2
    """That layer, as an index into the encoder's hidden states."""
    double_norm: bool = False
    """Apply CLIP's final LayerNorm twice, as the authors' modified CLIP does."""
    templates: str = "imagenet-80"
    """Prompts around the class names: `imagenet-80` (CLIP's eighty, the paper's), `plain` (the
    name alone), `data` (the data set's own), or a file: a template a line, `{}` for the name."""
    classes: str | None = None
    """A file with a class name a line, in the data set's order; null for the data set's names."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        ends = [phase.until for phase in self.phases]
        if not ends or ends != sorted(set(ends)) or ends[-1] != 1:
            raise ValueError("phases must end at rising shares of the steps, the last at 1")
        if self.pooled + self.tokens == 0:
            raise ValueError("one of pooled and tokens must be above 0")
        return self


class NeckTraining(Optimiser):
    """d1: the neck alone, on frozen latents and the teacher's stored features."""

    steps: Positive = 200_000
    lr_drop_at: Fraction = 1 / 3
    linear_lr: Rate | None = None
    """Learning rate of the neck's linear layer, the only one that is new where `neck.init` is
    `encoder`; null for `lr`."""


class JointTraining(Optimiser):
    """d2, d3: codec and neck, on `R + lambda * (gamma * MSE + delta * L_dist)`.

    R in bits per pixel, MSE of the image on the [0, 1] scale (so gamma = 255^2, delta = 0 is the
    base codec's own loss); d3 is the same without the image term.
    """

    steps: Positive = 200_000
    gamma: Weight = 60.0
    """Weight of the image's MSE; ignored by d3."""
    delta: Weight = 1.0
    """Weight of the distillation loss."""
    codec_lr: Rate = 1e-4
    """Learning rate of the codec; `lr` is the neck's."""


class UNetTraining(Optimiser):
    """post_processing: a U-Net on the decoded image, with the same surrogate loss."""

    steps: Positive = 200_000
    channels: Positive = 64
    """Channels at full resolution, doubled at each of the `levels`."""
    levels: Positive = 4
    """Down-samplings by two."""


class EvaluationSpec(Spec):
    """How rate-accuracy points are measured."""

    batch_size: Positive = 64
    """Prompts per generation batch."""
    examples: Annotated[int, Field(ge=0)] = 3
    """Example pictures kept per operating point."""


class Resources(Spec):
    """What one operating point asks of the cluster."""

    workers_per_point: Annotated[int, Field(ge=0)] = 1
    """Ray Train workers; 0 trains in the trial's own process."""
    cpus_per_worker: Positive = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    checkpoint_blocks: bool = False
    """Run each encoder block again in the backward pass: less memory, the same gradients."""
    max_failures: Annotated[int, Field(ge=0)] = 1
    """Times a failed operating point is tried again."""


class Range(Spec):
    """Where a searched setting lies: exactly one of these."""

    uniform: tuple[float, float] | None = None
    """Lowest and highest value."""
    log_uniform: tuple[Rate, Rate] | None = None
    """Lowest and highest value, evenly spread on a logarithmic scale."""
    integers: tuple[int, int] | None = None
    """Lowest and highest whole number, both included."""
    choice: tuple[Any, ...] | None = None
    """The values."""

    @property
    def ends(self) -> tuple[Any, ...]:
        """The lowest and highest value, or all choices."""
        given = (self.uniform, self.log_uniform, self.integers, self.choice)
        return next(one for one in given if one is not None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = list(type(self).model_fields)
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(names)}, not {' and '.join(given) or 'none'}")
        if given != ["choice"] and not self.ends[0] < self.ends[1]:
            raise ValueError(f"{given[0]}: {self.ends[0]} is not below {self.ends[1]}")
        if len(self.ends) < 2:
            raise ValueError("choice: give two values or more")
        return self


class SearchSpec(Spec):
    """A search for an operating point's settings, by the lowest validation loss.

    The validation loss is the scenario's own and fixed (`Learner.validate`), so only settings that
    change neither it nor what must be trained before can be searched.
    """

    algorithm: Literal["random", "optuna", "asha"] = "random"
    """`asha`: random, and trials that fall behind are stopped early. `optuna`: its TPE sampler."""
    trials: Annotated[int, Field(gt=1)] = 12
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the algorithm; the trainings have the space's."""
    over: dict[str, Range]
    """Dotted path of a setting -> where it lies, e.g. `{d1.lr: {log_uniform: [1e-4, 1e-2]}}`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.over:
            raise ValueError("over is empty: nothing to search")
        return self


class Space(Spec):
    """What to sweep."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Letters, digits, `.`, `_` and `-`."""
    description: str = ""
    codecs: tuple[CodecSpec, ...]
    scenarios: tuple[Scenario, ...] = ("d1", "d2", "d3")
    baselines: tuple[Baseline, ...] = ("uncompressed", "reconstruction", "post_processing")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    data: DataSpec = DataSpec()
    teacher: TeacherSpec = TeacherSpec()
    mllms: tuple[str, ...] = ()
    """Each `shipped:NAME`, a local directory or a hub id of a transformers MLLM."""
    tasks: tuple[TaskName, ...] = ("captioning", "vqa", "rec", "fewshot")
    neck: NeckSpec = NeckSpec()
    surrogate: SurrogateSpec = SurrogateSpec()
    d1: NeckTraining = NeckTraining()
    d2: JointTraining = JointTraining()
    d3: JointTraining = JointTraining()
    post_processing: UNetTraining = UNetTraining()
    evaluation: EvaluationSpec = EvaluationSpec()
    resources: Resources = Resources()
    variants: dict[VariantName, dict[str, Any]] = {}
    """What an ablation compares: name (letters, digits, `_`, `:`, `-`) -> settings, e.g.
    `{k0: {teacher.block: 0}, k2: {teacher.block: 2}}`. Each is swept over everything else; what it
    does not touch is trained once for all."""
    search: SearchSpec | None = None
    """After the sweep of a single trained point: search for better settings of it."""

    def of(self, variant: str) -> Space:
        """The space that a variant means, which has no variants itself.

        Args:
            variant: as an operating point carries it: a name, several joined by `+` that share
                the point, or empty for what all variants share. Without variants: this space.

        Raises:
            ValueError: no such variant, or its settings make no space; a line per mistake.
        """
        if not self.variants:
            return self
        name = variant.partition(JOINED)[0] or next(iter(self.variants))
        if name not in self.variants:
            raise ValueError(f"no variant {name!r}; there are {', '.join(self.variants)}")
        try:
            return self.changed(self.variants[name])
        except ValueError as error:
            lines = [f"variants.{name}: {line}" for line in str(error).splitlines()]
            raise ValueError("\n".join(lines)) from None

    def changed(self, settings: Mapping[str, Any]) -> Space:
        """This space with other settings of how points are trained, without variants or search.

        Args:
            settings: dotted path -> value, as in a variant.

        Raises:
            ValueError: they make no space; a line per mistake.
        """
        data = self.model_dump(mode="json", exclude={"variants", "search"})
        problems = []
        for path, value in settings.items():
            root = path.partition(".")[0]
            if root not in VARIED:
                known = root in type(self).model_fields
                why = "the same for all points" if known else unknown(root, VARIED)
                choices = f"; what may change is {', '.join(VARIED)}" if known else ""
                problems.append(f"{path} = {value!r}: {why}{choices}")
                continue
            try:
                merge(data, {path: value})
            except PathError as error:
                problems.append(f"{path} = {value!r}: {error}")
        if problems:
            raise ValueError("\n".join(problems))
        try:
            return type(self).model_validate(data)
        except ValidationError as error:
            raise ValueError("\n".join(explain(error, type(self)))) from None

    @property
    def answerers(self) -> tuple[tuple[str, tuple[TaskName, ...]], ...]:
        """Who does which tasks: each MLLM, and the teacher those of the encoder alone."""
        asked = tuple(task for task in self.tasks if task not in ENCODER_TASKS)
        own = tuple(task for task in self.tasks if task in ENCODER_TASKS)
        found = tuple((mllm, asked) for mllm in self.mllms if asked)
        return (*found, (self.teacher.model, own)) if own else found

    @property
    def trains_on_classes(self) -> bool:
        """Whether the surrogate loss needs classes and their text embeddings."""
        return any(phase.ce for phase in self.surrogate.phases)

    def _task_problems(self) -> list[str]:
        problems = []
        there = ENCODER_TASKS
        if self.data.kind == "scenes":
            there = ("captioning", "vqa", "rec", "fewshot")
        problems += [
            f"tasks: {task} is not there for data of kind {self.data.kind!r}; there are "
            f"{', '.join(there)}"
            for task in self.tasks
            if task not in there
        ]
        if not self.mllms and any(task not in ENCODER_TASKS for task in self.tasks):
            alone = ", ".join(ENCODER_TASKS)
            problems.append(f"mllms is empty: of the tasks only {alone} needs none")
        return problems

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        for setting in ("codecs", "tasks", "seeds"):
            if not getattr(self, setting):
                problems.append(f"{setting} is empty")
        problems += self._task_problems()
        for setting in ("scenarios", "baselines", "mllms", "tasks", "seeds"):
            values = getattr(self, setting)
            if len(set(values)) != len(values):
                problems.append(f"{setting} names something twice: {', '.join(map(str, values))}")
        labels = [codec.label for codec in self.codecs]
        if len(set(labels)) != len(labels):
            problems.append(f"two codecs share a name ({', '.join(labels)}): give each a `name`")
        if self.neck.init == "encoder" and self.neck.layers > self.teacher.block:
            problems.append(
                f"neck.layers {self.neck.layers}: neck.init 'encoder' takes them from the "
                f"{self.teacher.block} blocks before teacher.block"
            )
        for codec in self.codecs:
            joint = {"d2", "d3"} & set(self.scenarios) - set(codec.released.named())
            if joint and not codec.lambda_is_of_mse:
                problems.append(
                    f"scenarios {', '.join(sorted(joint))}: their lambda weighs the MSE, that of "
                    f"{codec.label}'s ms-ssim weights does not; use compressai:mse"
                )
        if not self.scenarios and not self.baselines:
            problems.append("scenarios and baselines are both empty: nothing to sweep")
        problems = problems or [*self._variant_problems(), *self._search_problems()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def trained(self) -> tuple[str, ...]:
        """The scenarios and baselines that train something at every rate."""
        return (*self.scenarios, *(name for name in self.baselines if name == "post_processing"))

    def _search_problems(self) -> list[str]:
        if self.search is None:
            return []
        problems = []
        rates = sum(len(codec.lambdas) for codec in self.codecs)
        if (len(self.trained), rates, len(self.seeds)) != (1, 1, 1) or self.variants:
            problems.append(
                "search: trains one operating point; give one codec, lambda, scenario and seed, "
                f"and no variants (there are {rates} x {len(self.trained)} x {len(self.seeds)})"
            )
        if self.resources.workers_per_point:
            problems.append(
                "search: trains in the trial's own process; resources.workers_per_point = "
                f"{self.resources.workers_per_point} must be 0"
            )
        for path, where in {} if problems else self.search.over.items():
            said = f"search.over.{path}"
            scenario = self.trained[0]
            if not _searchable(path, scenario):
                valid = f"{scenario}.* except {', '.join(_MEASURE)}"
                if scenario == "d1":
                    valid += "; neck.*, surrogate.phases, teacher.block"
                problems.append(f"{said}: cannot be searched for {scenario}; valid: {valid}")
                continue
            for end in where.ends:
                try:
                    self.changed({path: end})
                except ValueError as error:
                    problems += [f"{said}: {line}" for line in str(error).splitlines()]
        return list(dict.fromkeys(problems))

    def _variant_problems(self) -> list[str]:
        problems = []
        if len(self.variants) == 1:
            problems.append(f"variants: {next(iter(self.variants))} is alone; give two or more")
        meant: dict[str, Space] = {}
        for name in self.variants:
            try:
                meant[name] = self.of(name)
            except ValueError as error:
                problems += str(error).splitlines()
        for name, space in meant.items():
            same = next(other for other, its in meant.items() if its == space)
            if same != name:
                problems.append(f"variants: {same} and {name} are the same settings")
        return problems


_MEASURE: Final = ("steps", "gamma", "delta", "validate_every", "checkpoint_every")


def _searchable(path: str, scenario: str) -> bool:
    """Whether a setting changes neither the validation loss nor what is trained before."""
    root, _, leaf = path.partition(".")
    if root == scenario:
        return leaf not in _MEASURE
    before = root == "neck" or path == "teacher.block" or path.startswith("surrogate.phases")
    return scenario == "d1" and before

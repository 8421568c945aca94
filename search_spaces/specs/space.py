"""The typed specs a space is made of; every mistake in one is found at construction.

Defaults are the paper's values (*Bridging Compressed Image Latents and Multimodal Large
Language Models*, ICLR 2025, arXiv 2407.19651) where it gives them. A spec never looks at the
hardware, imports nothing heavy and is immutable. The parts of a space stand in `codec_spec.py`,
`data_spec.py`, `benchmark_spec.py`, `training_spec.py` and `search_spec.py`; the space itself and
what is left, here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from search_spaces.facts.compressai_zoo import is_vbr
from search_spaces.facts.tasks import (
    TASK_FACTS,
    encoder_tasks,
    known_task,
    mllm_tasks,
    tasks_of_data,
    tasks_to_learn,
)
from search_spaces.specs.base import Positive, Scenario, Spec
from search_spaces.specs.benchmark import AnyBenchmark, BenchmarkSpec
from search_spaces.specs.classical import ClassicalSpec
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.data import DataSpec
from search_spaces.specs.overrides import PathError, explain, merge, unknown
from search_spaces.specs.search import MEASURE, SearchSpec, searchable
from search_spaces.specs.training import (
    FeatureCodingTraining,
    JointTraining,
    NeckSpec,
    NeckTraining,
    Optimiser,
    OracleTraining,
    SurrogateSpec,
    TeacherSpec,
    TransferTraining,
    UNetTraining,
)

Baseline = Literal[
    "uncompressed",
    "reconstruction",
    "post_processing",
    "feature_coding",
    "shared_neck",
    "transfer",
    "transfer_tuned",
    "end_to_end_oracle",
]
UNTRAINED: Final = ("uncompressed", "reconstruction", "transfer", "shared_neck")
"""Baselines whose points train nothing themselves; the neck of `shared_neck` is trained once."""
TaskName = Annotated[str, AfterValidator(known_task)]

VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:-]*$")]
VARIED: Final = (
    *("codecs", "teacher", "neck", "surrogate", "d1", "d2", "d3"),
    *("post_processing", "feature_coding", "end_to_end_oracle", "transfer"),
)
"""What a variant may change: how points are trained, never what they are measured on."""
JOINED: Final = "+"
"""Between the names of several variants that share a point."""


@dataclass(frozen=True)
class Measurement:
    """What an operating point is measured on: who answers, which tasks, of which data.

    `benchmark` is None for the space's own data.
    """

    answerer: str
    tasks: tuple[str, ...]
    benchmark: BenchmarkSpec | None = None

    @property
    def by_encoder(self) -> bool:
        """Whether the visual encoder answers alone."""
        return not mllm_tasks(self.tasks)


class EvaluationSpec(Spec):
    """How rate-accuracy points are measured."""

    batch_size: Positive = 64
    """Prompts per generation batch."""
    beams: Positive = 1
    """Of the search for an answer; 1 is greedy."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """In which MLLMs run; codecs and necks run in fp32."""
    shard_size: Positive = 512
    """Samples after which what was answered is kept: a killed evaluation continues from there. What
    an MLLM sees of a shard's images is held in memory."""
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


class Space(Spec):
    """What to sweep."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Letters, digits, `.`, `_` and `-`."""
    description: str = ""
    codecs: tuple[CodecSpec, ...]
    scenarios: tuple[Scenario, ...] = ("d1", "d2", "d3")
    baselines: tuple[Baseline, ...] = ("uncompressed", "reconstruction", "post_processing")
    classical: tuple[ClassicalSpec, ...] = ()
    """Codecs of the standards, to compare with."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    data: DataSpec = DataSpec()
    teacher: TeacherSpec = TeacherSpec()
    mllms: tuple[str, ...] = ()
    """Each `shipped:NAME`, a local directory or a hub id of a transformers MLLM."""
    tasks: tuple[TaskName, ...] = ("captioning", "vqa", "rec", "fewshot")
    """On the space's own data; may be empty where there are benchmarks."""
    benchmarks: tuple[AnyBenchmark, ...] = ()
    """Published benchmarks to measure on as well."""
    neck: NeckSpec = NeckSpec()
    surrogate: SurrogateSpec = SurrogateSpec()
    d1: NeckTraining = NeckTraining()
    d2: JointTraining = JointTraining()
    d3: JointTraining = JointTraining()
    post_processing: UNetTraining = UNetTraining()
    feature_coding: FeatureCodingTraining = FeatureCodingTraining()
    end_to_end_oracle: OracleTraining = OracleTraining()
    transfer: TransferTraining = TransferTraining()
    evaluation: EvaluationSpec = EvaluationSpec()
    resources: Resources = Resources()
    variants: dict[VariantName, dict[str, Any]] = Field(default_factory=dict)
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
    def measurements(self) -> tuple[Measurement, ...]:
        """What every operating point is measured on, and with whom.

        The space's own data and each benchmark, with each MLLM, or with the teacher alone where
        the task is the encoder's.
        """
        found = []
        for benchmark in (None, *self.benchmarks):
            tasks = self.tasks if benchmark is None else (benchmark.task,)
            asked, alone = mllm_tasks(tasks), encoder_tasks(tasks)
            found += [Measurement(mllm, asked, benchmark) for mllm in self.mllms if asked]
            found += [Measurement(self.teacher.model, alone, benchmark)] if alone else []
        return tuple(found)

    @property
    def trains_on_classes(self) -> bool:
        """Whether the surrogate loss needs classes and their text embeddings."""
        return any(phase.ce for phase in self.surrogate.phases)

    def _task_problems(self) -> list[str]:
        kind = self.data.kind
        problems = [
            f"tasks: {task} has no samples for data of kind {kind!r}; valid are "
            f"{', '.join(tasks_of_data(kind))}"
            for task in self.tasks
            if kind not in TASK_FACTS.get(task).data_kinds
        ]
        if not self.mllms and (asked := mllm_tasks(self.tasks)):
            problems.append(f"mllms is empty: tasks {', '.join(asked)} need one")
        return problems + self._benchmark_problems()

    def _benchmark_problems(self) -> list[str]:
        problems = []
        labels = [benchmark.label for benchmark in self.benchmarks]
        if len(set(labels)) != len(labels):
            problems.append(
                f"two benchmarks share a name ({', '.join(labels)}): give each a `name`"
            )
        asked = [b.label for b in self.benchmarks if mllm_tasks([b.task])]
        if asked and not self.mllms:
            problems.append(f"mllms is empty: benchmarks {', '.join(asked)} ask one")
        return problems

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        for setting in ("codecs", "tasks", "seeds"):
            if not getattr(self, setting) and not (setting == "tasks" and self.benchmarks):
                problems.append(f"{setting} is empty")
        problems += self._task_problems()
        for setting in ("scenarios", "baselines", "mllms", "tasks", "seeds"):
            values = getattr(self, setting)
            if len(set(values)) != len(values):
                problems.append(f"{setting} names something twice: {', '.join(map(str, values))}")
        labels = [codec.label for codec in self.codecs]
        labels += [classical.label for classical in self.classical]
        if len(set(labels)) != len(labels):
            problems.append(f"two codecs share a name ({', '.join(labels)}): give each a `name`")
        if self.neck.init == "encoder" and self.neck.layers > self.teacher.block:
            problems.append(
                f"neck.layers {self.neck.layers}: neck.init 'encoder' takes them from the "
                f"{self.teacher.block} blocks before teacher.block"
            )
        problems += self._competitor_problems()
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
    def meant(self) -> tuple[Space, ...]:
        """The spaces without variants or search that this one asks for: of each variant, and with
        a search those at the ends of its ranges."""
        spaces = [self.of(name) for name in self.variants] or [self]
        over = self.search.over if self.search is not None else {}
        ends = (self.changed({path: end}) for path, where in over.items() for end in where.ends)
        return (*spaces, *ends)

    @property
    def trained(self) -> tuple[str, ...]:
        """The scenarios and baselines that train something at every rate."""
        return (*self.scenarios, *(name for name in self.baselines if name not in UNTRAINED))

    def training(self, scenario: str) -> Optimiser | None:
        """How a scenario or baseline is trained; None where it trains nothing."""
        if scenario in (*UNTRAINED, "classical"):
            return None
        found: Optimiser = getattr(self, "transfer" if scenario == "transfer_tuned" else scenario)
        return found

    @property
    def answered(self) -> tuple[str, ...]:
        """The tasks that `end_to_end_oracle` learns from."""
        return tasks_to_learn(self.tasks)

    def codec(self, label: str) -> CodecSpec:
        """The codec of that name, with all its rates."""
        return next(codec for codec in self.codecs if codec.label == label)

    @property
    def source(self) -> CodecSpec:
        """The codec whose necks `transfer` takes."""
        return self.codec(self.transfer.source or self.codecs[0].label)

    def is_for(self, scenario: str, codec: CodecSpec) -> bool:
        """Whether a scenario or baseline has points of a codec."""
        if scenario == "shared_neck":
            return is_vbr(codec.arch)
        if scenario in ("transfer", "transfer_tuned"):
            return codec.label != self.source.label
        return scenario not in ("uncompressed", "feature_coding")

    def _competitor_problems(self) -> list[str]:
        problems = []
        lambdas = self.feature_coding.lambdas
        twice = len(set(lambdas)) != len(lambdas) or not lambdas
        if "feature_coding" in self.baselines and twice:
            problems.append("feature_coding.lambdas must be one or more different values")
        if "shared_neck" in self.baselines and not any(is_vbr(one.arch) for one in self.codecs):
            problems.append(
                "baselines: shared_neck is one neck for all rates of a -vbr codec, and there is "
                "none in codecs"
            )
        if "end_to_end_oracle" in self.baselines:
            problems += self._oracle_problems()
        labels = [codec.label for codec in self.codecs]
        if {"transfer", "transfer_tuned"} & set(self.baselines) and labels:
            if self.transfer.source not in ("", *labels):
                problems.append(
                    f"transfer.source = {self.transfer.source!r}: no such codec; there are "
                    f"{', '.join(labels)}"
                )
            elif len(labels) == 1:
                problems.append(f"baselines: transfer needs a codec beside {labels[0]}")
            else:
                given = self.source
                problems += [
                    f"baselines: transfer from {given.label} to {one.label}: a neck reads "
                    f"M channels of latents, and they have {given.M} and {one.M}"
                    for one in self.codecs
                    if one.M != given.M
                ]
        return problems

    def _oracle_problems(self) -> list[str]:
        said = "baselines: end_to_end_oracle learns from the answers for the training images"
        if self.data.kind != "scenes":
            return [f"{said}, which data of kind {self.data.kind!r} has not; scenes have"]
        if not self.mllms:
            return [f"{said} through the first of mllms, which is empty"]
        if not self.answered:
            return [f"{said}, and none of tasks ({', '.join(self.tasks)}) has such answers"]
        return []

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
        elif self.trained[0] not in ("d1", "d2", "d3", "post_processing"):
            problems.append(f"search: not of {self.trained[0]}; of d1, d2, d3, post_processing")
        if self.resources.workers_per_point:
            problems.append(
                "search: trains in the trial's own process; resources.workers_per_point = "
                f"{self.resources.workers_per_point} must be 0"
            )
        for path, where in {} if problems else self.search.over.items():
            said = f"search.over.{path}"
            scenario = self.trained[0]
            if not searchable(path, scenario):
                valid = f"{scenario}.* except {', '.join(MEASURE)}"
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

"""A space's settings outside scenarios: data, models, tasks, codecs, and how points train.

`search_spaces.specs.space` adds scenarios, variants and the checks of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from search_spaces.facts.tasks import (
    TASK_FACTS,
    encoder_tasks,
    known_task,
    mllm_tasks,
    tasks_of_data,
    tasks_to_learn,
)
from search_spaces.settings.paths import LocationOrName, short_name
from search_spaces.specs.base import ModelName, Spec
from search_spaces.specs.benchmark import AnyBenchmark, BenchmarkSpec
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.data import DataSpec
from search_spaces.specs.evaluation import EvaluationSpec, Resources
from search_spaces.specs.search import SearchSpec
from search_spaces.specs.training import NeckSpec, SurrogateSpec, TeacherSpec

TaskName = Annotated[str, AfterValidator(known_task)]
VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:-]*$")]


class MllmSpec(Spec):
    """An MLLM that answers; a text stands for `{model: TEXT}`."""

    model: LocationOrName
    """`shipped:NAME`, a local directory or a hub id of a transformers MLLM: `ORG/MODEL`, or
    `ORG/MODEL@REVISION` with a branch, a tag or a commit."""
    name: ModelName = ""
    """The `mllm` in points and plots; empty for the hub id or the directory's name."""

    @property
    def label(self) -> str:
        """The name in points and plots."""
        return self.name or short_name(self.model)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"model": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _as_text(self, dump: SerializerFunctionWrapHandler) -> object:
        return dump(self) if self.name else self.model


@dataclass(frozen=True)
class Measurement:
    """A task that an operating point is measured on, and with whom.

    Attributes:
        answerer: path or id of the MLLM, or of the teacher where the encoder answers alone.
        task: its name.
        benchmark: whose samples; None for the space's own data.
        name: of the answerer in points and plots; empty for its id or its directory's name.
    """

    answerer: str
    task: str
    benchmark: BenchmarkSpec | None = None
    name: str = ""

    @property
    def label(self) -> str:
        """The answerer's name in points and plots."""
        return self.name or short_name(self.answerer)

    @property
    def shared(self) -> tuple[str, bool, str]:
        """What measurements have in common that are made in one pass over a data set's images:
        answerer, whether that is the encoder alone, and benchmark."""
        label = "" if self.benchmark is None else self.benchmark.label
        return self.answerer, self.by_encoder, label

    @property
    def by_encoder(self) -> bool:
        """Whether the visual encoder answers alone."""
        return TASK_FACTS.get(self.task).by_encoder


class SpaceFields(Spec):
    """The settings of a space that belong to no scenario."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Letters, digits, `.`, `_` and `-`."""
    description: str = ""
    """A line for `orchestrator.sweep --list`."""
    codecs: tuple[CodecSpec, ...]
    """Each is trained and measured at all of its rates."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Trainings of every operating point, but of those that train nothing."""
    data: DataSpec = DataSpec()
    teacher: TeacherSpec = TeacherSpec()
    mllms: tuple[MllmSpec, ...] = ()
    """Each `shipped:NAME`, a local directory or a hub id of a transformers MLLM, or `{model: ...,
    name: ...}` with a name for points and plots."""
    tasks: tuple[TaskName, ...] = ("captioning", "vqa", "rec", "fewshot")
    """Tasks measured on the space's own data. May be empty if `benchmarks` is not."""
    benchmarks: tuple[AnyBenchmark, ...] = ()
    """Published benchmarks to measure on as well."""
    neck: NeckSpec = NeckSpec()
    surrogate: SurrogateSpec = SurrogateSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    resources: Resources = Resources()
    variants: dict[VariantName, dict[str, Any]] = Field(default_factory=dict)
    """What an ablation compares: name (letters, digits, `_`, `:`, `-`) -> settings, e.g.
    `{k0: {teacher.block: 0}, k2: {teacher.block: 2}}`. Each is swept over everything else; what it
    does not touch is trained once for all."""
    search: SearchSpec | None = None
    """After the sweep: search for better settings of its trained scenario, over all points."""

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """What every operating point is measured on, and with whom.

        Each task on the space's own data, and each benchmark, with each MLLM, or with the teacher
        alone where the task is the encoder's. Those of one data set and answerer follow each other.
        """
        measurements = []
        for benchmark in (None, *self.benchmarks):
            tasks = self.tasks if benchmark is None else (benchmark.task,)
            asked, alone = mllm_tasks(tasks), encoder_tasks(tasks)
            answerers = [(mllm.model, mllm.name, asked) for mllm in self.mllms]
            answerers.append((self.teacher.model, self.teacher.name, alone))
            measurements += [
                Measurement(model, task, benchmark, name)
                for model, name, tasks_of in answerers
                for task in tasks_of
            ]
        return tuple(measurements)

    @property
    def trains_on_classes(self) -> bool:
        """Whether the surrogate loss needs classes and their text embeddings."""
        return any(phase.ce for phase in self.surrogate.phases)

    @property
    def answered(self) -> tuple[str, ...]:
        """The space's tasks that training images have answers for."""
        return tasks_to_learn(self.tasks)

    def codec(self, label: str) -> CodecSpec:
        """The codec of that name, with all its rates."""
        return next(codec for codec in self.codecs if codec.label == label)

    def task_problems(self) -> Iterator[str]:
        """Tasks, MLLMs and benchmarks that do not fit each other, a line each."""
        kind = self.data.kind
        for task in self.tasks:
            if kind not in TASK_FACTS.get(task).data_kinds:
                yield (
                    f"tasks: {task} has no samples for data of kind {kind!r}; valid are "
                    f"{', '.join(tasks_of_data(kind))}"
                )
        if not self.mllms and (asked := mllm_tasks(self.tasks)):
            yield f"mllms is empty: tasks {', '.join(asked)} need one"
        labels = [benchmark.label for benchmark in self.benchmarks]
        if len(set(labels)) != len(labels):
            yield f"two benchmarks share a name ({', '.join(labels)}): give each a `name`"
        asking = [spec.label for spec in self.benchmarks if mllm_tasks([spec.task])]
        if asking and not self.mllms:
            yield f"mllms is empty: benchmarks {', '.join(asking)} ask one"

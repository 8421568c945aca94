"""A space: everything that a sweep is asked to do, as validated plain data.

Defaults are the paper's values (*Bridging Compressed Image Latents and Multimodal Large Language
Models*, ICLR 2025, arXiv 2407.19651) where it gives them. A space is immutable, does not depend on
the hardware, and is complete or refused: all mistakes are found at construction, together.

Settings of scenarios are no fields of `Space`. Each scenario brings its own under its own key
(`d1: {steps: 200}`), so a scenario of another distribution is configured like the project's.
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails

from search_spaces.facts.tasks import (
    TASK_FACTS,
    encoder_tasks,
    known_task,
    mllm_tasks,
    tasks_of_data,
    tasks_to_learn,
)
from search_spaces.plugins import BrokenPluginError, Registry, UnknownPluginError
from search_spaces.settings.mistakes import explain, mistake, mistakes_below, unknown
from search_spaces.settings.overrides import PathError, merge
from search_spaces.specs.base import Spec
from search_spaces.specs.benchmark import AnyBenchmark, BenchmarkSpec
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.data import DataSpec
from search_spaces.specs.evaluation import EvaluationSpec, Resources
from search_spaces.specs.model import MllmSpec
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.search import SearchSpec
from search_spaces.specs.training import NeckSpec, SurrogateSpec, TeacherSpec

TaskName = Annotated[str, AfterValidator(known_task)]
VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:-]*$")]
VARIED: Final = ("codecs", "teacher", "neck", "surrogate")
"""What a variant may change, besides settings of scenarios: how points are trained, never what they
are measured on."""
JOINED: Final = "+"
"""Between the names of several variants that share a point."""


class ScenarioRules(ABC):
    """What a space asks of a scenario; `search_spaces.scenarios.contract` adds the rest."""

    name: ClassVar[str]
    """Key in spaces, files and points."""
    look: ClassVar[ScenarioLook]
    """How figures and tables show it."""
    key: ClassVar[str] = ""
    """Key of its settings in a space; empty for none. Scenarios may share one."""
    settings: ClassVar[type[BaseModel] | None] = None
    """Type of these settings; every setting has a default."""
    default_list: ClassVar[Literal["", "scenarios", "baselines"]] = ""
    """The default list that contains this scenario; empty for plug-ins."""
    trains: ClassVar[bool] = True
    """Whether every operating point of its trains something."""
    search_roots: ClassVar[tuple[str, ...]] = ()
    """Settings that `search:` may vary, with all below them; empty: it cannot be searched."""

    can_be_released: ClassVar[bool] = False
    """Whether points can be taken from files of the paper's format (`codecs.N.released`)."""

    def is_asked_for(self, settings: BaseModel) -> bool:
        """Whether settings that a space gives ask for the scenario without its name in a list."""
        return False

    def uses(self) -> tuple[str, ...]:
        """Names of the scenarios whose settings it uses besides its own."""
        return ()

    def problems(self, space: Space) -> Iterable[str]:
        """What in a space that names the scenario does not fit it, a line per mistake."""
        return ()


SCENARIOS: Final[Registry[ScenarioRules]] = Registry(
    "bridgesweep.scenarios",
    "search_spaces.scenarios",
    "SCENARIO",
    ScenarioRules,
    check=lambda name, rule: _check_foreign_scenario(name, rule),
)
"""All installed scenarios."""


_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def settings_models() -> dict[str, type[BaseModel]]:
    """Key -> type of the settings of all installed scenarios that can be imported."""
    rules = SCENARIOS.working()
    # The project's own last: no other distribution takes their keys.
    names = sorted(rules, key=lambda name: SCENARIOS.origin(name).is_project)
    return {
        rules[name].key: settings
        for name in names
        if (settings := rules[name].settings) is not None
    }


def _check_foreign_scenario(name: str, rule: ScenarioRules) -> None:
    """Whether a scenario of another distribution can be used beside the project's own.

    Raises:
        ValueError: its name or the key of its settings clashes, or these have no defaults.
    """
    if getattr(rule, "name", None) != name:
        raise ValueError(f"its entry point is {name!r}; give it `name = {name!r}`")
    if not isinstance(getattr(rule, "look", None), ScenarioLook):
        raise ValueError("its `look` must be a ScenarioLook")
    if not hasattr(rule, "stage"):
        raise ValueError("it must be a search_spaces.scenarios.Scenario")
    if rule.settings is None:
        return
    if not (isinstance(rule.settings, type) and issubclass(rule.settings, BaseModel)):
        raise ValueError("its `settings` must be a subclass of Spec")
    if not _KEY.fullmatch(rule.key):
        raise ValueError(f"its key {rule.key!r} must be letters, digits and _, as in {name!r}")
    if rule.key in Space.model_fields:
        raise ValueError(f"its key {rule.key!r} is a setting of every space")
    for other in SCENARIOS.names():
        if SCENARIOS.origin(other).is_project and SCENARIOS.get(other).key == rule.key:
            raise ValueError(f"its key {rule.key!r} belongs to the scenario {other!r}")
    try:
        rule.settings()
    except ValidationError as error:
        missing = ", ".join(str(item["loc"][0]) for item in error.errors() if item["loc"])
        raise ValueError(f"its settings need a default for {missing}") from error


def _listed(setting: Literal["scenarios", "baselines"]) -> tuple[str, ...]:
    """The scenarios that a space has where it does not give the list."""
    rules = SCENARIOS.working()
    names = sorted(rules, key=lambda name: rules[name].look.order)
    return tuple(
        name
        for name in names
        if rules[name].default_list == setting and SCENARIOS.origin(name).is_project
    )


@dataclass(frozen=True)
class Measurement:
    """What an operating point is measured on.

    Attributes:
        answerer: path or id of the MLLM, or of the teacher where the encoder answers alone.
        tasks: names of the tasks.
        benchmark: whose samples; None for the space's own data.
        name: of the answerer in points and plots; empty for its path or id.
    """

    answerer: str
    tasks: tuple[str, ...]
    benchmark: BenchmarkSpec | None = None
    name: str = ""

    @property
    def label(self) -> str:
        """The answerer's name in points and plots."""
        return self.name or self.answerer

    @property
    def by_encoder(self) -> bool:
        """Whether the visual encoder answers alone."""
        return not mllm_tasks(self.tasks)


class Space(Spec):
    """What to sweep."""

    model_config = ConfigDict(extra="allow")
    """Further keys are settings of scenarios, validated by `_read_settings`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Letters, digits, `.`, `_` and `-`."""
    description: str = ""
    codecs: tuple[CodecSpec, ...]
    scenarios: tuple[str, ...] = Field(default_factory=lambda: _listed("scenarios"))
    """Scenarios to study. `orchestrator.sweep --list` names those that are installed."""
    baselines: tuple[str, ...] = Field(default_factory=lambda: _listed("baselines"))
    """Scenarios to compare them with; any scenario may stand in either list."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
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
    """After the sweep of a single trained point: search for better settings of it."""

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of the scenarios that have operating points: listed, or asked for by settings."""
        implied = (
            name
            for name, rule in SCENARIOS.working().items()
            if rule.key in (self.model_extra or {})
            and rule.is_asked_for(self.settings_of(rule.key))
        )
        return tuple(dict.fromkeys((*self.scenarios, *self.baselines, *implied)))

    def settings_of(self, key: str) -> BaseModel:
        """The settings under a scenario's key; its defaults where the space gives none.

        Raises:
            KeyError: no installed scenario has the key.
        """
        given: BaseModel | None = (self.model_extra or {}).get(key)
        return settings_models()[key]() if given is None else given

    def of(self, variant: str) -> Space:
        """The space of one variant, which has no variants itself.

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
        varied = (*VARIED, *settings_models())
        problems = []
        for path, value in settings.items():
            root = path.partition(".")[0]
            if root not in varied:
                known = root in type(self).model_fields
                why = "the same for all points" if known else unknown(root, varied)
                choices = f"; what may change is {', '.join(varied)}" if known else ""
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
        measurements = []
        for benchmark in (None, *self.benchmarks):
            tasks = self.tasks if benchmark is None else (benchmark.task,)
            asked, alone = mllm_tasks(tasks), encoder_tasks(tasks)
            answerers = [(mllm.model, mllm.name, asked) for mllm in self.mllms]
            answerers.append((self.teacher.model, self.teacher.name, alone))
            measurements += [
                Measurement(model, tasks_of, benchmark, name)
                for model, name, tasks_of in answerers
                if tasks_of
            ]
        return tuple(measurements)

    @property
    def trains_on_classes(self) -> bool:
        """Whether the surrogate loss needs classes and their text embeddings."""
        return any(phase.ce for phase in self.surrogate.phases)

    @property
    def expanded(self) -> tuple[Space, ...]:
        """One space per variant, and one per end of each search range: what a sweep may run.

        Mistakes in any of them are found before it starts.
        """
        spaces = [self.of(name) for name in self.variants] or [self]
        over = self.search.over if self.search is not None else {}
        ends = (self.changed({path: end}) for path, where in over.items() for end in where.ends)
        return (*spaces, *ends)

    @property
    def answered(self) -> tuple[str, ...]:
        """The space's tasks that training images have answers for."""
        return tasks_to_learn(self.tasks)

    def codec(self, label: str) -> CodecSpec:
        """The codec of that name, with all its rates."""
        return next(codec for codec in self.codecs if codec.label == label)

    @classmethod
    def settings_models(cls) -> dict[str, type[BaseModel]]:
        """Key -> type of the settings that are no fields: those of scenarios."""
        return settings_models()

    @model_validator(mode="wrap")
    @classmethod
    def _read_settings(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate the settings of scenarios with the fields, so that all mistakes are found."""
        if not isinstance(data, dict):
            return handler(data)
        data, mistakes = dict(data), list[InitErrorDetails]()
        models = settings_models()
        for key in [key for key in data if key not in cls.model_fields]:
            if key not in models:
                choices = (*cls.model_fields, *models)
                mistakes.append(mistake(str(key), data.pop(key), unknown(str(key), choices)))
                continue
            try:
                data[key] = models[key].model_validate(data[key])
            except ValidationError as error:
                mistakes += mistakes_below(key, error)
                del data[key]
        names = [*_names(data, "scenarios", mistakes), *_names(data, "baselines", mistakes)]
        used = [*names, *(used for name in names for used in SCENARIOS.get(name).uses())]
        for name in used:
            rule = SCENARIOS.get(name)
            if rule.settings is not None and rule.key not in data:
                data[rule.key] = rule.settings()
        try:
            space = handler(data)
        except ValidationError as error:
            mistakes += mistakes_below(None, error)
        if mistakes:
            raise ValidationError.from_exception_data(cls.__name__, mistakes)
        return space

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [*self._list_problems(), *self._task_problems(), *self._codec_problems()]
        if self.neck.init == "encoder" and self.neck.layers > self.teacher.block:
            problems.append(
                f"neck.layers {self.neck.layers}: neck.init 'encoder' takes them from the "
                f"{self.teacher.block} blocks before teacher.block"
            )
        if not problems:
            for name in self.asked:
                problems += _problems_of(name, self)
        problems = problems or [*self._variant_problems(), *self._search_problems()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _list_problems(self) -> Iterator[str]:
        for setting in ("codecs", "tasks", "seeds"):
            if not getattr(self, setting) and not (setting == "tasks" and self.benchmarks):
                yield f"{setting} is empty"
        settings = ("scenarios", "baselines", "tasks", "seeds")
        listed = {setting: getattr(self, setting) for setting in settings}
        listed["mllms"] = [mllm.model for mllm in self.mllms]
        listed["mllms.name"] = [mllm.label for mllm in self.mllms]
        for setting, values in listed.items():
            if len(set(values)) != len(values):
                yield f"{setting} names something twice: {', '.join(map(str, values))}"
        for name in self.scenarios:
            if name in self.baselines:
                yield f"baselines: {name} is in scenarios already"
        if not self.asked:
            yield "scenarios and baselines are both empty: nothing to sweep"

    def _codec_problems(self) -> Iterator[str]:
        labels = [codec.label for codec in self.codecs]
        if len(set(labels)) != len(labels):
            yield f"two codecs share a name ({', '.join(labels)}): give each a `name`"
        rules = SCENARIOS.working()
        valid = [name for name, rule in rules.items() if rule.can_be_released]
        for number, codec in enumerate(self.codecs):
            if self.data.size % codec.pad_to:
                yield (
                    f"data.size = {self.data.size}: codecs.{number} ({codec.label}) needs a "
                    f"multiple of {codec.pad_to}"
                )
            for name in codec.released:
                if name not in valid:
                    yield (
                        f"codecs.{number}.released.{name}: no scenario with released files; "
                        f"valid: {', '.join(valid)}"
                    )

    def _task_problems(self) -> Iterator[str]:
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

    def _search_problems(self) -> list[str]:
        if self.search is None:
            return []
        problems = []
        rates = sum(len(codec.lambdas) for codec in self.codecs)
        trained = [name for name in self.asked if SCENARIOS.get(name).trains]
        if (len(trained), rates, len(self.seeds)) != (1, 1, 1) or self.variants:
            problems.append(
                "search: trains one operating point; give one codec, lambda, scenario and seed, "
                f"and no variants (there are {rates} x {len(trained)} x {len(self.seeds)})"
            )
        elif not SCENARIOS.get(trained[0]).search_roots:
            valid = [name for name, rule in SCENARIOS.working().items() if rule.search_roots]
            problems.append(f"search: not of {trained[0]}; of {', '.join(valid)}")
        if self.resources.workers_per_point:
            problems.append(
                "search: trains in the trial's own process; resources.workers_per_point = "
                f"{self.resources.workers_per_point} must be 0"
            )
        for path, where in {} if problems else self.search.over.items():
            problems += self._search_range_problems(trained[0], path, where.ends)
        return list(dict.fromkeys(problems))

    def _search_range_problems(
        self, scenario: str, path: str, ends: Iterable[object]
    ) -> Iterator[str]:
        """What is wrong with one range of a search."""
        assert self.search is not None
        roots = SCENARIOS.get(scenario).search_roots
        setting = f"search.over.{path}"
        if not self.search.may_vary(path, roots):
            yield (
                f"{setting}: cannot be searched for {scenario}; valid: {self.search.choices(roots)}"
            )
            return
        for end in ends:
            try:
                self.changed({path: end})
            except ValueError as error:
                yield from (f"{setting}: {line}" for line in str(error).splitlines())

    def _variant_problems(self) -> list[str]:
        problems = []
        if len(self.variants) == 1:
            problems.append(f"variants: {next(iter(self.variants))} is alone; give two or more")
        spaces: dict[str, Space] = {}
        for name in self.variants:
            try:
                spaces[name] = self.of(name)
            except ValueError as error:
                problems += str(error).splitlines()
        for name, space in spaces.items():
            same = next(first for first, earlier in spaces.items() if earlier == space)
            if same != name:
                problems.append(f"variants: {same} and {name} are the same settings")
        return problems


def _problems_of(name: str, space: Space) -> list[str]:
    """What a scenario finds wrong; an error of another distribution's code is a line, too."""
    try:
        return list(SCENARIOS.get(name).problems(space))
    except Exception as error:
        if SCENARIOS.origin(name).is_project:
            raise
        return [f"{name}: its check of the space failed: {type(error).__name__}: {error}"]


def _names(
    data: Mapping[str, Any], setting: Literal["scenarios", "baselines"], mistakes: list[Any]
) -> list[str]:
    """The scenarios that a list names; those that cannot be used become mistakes."""
    given = data.get(setting, _listed(setting))
    names = []
    for place, name in enumerate(given if isinstance(given, (list, tuple)) else ()):
        if not isinstance(name, str):
            continue  # the field's own validation reports it
        try:
            SCENARIOS.get(name)
            names.append(name)
        except (UnknownPluginError, BrokenPluginError) as error:
            mistakes.append(mistake((setting, place), name, str(error)))
    return names

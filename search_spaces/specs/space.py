"""A space: everything that a sweep is asked to do, as validated plain data.

Defaults are the paper's values (*Bridging Compressed Image Latents and Multimodal Large Language
Models*, ICLR 2025, arXiv 2407.19651), or its authors' code's, where these give them; docstrings
call all others *ours*. A space is immutable and does not depend
on the hardware. An invalid or incomplete space raises at construction, all mistakes together.

Settings of scenarios are not fields of `Space`; they are extra keys. Each scenario brings its own
key (`d1: {steps: 200}`), so a scenario of another distribution is configured like the project's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails

from search_spaces.plugins import BrokenPluginError, UnknownPluginError
from search_spaces.settings.mistakes import explain, mistake, mistakes_below, unknown
from search_spaces.settings.overrides import PathError, merge
from search_spaces.settings.paths import short_name
from search_spaces.specs.evaluation import EVALUATION, KINDS
from search_spaces.specs.points import JOINED
from search_spaces.specs.scenario_rules import (
    SCENARIOS,
    ListName,
    listed_by_default,
    problems_of,
    settings_models,
)
from search_spaces.specs.space_fields import SpaceFields

VARIED: Final = ("codecs", "teacher", "neck", "surrogate")
"""What a variant may change, besides settings of scenarios: how points are trained, never what they
are measured on."""

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a text for a formula, where it comes first."""


class Space(SpaceFields):
    """What to sweep."""

    model_config = ConfigDict(extra="allow")
    """Further keys are settings of scenarios, validated by `_read_settings`."""

    scenarios: tuple[str, ...] = Field(default_factory=lambda: listed_by_default("scenarios"))
    """Scenarios to study. `orchestrator.sweep --list` names those that are installed."""
    baselines: tuple[str, ...] = Field(default_factory=lambda: listed_by_default("baselines"))
    """Scenarios to compare them with; any scenario may stand in either list."""

    @property
    def scenario_names(self) -> tuple[str, ...]:
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
        settings: BaseModel | None = (self.model_extra or {}).get(key)
        return settings_models()[key]() if settings is None else settings

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
                reason = "the same for all points" if known else unknown(root, varied)
                choices = f"; what may change is {', '.join(varied)}" if known else ""
                problems.append(f"{path} = {value!r}: {reason}{choices}")
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
    def expanded(self) -> tuple[Space, ...]:
        """One space per variant, and one per end of each search range: what a sweep may run.

        Mistakes in any of them are found before it starts.
        """
        spaces = [self.of(name) for name in self.variants] or [self]
        over = self.search.over if self.search is not None else {}
        ends = (self.changed({path: end}) for path, where in over.items() for end in where.ends)
        return (*spaces, *ends)

    def warnings(self) -> list[str]:
        """What is allowed in the space, or in its variants, but hardly meant; a line each."""
        found = (
            line
            for space in self.expanded
            for name in space.scenario_names
            for line in SCENARIOS.get(name).warnings(space)
        )
        return list(dict.fromkeys(found))

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
        problems = [
            *self._list_problems(),
            *self._name_problems(),
            *self.task_problems(),
            *self._codec_problems(),
        ]
        problems += self._resource_problems()
        if self.neck.init == "encoder" and self.neck.layers > self.teacher.block:
            problems.append(
                f"neck.layers {self.neck.layers}: neck.init 'encoder' takes them from the "
                f"{self.teacher.block} blocks before teacher.block"
            )
        if not problems:
            for name in self.scenario_names:
                problems += problems_of(name, self)
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
        if not self.scenario_names:
            yield "scenarios and baselines are both empty: nothing to sweep"

    def _name_problems(self) -> Iterator[str]:
        """Names, given or derived, that a spreadsheet would take for formulas in `points.csv`."""
        shown = {"data": self.data.label}
        shown["teacher"] = self.teacher.name or short_name(self.teacher.model)
        shown |= {f"codecs.{number}": codec.label for number, codec in enumerate(self.codecs)}
        shown |= {f"mllms.{number}": mllm.label for number, mllm in enumerate(self.mllms)}
        for setting, name in shown.items():
            if name.startswith(FORMULA):
                yield (
                    f"{setting}.name {name!r}: begins like a formula in a spreadsheet, by "
                    f"{name[0]!r}; give another name"
                )

    def _resource_problems(self) -> Iterator[str]:
        kinds = (*KINDS, *SCENARIOS.working())
        for kind in self.resources.by_kind:
            if kind not in kinds:
                yield f"resources.by_kind.{kind}: {unknown(kind, kinds)}"
        evaluation = self.resources.of(EVALUATION)
        for name in self.scenario_names:
            training = self.resources.of(name)
            if training.workers_per_point == 0 and training != evaluation:
                yield (
                    f"resources: {name} is trained in the trial's own process "
                    "(workers_per_point = 0), which evaluates it, too: give it what "
                    "by_kind.evaluation asks for, or a worker"
                )

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

    def _search_problems(self) -> list[str]:
        if self.search is None:
            return []
        problems = []
        trained = [name for name in self.scenario_names if SCENARIOS.get(name).trains]
        if len(trained) != 1 or self.variants:
            problems.append(
                "search: judges settings of one scenario; give one that is trained (there are "
                f"{len(trained)}: {', '.join(trained)}) and no variants"
            )
        elif not SCENARIOS.get(trained[0]).search_roots:
            valid = [name for name, rule in SCENARIOS.working().items() if rule.search_roots]
            problems.append(f"search: not of {trained[0]}; of {', '.join(valid)}")
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


def _names(data: Mapping[str, Any], setting: ListName, mistakes: list[Any]) -> list[str]:
    """The scenarios that a list names; those that cannot be used become mistakes."""
    given = data.get(setting, listed_by_default(setting))
    names = []
    for index, name in enumerate(given if isinstance(given, (list, tuple)) else ()):
        if not isinstance(name, str):
            continue  # the field's own validation reports it
        try:
            SCENARIOS.get(name)
            names.append(name)
        except (UnknownPluginError, BrokenPluginError) as error:
            mistakes.append(mistake((setting, index), name, str(error)))
    return names

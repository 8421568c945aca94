"""What a space asks of scenarios, and the registry that finds them."""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Iterable
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from search_spaces.plugins import Registry
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.space_fields import SpaceFields

SpaceT = TypeVar("SpaceT", bound=SpaceFields)
ListName = Literal["scenarios", "baselines"]


class ScenarioRules(ABC, Generic[SpaceT]):
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

    def problems(self, space: SpaceT) -> Iterable[str]:
        """What in a space that names the scenario does not fit it, a line per mistake."""
        return ()

    def warnings(self, space: SpaceT) -> Iterable[str]:
        """What in a space is allowed, but hardly meant, a line each."""
        return ()


SCENARIOS: Final[Registry[ScenarioRules[Any]]] = Registry(
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


def _check_foreign_scenario(name: str, rule: ScenarioRules[Any]) -> None:
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
    if rule.key in {*SpaceFields.model_fields, *get_args(ListName)}:
        raise ValueError(f"its key {rule.key!r} is a setting of every space")
    for other in SCENARIOS.names():
        if SCENARIOS.origin(other).is_project and SCENARIOS.get(other).key == rule.key:
            raise ValueError(f"its key {rule.key!r} belongs to the scenario {other!r}")
    try:
        rule.settings()
    except ValidationError as error:
        missing = ", ".join(str(item["loc"][0]) for item in error.errors() if item["loc"])
        raise ValueError(f"its settings need a default for {missing}") from error


def listed_by_default(setting: ListName) -> tuple[str, ...]:
    """The scenarios that a space has where it does not give the list."""
    rules = SCENARIOS.working()
    names = sorted(rules, key=lambda name: rules[name].look.order)
    return tuple(
        name
        for name in names
        if rules[name].default_list == setting and SCENARIOS.origin(name).is_project
    )


def problems_of(name: str, space: SpaceFields) -> list[str]:
    """What a scenario finds wrong; an error of another distribution's code is a line, too."""
    try:
        return list(SCENARIOS.get(name).problems(space))
    except Exception as error:
        if SCENARIOS.origin(name).is_project:
            raise
        return [f"{name}: its check of the space failed: {type(error).__name__}: {error}"]

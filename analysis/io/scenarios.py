"""The scenarios of a sweep as figures, tables and sentences show them.

`sweep.json` describes a sweep's scenarios (`"scenarios": {NAME: ScenarioLook as JSON}`). A scenario
that it does not describe has the look of the installed scenario of that name. A scenario
without any description has its name as title and comes last; figures choose its colour and marker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from analysis.io.schema import AnalysisError
from search_spaces.scenarios import looks as installed_looks
from search_spaces.specs.scenario_look import ScenarioLook

NOT_DESCRIBED: Final = 1000
"""Order of scenarios without description: after all others."""


def read_looks(block: Mapping[str, Any], source: str) -> dict[str, ScenarioLook]:
    """The looks of the scenarios in a manifest's block `scenarios`.

    Raises:
        AnalysisError: the block does not hold looks; the message names scenario and setting.
    """
    looks, problems = {}, []
    for name, fields in block.items():
        try:
            looks[str(name)] = ScenarioLook.model_validate(fields)
        except ValidationError as error:
            problems += [
                f"scenarios.{name}.{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
                for problem in error.errors()
            ]
    if problems:
        raise AnalysisError(f"{source}: {'; '.join(problems)}")
    return looks


@dataclass(frozen=True)
class Scenarios:
    """Looks of scenarios by name.

    Attributes:
        looks: the described scenarios; by default the installed ones.
    """

    looks: Mapping[str, ScenarioLook] = field(default_factory=installed_looks)

    @classmethod
    def described_by(cls, manifest: Mapping[str, Any], source: str = "sweep.json") -> Scenarios:
        """The scenarios of a manifest, and the installed ones that it does not describe.

        Raises:
            AnalysisError: as `read_looks`.
        """
        block = manifest.get("scenarios")
        if not block:
            return cls()
        described = read_looks(block, source)
        known = installed_looks()
        for name, look in described.items():
            # Earlier versions did not say so.
            if "depends_on_seed" not in look.model_fields_set and name in known:
                seeds = {"depends_on_seed": known[name].depends_on_seed}
                described[name] = look.model_copy(update=seeds)
        # Of roles that one scenario has, a sweep's description decides alone.
        taken = {look.role for look in described.values()}
        installed = {
            name: look.model_copy(update={"role": "curve"}) if look.role in taken else look
            for name, look in known.items()
        }
        return cls({**installed, **described})

    def look(self, scenario: str) -> ScenarioLook:
        """The look of a scenario."""
        known = self.looks.get(scenario)
        return known or ScenarioLook(title=scenario, order=NOT_DESCRIBED)

    def title(self, scenario: str) -> str:
        """The scenario's name for people; its key where there is no description."""
        return self.look(scenario).title

    def rank(self, scenario: str) -> tuple[int, str]:
        """Sort key that puts scenarios into their order in legends and tables."""
        return self.look(scenario).order, scenario

    def is_bound(self, scenario: str) -> bool:
        """Whether the scenario is a level across each figure instead of a curve."""
        return self.look(scenario).role == "bound"

    def has_base_codec(self, scenario: str) -> bool:
        """Whether the scenario writes the bits of a learned image codec of the space."""
        return self.look(scenario).codec == "base"

    def name(self, codec: str, scenario: str, variant: str = "") -> str:
        """Name of a curve without its codec's; a standard's curve has the name of its codec."""
        standard = self.look(scenario).codec == "standard" and bool(codec)
        return f"{codec if standard else self.title(scenario)} {variant}".strip()

    def anchor(self, among: Iterable[str] = ()) -> str:
        """The scenario that curves are compared with unless one is named.

        Args:
            among: scenarios of a sweep; one of these is preferred to one that is only installed.

        Returns:
            Empty where no scenario has that role.
        """
        return self._first("anchor", among)

    def bound(self, among: Iterable[str] = ()) -> str:
        """The scenario that is drawn as a level; empty where there is none."""
        return self._first("bound", among)

    def _first(self, role: str, among: Iterable[str]) -> str:
        for names in (among, self.looks):
            having = [name for name in names if self.look(name).role == role]
            if having:
                return min(having, key=self.rank)
        return ""

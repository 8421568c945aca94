"""Scenarios as plain data: one file each, with the computing half in `trainables/scenarios/`.

Adding one needs no change elsewhere: a module here with a `SCENARIO`, or an entry point of the
group `bridgesweep.scenarios` in another distribution.
"""

from search_spaces.scenarios.contract import (
    Environment,
    Scenario,
    environments_of,
    evaluation_pass,
    evaluation_stage,
    looks,
    point_stage,
    scenario_of,
    scenarios_of,
    space_in_use,
)

__all__ = [
    "Environment",
    "Scenario",
    "environments_of",
    "evaluation_pass",
    "evaluation_stage",
    "looks",
    "point_stage",
    "scenario_of",
    "scenarios_of",
    "space_in_use",
]

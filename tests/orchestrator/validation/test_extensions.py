"""A scenario of another distribution that fails while it is planned is named, before any work."""

from pathlib import Path

import pytest

from orchestrator.sweep import main
from search_spaces.specs.scenario_rules import SCENARIOS
from tests.orchestrator.models import SMOKE
from tests.trainables.distributions import installed

SCENARIO = """
from search_spaces.scenarios.reconstruction import Reconstruction
from search_spaces.specs.scenario_look import ScenarioLook

class Mine(Reconstruction):
    name, implementation = "mine", "trainables.scenarios.reconstruction:METHOD"
    look = ScenarioLook(title="mine")

    def {hook}(self, *arguments):
        raise KeyError("no such width")

SCENARIO = Mine()
"""
ENTRY_POINT = "[bridgesweep.scenarios]\nmine = mydist_module:SCENARIO\n"
HOOKS = (
    *("own_points", "applies_to", "reads", "identity"),
    *("training", "cost", "trained_parameters", "record"),
)


@pytest.mark.parametrize("variants", ["{}", "{a: {}, b: {d1.steps: 3}}"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_scenario_that_raises_is_a_mistake_with_its_distribution_and_error(
    hook: str, variants: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modules = {"mydist_module": SCENARIO.format(hook=hook)}
    settings = ["--set=baselines=[mine]", f"--set=variants={variants}"]
    storage = tmp_path / "results"
    try:
        with installed(tmp_path, "mydist", modules, ENTRY_POINT):
            SCENARIOS.forget()
            assert main([*SMOKE, *settings, "--plan", f"--storage={storage}"]) == 2
    finally:
        SCENARIOS.forget()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("scenario mine of mydist 1.5: KeyError: 'no such width'")
    assert not storage.exists()

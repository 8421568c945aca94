"""Extensions of other distributions: found, refused, told apart, without harm to anything else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PathDistribution, distributions
from pathlib import Path

import pytest

from search_spaces import SpaceError, load_space
from search_spaces.plugins import (
    BrokenPluginError,
    Origin,
    UnknownPluginError,
    plugin_names,
    plugin_versions,
)
from search_spaces.scenarios import looks
from search_spaces.specs.scenario_rules import SCENARIOS

SCENARIO = """
from search_spaces.scenarios.reconstruction import Reconstruction
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.base import Spec
class Settings(Spec):
    strength: {strength}
class Mine(Reconstruction):
    name, key, settings, default_list = "{name}", "{key}", Settings, "baselines"
    look = ScenarioLook(title="Mine")
SCENARIO = Mine()
"""


class Site:
    """A directory of installed distributions."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        patch.syspath_prepend(str(directory))

    def install(
        self,
        text: str,
        name: str = "mine",
        distribution: str = "mydist",
        group: str = "bridgesweep.scenarios",
        value: str = "",
    ) -> None:
        module = f"{distribution}_module"
        (self.directory / f"{module}.py").write_text(text)
        about = self.directory / f"{distribution}-2.1.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.1\n"
        )
        entry = f"[{group}]\n{name} = {value or module + ':SCENARIO'}\n"
        (about / "entry_points.txt").write_text(entry)
        SCENARIOS.forget()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    yield Site(tmp_path, monkeypatch)
    monkeypatch.undo()
    for module in [name for name in sys.modules if name.endswith("dist_module")]:
        del sys.modules[module]
    SCENARIOS.forget()


def scenario(name: str = "mine", key: str = "mine", strength: str = "float = 1.0") -> str:
    return SCENARIO.format(name=name, key=key, strength=strength)


def test_a_scenario_of_another_distribution_is_configured_like_the_projects(site: Site) -> None:
    site.install(scenario())
    space = load_space("smoke", ["baselines=[mine]", "mine.strength=3"])
    assert space.settings_of("mine").model_dump() == {"strength": 3.0}
    assert space.model_validate(space.model_dump(mode="json")) == space
    assert looks()["mine"].distribution == "mydist 2.1"
    assert looks()["reconstruction"].distribution == ""
    assert plugin_versions()["mydist"] == "2.1"
    with pytest.raises(SpaceError, match=r"mine\.strenth: .*'strength'"):
        load_space("smoke", ["baselines=[mine]", "mine.strenth=3"])


def test_an_installed_scenario_joins_no_space_that_does_not_name_it(site: Site) -> None:
    before = load_space("smoke")
    site.install(scenario())
    assert load_space("smoke") == before
    assert "mine" not in load_space("smoke").scenario_names


def test_names_are_listed_without_importing_anything(site: Site) -> None:
    site.install("raise RuntimeError('imported')")
    assert "mine" in SCENARIOS.names()
    assert SCENARIOS.origin("mine").distribution == "mydist"
    assert "mydist_module" not in sys.modules
    with pytest.raises(BrokenPluginError, match=r"mydist 2\.1.*RuntimeError: imported"):
        SCENARIOS.get("mine")
    assert set(SCENARIOS.broken()) == {"mine"}
    assert "d1" in SCENARIOS.working()
    assert load_space("smoke").scenario_names


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        (scenario(name="other"), "", "give it `name = 'mine'`"),
        (scenario(key="data"), "", "'data' is a setting of every space"),
        (scenario(key="d1"), "", "'d1' belongs to the scenario 'd1'"),
        (scenario(strength="float"), "", "need a default for strength"),
        ("SCENARIO = 3", "", "is int, not an instance of ScenarioRules"),
        ("", "mydist_module:NOTHING", "AttributeError"),
        ("", "no_such_module:SCENARIO", "ModuleNotFoundError"),
        ("import sys; sys.exit('no licence')", "", "SystemExit: no licence"),
        (scenario() + "Mine.look = None", "", "must be a ScenarioLook"),
        (scenario() + "Mine.settings = int", "", "must be a subclass of Spec"),
        (scenario(key="a.b"), "", "its key 'a.b'"),
        (scenario().replace('"Mine")', '"Mine", marker="nope")'), "", "marker"),
    ],
)
def test_an_unusable_scenario_fails_only_the_space_that_names_it(
    site: Site, text: str, value: str, reason: str
) -> None:
    site.install(text, value=value)
    assert reason in SCENARIOS.broken()["mine"]
    assert load_space("smoke").name == "smoke"
    with pytest.raises(SpaceError, match=r"baselines\.0: .*'mine'") as error:
        load_space("smoke", ["baselines=[mine]"])
    assert reason in str(error.value)


def test_of_two_places_of_a_distribution_the_first_one_counts(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install(scenario())
    shadowed = tmp_path / "later" / "mydist-0.9.dist-info"
    shutil.copytree(tmp_path / "mydist-2.1.dist-info", shadowed)
    metadata = shadowed / "METADATA"
    metadata.write_text(metadata.read_text().replace("2.1\n", "0.9\n"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "later")])
    SCENARIOS.forget()
    assert plugin_versions() == {"mydist": "2.1"}
    assert SCENARIOS.origin("mine").version == "2.1"


def test_the_metadata_of_distributions_without_extensions_is_not_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine has hundreds; every process would take a second for them."""
    site.install(scenario())
    # Once a backport of importlib is imported, distributions are of its class.
    kind = type(next(iter(distributions(path=[str(site.directory)]))))
    owner = next(base for base in kind.__mro__ if "metadata" in vars(base))
    read, metadata = set(), vars(owner)["metadata"].fget

    def recorded(distribution: PathDistribution) -> object:
        read.add(str(distribution.locate_file("")))
        return metadata(distribution)

    monkeypatch.setattr(owner, "metadata", property(recorded))
    assert SCENARIOS.origin("mine").distribution == "mydist"
    assert "mine" in plugin_names()
    assert plugin_versions() == {"mydist": "2.1"}
    assert read == {str(site.directory)}


def test_a_projects_name_cannot_be_taken(site: Site) -> None:
    projects = SCENARIOS.get("d1")
    site.install(scenario(name="d1", key="mine"), name="d1")
    assert SCENARIOS.get("d1") is projects
    assert SCENARIOS.origin("d1") == Origin("bridgesweep")
    assert set(SCENARIOS.broken()) == {"d1 of mydist 2.1"}
    assert SCENARIOS.working()["d1"] is projects


def test_a_name_that_two_distributions_have_is_ambiguous(site: Site) -> None:
    site.install(scenario())
    site.install(scenario(), distribution="yourdist")
    with pytest.raises(BrokenPluginError, match="'mine'") as error:
        SCENARIOS.get("mine")
    assert "mydist 2.1" in str(error.value)
    assert "yourdist 2.1" in str(error.value)


def test_identity_follows_the_files_of_the_distribution(site: Site) -> None:
    site.install(scenario())
    (site.directory / "mydist_unrelated.py").write_text("X = 1")
    first = SCENARIOS.origin("mine").identity
    assert first["distribution"] == "mydist"
    assert SCENARIOS.origin("mine").identity == first
    site.install(scenario(strength="float = 2.0"))
    assert SCENARIOS.origin("mine").identity["content"] != first["content"]
    assert SCENARIOS.origin("d1").identity == {}


def test_unknown_names_are_answered_with_the_installed_ones(site: Site) -> None:
    site.install(scenario())
    with pytest.raises(UnknownPluginError, match=r"'min'.*d1.*mine \(mydist 2\.1\)"):
        SCENARIOS.get("min")

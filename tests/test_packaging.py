"""What is installed and handed on: the wheel, the extras, pinned versions, licence and citation."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from analysis.report.page import PAPER

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PACKAGES = ("search_spaces", "trainables", "orchestrator", "analysis", "bridgesweep")
BUILD = """
import sys
from setuptools.build_meta import build_wheel
build_wheel(sys.argv[1])
"""


def pins(file: str) -> dict[str, set[str]]:
    """Name -> versions of the lines NAME==VERSION of a file."""
    versions: dict[str, set[str]] = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if found := re.match(r"([\w.-]+)==([^\s;]+)", line):
            versions.setdefault(canonicalize_name(found[1]), set()).add(found[2])
    return versions


CONSTRAINTS = pins("constraints.txt")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy of the tree, as a build leaves its own files behind."""
    tree = tmp_path_factory.mktemp("tree")
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tree)
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=tree, check=True, capture_output=True
    )
    (file,) = out.glob("*.whl")
    return zipfile.ZipFile(file)


def read(wheel: zipfile.ZipFile, ending: str) -> bytes:
    (name,) = (name for name in wheel.namelist() if name.endswith(ending))
    return wheel.read(name)


def test_the_wheel_holds_code_types_and_all_that_is_shipped(wheel: zipfile.ZipFile) -> None:
    inside = set(wheel.namelist())
    shipped = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert shipped <= inside, "what stands in the packages is installed"
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside
    assert {name.partition("/")[0] for name in inside - shipped} == {
        f"bridgesweep-{PROJECT['version']}.dist-info"
    }


def test_the_wheel_says_its_licence_its_authors_and_its_command(wheel: zipfile.ZipFile) -> None:
    about = message_from_bytes(read(wheel, "/METADATA"))
    assert about["License-Expression"] == "Apache-2.0"
    assert set(about.get_all("License-File") or ()) == {"LICENSE", "NOTICE"}
    assert about["Author"] == "bridgesweep developers"
    assert "Typing :: Typed" in (about.get_all("Classifier") or ())
    assert "bridgesweep = bridgesweep.command:main" in read(wheel, "/entry_points.txt").decode()
    assert b"Apache License" in read(wheel, "/LICENSE")


def test_the_notice_names_all_weights_and_texts_of_others() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    weights = [path.name for path in (ROOT / "trainables" / "shipped").iterdir()]
    facts = ROOT / "search_spaces" / "facts"
    texts = [path.name for kind in ("classes", "templates") for path in (facts / kind).iterdir()]
    assert weights
    assert texts
    assert [name for name in (*weights, *texts) if name not in notice] == []


def names_of(extra: str) -> set[str]:
    """All distributions that an extra asks for, those of the extras that it includes too."""
    names = set()
    for requirement in map(Requirement, EXTRAS[extra] if extra else PROJECT["dependencies"]):
        if requirement.name == PROJECT["name"]:
            names |= {name for other in requirement.extras for name in names_of(other)}
        else:
            names.add(canonicalize_name(requirement.name))
    return names


def test_only_extras_bring_torch_and_ray_and_each_brings_what_it_runs_on() -> None:
    heavy = {"torch", "torchvision", "ray", "mlflow", "transformers", "compressai"}
    assert not heavy & names_of("")
    assert heavy <= names_of("sweep")
    for extra in ("cluster", "gpus", "lmms", "search", "vvc", "test", "dev"):
        assert names_of("sweep") <= names_of(extra), extra
    assert names_of("test") <= names_of("dev")


def test_all_that_is_asked_for_is_pinned() -> None:
    asked = {name for extra in ("", "dev") for name in names_of(extra)}
    assert asked - set(CONSTRAINTS) == set()


def test_pre_commit_runs_the_same_ruff_and_mypy() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    hooks: list[dict[str, Any]] = [
        h for repo in yaml.safe_load(text)["repos"] for h in repo["hooks"]
    ]
    assert {hook["entry"].split()[0] for hook in hooks} == {"ruff", "mypy"}
    for hook in hooks:
        tool = hook["entry"].split()[0]
        if hook["language"] == "system":  # the environment's, as of constraints.txt
            assert tool in names_of("dev")
        else:
            (version,) = CONSTRAINTS[tool]
            assert hook["additional_dependencies"] == [f"{tool}=={version}"]


def test_the_lock_file_has_the_pinned_versions_and_their_checksums() -> None:
    text = (ROOT / "requirements-sweep.lock").read_text(encoding="utf-8")
    locked = pins("requirements-sweep.lock")
    assert names_of("") | names_of("sweep") <= set(locked)
    assert {name for name, versions in locked.items() if not versions <= CONSTRAINTS[name]} == set()
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    assert "://" not in text, "a checksum says what it is, not where it is from"


def test_the_workflow_runs_what_every_commit_must_pass() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    runs = {name: [step.get("run", "") for step in job["steps"]] for name, job in jobs.items()}
    assert ".ci/run" in runs["suite"]
    assert any("chromium" in run and "jre" in run for run in runs["suite"])
    versions = jobs["base"]["strategy"]["matrix"]["python"]
    classifiers = {f"Programming Language :: Python :: {version}" for version in versions}
    assert classifiers <= set(PROJECT["classifiers"])


def test_citation_and_changes_are_of_this_version_and_the_method_s_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert paper["title"] == PAPER["title"]
    assert PAPER["arxiv"] in paper["url"]
    names = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    bibtex = " ".join(PAPER["bibtex"].split())
    assert " and ".join(names) in bibtex
    assert f"\n## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

"""Another distribution's codec, scenarios and task: listed, swept by workers, drawn, recorded."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugin"
Sweep = Callable[..., subprocess.CompletedProcess[str]]


def install(target: Path, change: Callable[[Path], None] = lambda sources: None) -> Path:
    """Install the distribution, from a copy that may be changed before, into a directory."""
    sources = target / "sources"
    shutil.copytree(PLUGIN, sources)
    change(sources)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    site = target / "site"
    subprocess.run([*command, "--target", str(site), str(sources)], check=True, capture_output=True)
    return site


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), str(ROOT)])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("installed"))


SPACE = (
    *("--set", "codecs=[{arch: stride-8, lambdas: [0.02], train: {steps: 8, batch_size: 4}}]"),
    *("--set", "scenarios=[d1, gain]", "--set", "tasks=[vqa, counting]"),
    *("--set", "baselines=[grey]"),
    *("--set", "gain={steps: 6, batch_size: 4}"),
)


@pytest.mark.slow
def test_extensions_of_another_distribution_are_swept_end_to_end_in_train_workers(
    site: Path, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    one_worker = ("--set", "resources.workers_per_point=1")
    done = run(site, *command(tmp_path, *SPACE, *one_worker)[1:])
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    sweep = tmp_path / "smoke"
    points = pd.read_parquet(sweep / "points.parquet")
    assert set(points["scenario"]) == {"d1", "grey", "gain"}
    assert set(points["codec"].dropna()) == {"stride-8"}
    assert set(points["task"]) == {"vqa", "counting"}
    assert points["value"].between(0, 1).all()
    samples = pd.read_parquet(sweep / "samples.parquet")
    counted = samples[samples["task"] == "counting"]
    assert set(counted["prompt"]) == {"<image> question : how many digits ? answer :"}

    content = json.loads((sweep / "sweep.json").read_text())
    assert content["scenarios"]["grey"]["distribution"] == "bridgesweep-example 0.1.0"
    assert content["tasks"]["counting"]["primary"] == "accuracy"
    html = (sweep / "report.html").read_text()
    assert "The image is read without colours." in html
    assert "Each colour is scaled and shifted." in html

    # The codec's stride reached the latents that d1 trained on.
    latents = next(tmp_path.glob("stages/latents/*/train/part-*.parquet"))
    import pyarrow.parquet as pq

    shape = json.loads(pq.read_schema(latents).field("y_hat").metadata[b"shape"])
    size = content["space"]["data"]["size"]
    assert shape == [24, size // 8, size // 8]
    manifests = [
        json.loads(file.read_text()) for file in tmp_path.glob("stages/point/*/manifest.json")
    ]
    for manifest in manifests:
        assert manifest["code"]["packages"]["bridgesweep-example"] == "0.1.0"
    specs = [manifest["spec"] for manifest in manifests]
    plugins = {spec["scenario"]: spec["plugin"] for spec in specs if "plugin" in spec}
    assert set(plugins) == {"grey", "gain"}
    assert plugins["grey"]["distribution"] == "bridgesweep-example"
    assert plugins["grey"]["version"] == "0.1.0"
    again = run(site, *command(tmp_path, *SPACE, "--plan")[1:])
    assert "3 of them complete; 0 of" in again.stdout


def test_list_names_what_is_installed_and_from_where(site: Path) -> None:
    done = run(site, "-m", "orchestrator.sweep", "--list")
    assert done.returncode == 0, done.stderr
    of_plugin = [line for line in done.stdout.splitlines() if "[bridgesweep-example 0.1.0]" in line]
    assert {line.split()[0] for line in of_plugin} == {"stride-8", "grey", "gain", "counting"}


def keys(site: Path) -> dict[str, str]:
    settings = ["scenarios=[d1]", "baselines=[grey]", "codecs.0.lambdas=[0.02]"]
    code = f"""
import json
from search_spaces import *
space = load_space("smoke", {settings})
stages = Stages(space)
print(json.dumps({{p.scenario: point_stage(stages, p).key for p in operating_points(space)}}))
"""
    done = run(site, "-c", code)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_other_files_of_the_distribution_make_another_key_of_its_own_points_alone(
    site: Path, tmp_path: Path
) -> None:
    def edit(sources: Path) -> None:
        file = sources / "bridgesweep_example" / "grey_method.py"
        file.write_text(file.read_text().replace("mean(1", "amax(1"))

    before, after = keys(site), keys(install(tmp_path, edit))
    assert before["grey"] != after["grey"]
    assert before["d1"] == after["d1"]


def test_a_broken_extension_is_named_with_its_error_and_fails_only_spaces_that_ask_for_it(
    tmp_path: Path,
) -> None:
    def break_it(sources: Path) -> None:
        (sources / "bridgesweep_example" / "gain.py").write_text("import no_such_module\n")

    site = install(tmp_path, break_it)
    listed = run(site, "-m", "orchestrator.sweep", "--list")
    assert listed.returncode == 0, listed.stderr
    (line,) = [line for line in listed.stdout.splitlines() if line.split()[:1] == ["gain"]]
    assert "no_such_module" in line
    plan = ("-m", "orchestrator.sweep", "smoke", "--plan", "--storage", str(tmp_path / "s"))
    assert run(site, *plan).returncode == 0
    asked = run(site, *plan, "--set", "scenarios=[gain]")
    assert asked.returncode == 2
    assert "scenarios.0" in asked.stderr
    assert "no_such_module" in asked.stderr
    assert "Traceback" not in asked.stderr


def definitions(text: str) -> list[str]:
    """The definitions of a module without imports and docstrings, as comparable text."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            del body[0]
    return [ast.dump(n) for n in tree.body if not isinstance(n, (ast.Import, ast.ImportFrom))]


def test_the_extension_that_is_shown_is_the_one_that_is_swept_here() -> None:
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    assert len(text.strip().splitlines()) <= 60
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    parts = re.split(r"^# (bridgesweep_example/\w+\.py):.*\n", code, flags=re.MULTILINE)
    shown = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert len(shown) == 5
    for name, definition in shown.items():
        assert definitions(definition) == definitions((PLUGIN / name).read_text()), name

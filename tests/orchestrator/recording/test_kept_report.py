"""A finished sweep that is run again keeps its report while that would look the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import analysis.report
from orchestrator.driver.run import run
from orchestrator.plan.jobs import Plan
from orchestrator.recording.kept_report import _templates, content_of
from orchestrator.recording.request import Request
from orchestrator.storage import provenance
from orchestrator.storage.store import Store
from search_spaces import load_space, operating_points
from tests.orchestrator.recording.test_point_log import commit_point

SETTINGS = ["tasks=[vqa]", "scenarios=[]", "baselines=[uncompressed, reconstruction]"]


@pytest.fixture
def plan(store: Store) -> Plan:
    """Of three points, of which two are complete."""
    space = load_space("smoke", SETTINGS)
    plan = Plan(space, operating_points(space), provenance.fingerprints(space), store)
    for point in plan.points[:2]:
        commit_point(store, plan, point)
    return plan


def report(plan: Plan, store: Store, points: int = 2) -> tuple[int, list[int]]:
    """Run the sweep; when its page was written, and its plots."""
    asked = plan.space, plan.points[:points], store, "smoke", None, False, 0.0, "the command"
    assert run(Request(*asked))
    directory = Path(store.root, "smoke")
    plots = sorted((directory / "plots").iterdir())
    assert plots
    written = [file.stat().st_mtime_ns for file in plots]
    return (directory / "report.html").stat().st_mtime_ns, written


def test_what_looks_the_same_is_not_written_again(
    plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    first, shown = report(plan, store), capsys.readouterr().out
    assert report(plan, store) == first
    again = capsys.readouterr().out
    tables = [text[text.index(" curve ") : text.index("MLflow")] for text in (shown, again)]
    assert "reconstruction" in tables[0]
    assert tables[0] == tables[1]


def delete_a_plot(directory: Path) -> None:
    next((directory / "plots").iterdir()).unlink()


def cut_the_page(directory: Path) -> None:
    page = directory / "report.html"
    page.write_bytes(page.read_bytes()[:-1])


def damage_the_record(directory: Path) -> None:
    (directory / "report.json").write_text('{"content": 1}')


def point_elsewhere(directory: Path) -> None:
    record = json.loads((directory / "report.json").read_text())
    record["files"]["../../secret"] = 7
    (directory / "report.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    "change", [delete_a_plot, cut_the_page, damage_the_record, point_elsewhere]
)
def test_what_is_not_as_it_was_written_is_written_again(
    plan: Plan, store: Store, change: Callable[[Path], None]
) -> None:
    page, plots = report(plan, store)
    change(Path(store.root, "smoke"))
    again, plots_again = report(plan, store)
    assert again > page
    assert len(plots_again) == len(plots)
    assert report(plan, store) == (again, plots_again)


def test_costs_beside_the_points_are_shown(plan: Plan, store: Store) -> None:
    page, _ = report(plan, store)
    numbers = {"sender": 1.0, "receiver": 2.0, "own": 1.0, "own_parameters": 10}
    row = {"codec": "hyperprior", "variant": "", "scenario": "reconstruction", **numbers}
    costs = {"totals": [row], "size": 64, "teacher": "clip"}
    Path(store.root, "smoke", "complexity.json").write_text(json.dumps(costs))
    assert report(plan, store)[0] > page


def test_another_point_is_shown(plan: Plan, store: Store) -> None:
    page, _ = report(plan, store)
    commit_point(store, plan, plan.points[2])
    assert report(plan, store, points=3)[0] > page


@pytest.mark.parametrize("name", ["source_checksum", "versions"])
def test_another_program_writes_it_again(
    plan: Plan, store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, _ = report(plan, store)
    monkeypatch.setattr(provenance, name, lambda: {"matplotlib": "other"})
    assert report(plan, store)[0] > page


def test_its_digest_is_that_of_what_is_shown(plan: Plan, store: Store) -> None:
    """Not of when the run was, and how long it took."""
    report(plan, store)
    file = Path(store.root, "smoke", "sweep.json")
    before, sweep = content_of(store, "smoke"), json.loads(file.read_text())
    file.write_text(json.dumps({**sweep, "created": "2000-01-01", "timing": {"wall_s": 7.0}}))
    assert content_of(store, "smoke") == before
    file.write_text(json.dumps({**sweep, "space": {**sweep["space"], "name": "other"}}))
    assert content_of(store, "smoke") != before
    file.write_text(json.dumps(sweep))
    assert content_of(store, "smoke") == before
    samples = Path(store.root, "smoke", "samples.parquet")
    table = pq.read_table(samples)  # which says of itself of what evaluations it is
    pq.write_table(table.replace_schema_metadata({}), samples)
    assert content_of(store, "smoke") != before


def test_another_style_of_the_page_is_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, copied = _templates(), tmp_path / "report"
    shutil.copytree(analysis.report.__path__[0], copied)
    monkeypatch.setattr(analysis.report, "__path__", [str(copied)])
    assert _templates() == before
    style = next(copied.glob("*.css"))
    style.write_text(style.read_text() + "a { color: red }")
    assert _templates() != before


def test_a_report_that_is_not_noted_is_a_report(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Store.write

    def refuse(store: Store, name: str, data: bytes) -> None:
        if name.endswith("report.json"):
            raise OSError("away")
        write(store, name, data)

    monkeypatch.setattr(Store, "write", refuse)
    page, _ = report(plan, store)
    assert report(plan, store)[0] > page, "the next run writes it again"

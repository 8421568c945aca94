"""Figures and the page: what must be on them, and what must not be loaded by them."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.curves.assemble import assemble
from analysis.figures.rate_accuracy import draw_curves
from analysis.io.read import AnalysisError, read_sweep, write_points
from analysis.report.build import main, write_report
from analysis.report.tables import point_rows, shared_settings
from tests.analysis.messages import naming
from tests.analysis.sweeps import make_sweep

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Loads(HTMLParser):
    """Collects whatever a browser would fetch, and checks that tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "srcset", "data", "poster") or (
                name in ("href", "xlink:href") and tag != "a"
            ):
                self.fetched.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(sweep_dir: Path) -> str:
    return Path(write_report(str(sweep_dir)).html).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def holey_page(holey_dir: Path) -> str:
    return Path(write_report(str(holey_dir)).html).read_text(encoding="utf-8")


def test_figures_that_a_report_has_no_more_are_deleted_and_nothing_else(
    sweep_dir: Path, tmp_path: Path
) -> None:
    whole = read_sweep(str(sweep_dir))
    write_report(whole, str(tmp_path), pdf=True)
    mine = tmp_path / "plots" / "mine.png"
    mine.write_bytes(b"of a user")
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"of another")
    noted = tmp_path / ".figures.json"
    noted.write_text(json.dumps([*json.loads(noted.read_text()), "../outside.png", 1]))
    one_task = dataclasses.replace(whole, points=whole.points[whole.points["task"] == "vqa"])
    paths = write_report(one_task, str(tmp_path))
    found = {path.name for path in (tmp_path / "plots").iterdir()}
    assert found == {Path(path).name for path in paths.plots} | {"mine.png"}
    assert "captioning.png" not in found
    assert outside.exists()


def test_files_are_where_they_are_said_to_be(sweep_dir: Path, page: str) -> None:
    names = [
        "captioning",
        "captioning-cider",
        "difference",
        "fewshot",
        "forest",
        "mean",
        "panel-1",
        "panel-2",
        "psnr",
        "rec",
        "tasks",
        "vqa",
    ]
    assert page
    found = sorted(p.name for p in (sweep_dir / "plots").iterdir())
    assert found == sorted(f"{n}.{e}" for n in names for e in ("png", "svg"))
    assert (sweep_dir / "plots" / "vqa.png").read_bytes().startswith(b"\x89PNG")


def test_page_loads_nothing_and_is_well_formed(page: str) -> None:
    parser = Loads()
    parser.feed(page)
    assert parser.open == []
    assert parser.fetched
    assert all(
        f.startswith(("#", "data:image/png;base64,", "data:image/webp;base64,"))
        for f in parser.fetched
    )
    assert len(parser.ids) == len(set(parser.ids))
    assert not re.search(r"@import|url\((?!#)|<script[^>]* src|<link", page)
    # Links lead to the tracking store's UI and nowhere else.
    addresses = set(re.findall(r"https?://[\w.]+(?::\d+)?", page)) - {"http://www.w3.org"}
    assert addresses == {"http://127.0.0.1:5000"}


def test_page_tells_the_result_how_points_were_made_and_how_to_cite(page: str) -> None:
    for text in (
        "All 21 operating points are present",
        "d3 needs 6",
        "steps = 300",
        "provenance.commit = &#34;0123abc&#34;",
        "train: 41.5 s",
        f"{0:032x}",
        "2407.19651",
        "prefers-color-scheme: dark",
        'name="viewport"',
        "data:image/webp;base64,",
    ):
        assert text in page, text
    assert "missing" not in page.split("</style>")[1].split("<h2")[0]
    assert f'href="http://127.0.0.1:5000/#/runs/{0:032x}"' in page
    assert "mlflow ui --backend-store-uri sqlite:///mlflow.db" in page


def test_missing_points_are_named_on_page_and_plot(holey_page: str, holey_dir: Path) -> None:
    assert "2 of 21 operating points are missing" in holey_page
    assert "logs/d2-hyperprior-0.004.txt" in holey_page
    for name in ("mean", "vqa", "captioning-cider"):
        svg = (holey_dir / "plots" / f"{name}.svg").read_text(encoding="utf-8")
        assert "missing: d2 lambda 0.004: diverged" in svg
        assert "missing: post-processing lambda 0.012: killed" in svg
    psnr = (holey_dir / "plots" / "psnr.svg").read_text(encoding="utf-8")
    assert "d2 lambda 0.004" in psnr


def test_no_line_is_drawn_through_a_hole(holey_dir: Path) -> None:
    """d2 has two points, a hole and one point: no path of d2's colour joins three points."""
    vqa = next(p for p in draw_curves(assemble(read_sweep(str(holey_dir)))) if p.name == "vqa")
    lines = re.findall(
        r'<path d="([^"]+)" clip-path[^>]*style="fill: none; stroke: (#\w+)', vqa.svg
    )
    steps = {
        colour: max(len(re.findall("[ML]", d)) for d, c in lines if c == colour)
        for colour in ("#0072b2", "#009e73")
    }
    assert steps == {"#0072b2": 2, "#009e73": 4}


def test_uncompressed_and_chance_are_lines_and_every_scenario_is_in_the_legend(
    sweep_dir: Path,
) -> None:
    vqa = next(p for p in draw_curves(assemble(read_sweep(str(sweep_dir)))) if p.name == "vqa")
    for label in ("uncompressed", "chance", "reconstruction", "post-processing", "d1", "d2", "d3"):
        assert f">{label}<" in vqa.svg
    assert "d3 0." in vqa.alt


def test_text_from_a_sweep_is_escaped(tmp_path: Path) -> None:
    make_sweep(tmp_path / "x", {("d1", 0.004): "<script>alert(1)</script>"}, n=20, examples=False)
    html = Path(write_report(str(tmp_path / "x")).html).read_text(encoding="utf-8")
    assert "alert(1)&lt;/script&gt;" in html
    assert "<script>alert" not in html
    assert html.count("</script>") == 3


def test_settings_are_told_once_for_all_points_of_a_scenario(sweep_dir: Path, page: str) -> None:
    """Nothing of a spec is lost by it: shared ones and a point's own are all of them."""
    sweep = read_sweep(str(sweep_dir))
    points = list(point_rows(sweep))
    before = {point["key"]: dict(point["settings"]) for point in points}
    shared = shared_settings(points)
    for point in points:
        assert {**shared[point["scenario"]], **point["settings"]} == before[point["key"]]
    assert before["d1-hyperprior-0.004"]["steps"] == "300"
    assert page.count("steps = 300") == len(shared)


def test_links_lead_to_the_tracking_server_or_where_one_says(
    sweep_dir: Path, tmp_path: Path
) -> None:
    sweep = read_sweep(str(sweep_dir))
    served = {**sweep.manifest, "tracking_uri": "https://user:secret@mlflow.example:5000"}
    there = dataclasses.replace(sweep, manifest=served)
    for address, said in (
        ("https://mlflow.example:5000", None),
        ("https://elsewhere.example", "https://elsewhere.example/"),
    ):
        paths = write_report(there, str(tmp_path), mlflow_ui=said)
        found = Path(paths.html).read_text(encoding="utf-8")
        assert f'href="{address}/#/runs/{0:032x}"' in found
        assert f'"mlflow":"{address}"' in found
        assert "secret" not in found
    with pytest.raises(AnalysisError, match=naming("mlflow-ui", "mlflow.example")):
        write_report(sweep, mlflow_ui="mlflow.example")


def test_points_alone_are_enough(sweep_dir: Path, tmp_path: Path) -> None:
    points = read_sweep(str(sweep_dir)).points
    write_points(points, str(tmp_path))
    paths = write_report(str(tmp_path / "points.csv"))
    assert Path(paths.html).parent == tmp_path
    assert (paths.summary["note"].str.contains("per-sample values are not known")).any()


@pytest.mark.parametrize("scenarios", [["uncompressed"], ["d1"], ["reconstruction"]])
def test_a_sweep_of_almost_nothing_has_a_report(
    sweep_dir: Path, tmp_path: Path, scenarios: list[str]
) -> None:
    points = read_sweep(str(sweep_dir)).points
    few = points[points["scenario"].isin(scenarios)].drop_duplicates(["scenario", "task", "metric"])
    write_points(few, str(tmp_path))
    assert Path(write_report(str(tmp_path)).html).stat().st_size > 5_000


def test_points_that_ran_out_of_memory_are_named(sweep_dir: Path, tmp_path: Path) -> None:
    storage = shutil.copytree(sweep_dir, tmp_path / "sweep")
    manifest = json.loads((storage / "sweep.json").read_text(encoding="utf-8"))
    content = json.dumps(manifest | {"sliced": ["hyperprior d2 lambda=0.02 seed=0"]})
    (storage / "sweep.json").write_text(content, encoding="utf-8")
    html = Path(write_report(str(storage)).html).read_text(encoding="utf-8")
    (note,) = re.findall(r"<dt>out of memory at first</dt><dd>(.*?)</dd>", html)
    assert note.startswith("hyperprior d2 lambda=0.02 seed=0: trained with more accumulation")


def test_command_writes_elsewhere_and_says_where(
    sweep_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(sweep_dir), "--out", str(tmp_path / "new")]) == 0
    assert str(tmp_path / "new" / "report.html") in capsys.readouterr().out


def test_others_results_which_have_no_runs_stand_beside_ones_own(
    sweep_dir: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs.csv"
    columns = f"vqa,{read_sweep(str(sweep_dir)).points['mllm'].iloc[0]},scenes,test,theirs"
    rows = [f"{bpp},{value},{columns}" for bpp, value in ((0.05, 0.6), (0.1, 0.7), (0.3, 0.85))]
    head = "bpp,accuracy,task,mllm,dataset,split,codec"
    theirs.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    both = read_sweep(str(sweep_dir), str(theirs))
    runs = {row["key"]: row["run_id"] for row in point_rows(both)}
    assert list(runs.values()).count("") == 3
    html = Path(write_report(both, str(tmp_path / "out")).html).read_text(encoding="utf-8")
    assert html.count('"run":""') == 3

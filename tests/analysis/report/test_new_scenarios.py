"""Scenarios that nobody has heard of, one described in `sweep.json` and one not, in all figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.curves.assemble import Assembled, assemble
from analysis.figures.ablation import draw_ablation
from analysis.figures.common.looks import Looks
from analysis.figures.common.render import Plot
from analysis.figures.cost import draw_costs
from analysis.figures.difference import draw_difference
from analysis.figures.panels import draw_panels
from analysis.figures.rate_accuracy import draw_curves, draw_psnr
from analysis.figures.surrogate import draw_surrogate
from analysis.io.complexity import COMPLEXITY, read_costs
from analysis.io.read import Sweep, read_sweep
from analysis.report.build import write_report
from analysis.report.interactive import interactive, numbered
from analysis.stats.compare import compare
from tests.analysis.awkward import crowd, some
from tests.analysis.figures.test_figures import check_fits, write_costs
from tests.analysis.rich import make_rich

DESCRIBED, UNKNOWN = "brand_new", "newer_still"
LOOK = {
    "title": "brand-new way",
    "order": 35,
    "family": "bridge",
    "colour": None,
    "marker": None,
    "sentence": "It does what has never been done.",
    "distribution": "brand-new 1.2",
}
VARIANTS: dict[str, dict[str, object]] = {"a": {}, "b": {"x": 1}}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_rich(tmp_path_factory.mktemp("new") / "demo", n=60)
    manifest = json.loads((made / "sweep.json").read_text())
    manifest["scenarios"][DESCRIBED] = LOOK
    (made / "sweep.json").write_text(json.dumps(manifest))
    write_costs(made, ("elic",), {DESCRIBED: 2.0, UNKNOWN: 3.0})
    return made


@pytest.fixture(scope="module")
def assembled(directory: Path) -> Assembled:
    return assemble(read_sweep(str(directory)), 50)


@pytest.fixture(scope="module")
def plots(assembled: Assembled, directory: Path) -> dict[str, Plot]:
    comparison = compare(assembled.sweep, assembled=assembled)
    varied = crowd(
        some(assembled.sweep, task=["vqa", "rec"]), ["m"], VARIANTS, [DESCRIBED, UNKNOWN]
    )
    variants = assemble(varied, 20)
    drawn = [
        *draw_curves(assembled),
        *draw_psnr(assembled),
        *draw_difference(assembled),
        *draw_costs(assembled, comparison, read_costs(str(directory / COMPLEXITY))),
        *draw_surrogate(assembled),
        *draw_panels(assembled, 1),
        *draw_ablation(variants, compare(varied, n_resamples=20, assembled=variants)),
    ]
    return {plot.name: plot for plot in drawn}


KINDS = ("mean", "vqa", "difference", "complexity", "surrogate", "panel-1", "ablation")


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_names_and_draws_both(kind: str, plots: dict[str, Plot]) -> None:
    plot = next(plot for name, plot in plots.items() if name.startswith(kind))
    svg = plot.svg
    assert ">brand-new way<" in svg.replace("\n", " ")
    assert f">{UNKNOWN}<" in svg
    if kind != "panel-1":
        check_fits(plot)


def test_colours_and_markers_are_distinct_and_stay_when_a_scenario_is_added(
    assembled: Assembled,
) -> None:
    looks = Looks.of(assembled)
    curves = {curve.owner: looks.curve(curve) for curve in assembled.means}
    of_models = [look for (codec, *_), look in curves.items() if codec == "elic"]
    assert len({look.colour for look in of_models}) == len(of_models)
    assert len({look.marker for look in of_models}) == len(of_models)
    sweep = assembled.sweep
    for gone in (DESCRIBED, UNKNOWN, "d1"):
        fewer = Sweep(sweep.points[sweep.points["scenario"] != gone], None, sweep.manifest)
        without = Looks(
            [("elic", name) for name in fewer.points["scenario"].unique()], (), fewer.scenarios
        )
        for codec, scenario, _ in curves:
            if codec == "elic" and scenario != gone:
                assert without.scenario(scenario) == looks.scenario(scenario)


def test_both_are_in_the_figures_to_point_at(assembled: Assembled, plots: dict[str, Plot]) -> None:
    for name in ("mean", "vqa", "difference", "complexity", "surrogate"):
        drawing = plots[name].drawing
        assert drawing is not None
        data = interactive(drawing, numbered(assembled))["data"]
        traces = {trace["name"]: trace for trace in data if "marker" in trace}
        both = [traces["brand-new way"]["marker"], traces[UNKNOWN]["marker"]]
        assert both[0]["symbol"] != both[1]["symbol"]
        assert both[0]["color"] != both[1]["color"]


def test_the_report_explains_the_described_one_once(directory: Path, tmp_path: Path) -> None:
    page = Path(write_report(str(directory), str(tmp_path)).html).read_text(encoding="utf-8")
    text = page.split("</style>", 1)[1].split('id="data"')[0]
    assert text.count(str(LOOK["sentence"])) == 1
    assert "brand-new 1.2" in text
    assert ">brand-new way" in text
    assert f">{UNKNOWN}" in text
    assert DESCRIBED not in text.split('id="points"')[0]

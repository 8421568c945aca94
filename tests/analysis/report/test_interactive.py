"""The figures to point at: valid for Plotly, and the same numbers as the drawn ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.graph_objects import Figure

from analysis.curves.assemble import Assembled, assemble
from analysis.figures.common.looks import MARKER_LETTERS, Look, Looks
from analysis.figures.common.render import Plot
from analysis.figures.cost import draw_costs
from analysis.figures.difference import draw_difference
from analysis.figures.rate_accuracy import draw_curves, draw_psnr
from analysis.figures.surrogate import draw_surrogate
from analysis.io.complexity import COMPLEXITY, read_costs
from analysis.io.read import read_sweep
from analysis.io.scenarios import Scenarios
from analysis.report.interactive import SYMBOLS, interactive, marker_of, numbered
from analysis.stats.compare import compare
from tests.analysis.figures.test_figures import write_costs


@pytest.fixture(scope="module")
def rich(rich_dir: Path) -> Assembled:
    return assemble(read_sweep(str(rich_dir)), 50)


@pytest.fixture(scope="module")
def live(rich: Assembled, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    directory = tmp_path_factory.mktemp("costs")
    write_costs(directory, ("elic",))
    comparison = compare(rich.sweep, n_resamples=50, assembled=rich)
    costs = read_costs(str(directory / COMPLEXITY))
    plots = [*draw_curves(rich), *draw_psnr(rich), *draw_difference(rich)]
    plots += [*draw_costs(rich, comparison, costs), *draw_surrogate(rich)]
    return figures_of(rich, plots)


def figures_of(assembled: Assembled, plots: Iterable[Plot]) -> dict[str, dict[str, Any]]:
    """Plotly's data and layout by the figures' names."""
    numbers = numbered(assembled)
    return {plot.name: interactive(plot.drawing, numbers) for plot in plots if plot.drawing}


def test_plotly_takes_every_figure_and_draws_nothing_of_its_own(
    live: dict[str, dict[str, Any]],
) -> None:
    assert {"mean", "vqa", "psnr", "difference", "complexity", "surrogate"} <= set(live)
    for content in live.values():
        figure = Figure(content)  # raises for what Plotly does not know
        assert len(figure.data) == len(content["data"])
        assert figure.layout.xaxis.title.text is not None


def test_symbols_are_plotlys_and_as_many_as_markers() -> None:
    from plotly.validator_cache import ValidatorCache

    known = ValidatorCache.get_validator("scatter.marker", "symbol")
    for look in Scenarios().looks.values():
        known.validate_coerce(SYMBOLS[look.marker or ""])
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)
    letters = [
        marker_of(Look("", "#000000", f"${letter}$", "-"))["symbol"] for letter in MARKER_LETTERS
    ]
    for symbol in letters:
        known.validate_coerce(symbol)
    assert len(set(letters)) == len(letters)


def test_traces_hold_the_curves_points_and_their_operating_points(
    rich: Assembled, live: dict[str, dict[str, Any]]
) -> None:
    looks, numbers = Looks.of(rich), numbered(rich)
    keys = {number: key for key, number in numbers.items()}
    vqa = live["vqa"]["data"]
    lines = {trace["name"]: trace for trace in vqa if "customdata" in trace}
    own = [c for c in rich.curves if c.task == "vqa"]
    assert len(lines) == len(own)
    for curve in own:
        trace = lines[looks.curve(curve).label]
        assert trace["x"] == pytest.approx(curve.frame["bpp"], rel=1e-5)
        assert trace["y"] == pytest.approx(curve.frame["value"], rel=1e-5)
        assert [keys[n] for n in trace["customdata"]] == [k[0] for k in curve.frame["point_keys"]]
        assert trace["line"]["color"] == looks.curve(curve).colour


def test_a_hole_breaks_the_line_and_bands_hold_the_intervals(holey_dir: Path) -> None:
    assembled = assemble(read_sweep(str(holey_dir)), 50)
    vqa = figures_of(assembled, draw_curves(assembled))["vqa"]["data"]
    d2 = [trace for trace in vqa if trace["name"] == "d2" and "fill" not in trace]
    assert [len(trace["x"]) for trace in d2] == [2, 1]
    assert [trace["showlegend"] for trace in d2] == [True, False]
    (d3,) = (c for c in assembled.curves if (c.scenario, c.task) == ("d3", "vqa"))
    band = next(t for t in vqa if t.get("fill") and t["legendgroup"] == "d3")
    np.testing.assert_allclose(band["y"], [*d3.frame["high"], *d3.frame["low"][::-1]], rtol=1e-5)

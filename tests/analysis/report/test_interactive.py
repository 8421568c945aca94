"""The figures to point at: valid for Plotly, and the same numbers as the drawn ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.curves.assemble import Assembled, assemble
from analysis.figures.cost import draw_costs
from analysis.figures.difference import differences, draw_difference
from analysis.figures.looks import MARKER_LETTERS, Look, Looks
from analysis.figures.rate_accuracy import draw_curves, draw_psnr
from analysis.figures.surrogate import draw_surrogate
from analysis.io.complexity import COMPLEXITY, read_costs
from analysis.io.read import read_sweep
from analysis.io.scenarios import Scenarios
from analysis.report.interactive import (
    live_costs,
    live_curves,
    live_difference,
    live_surrogate,
    numbered,
)
from analysis.report.traces import SYMBOLS, Live, marker_of
from analysis.stats.compare import compare
from analysis.stats.surrogate import surrogate
from tests.analysis.figures.test_figures import write_costs


@pytest.fixture(scope="module")
def rich(rich_dir: Path) -> Assembled:
    return assemble(read_sweep(str(rich_dir)), 50)


@pytest.fixture(scope="module")
def live(rich: Assembled, tmp_path_factory: pytest.TempPathFactory) -> list[Live]:
    directory = tmp_path_factory.mktemp("costs")
    write_costs(directory, ("elic",))
    comparison = compare(rich.sweep, n_resamples=50, assembled=rich)
    costs = read_costs(str(directory / COMPLEXITY))
    drawn = [*draw_curves(rich), *draw_psnr(rich), *draw_difference(rich)]
    drawn += [*draw_costs(rich, comparison, costs), *draw_surrogate(rich)]
    found = [
        *live_curves(rich),
        *live_difference(rich, differences(rich)),
        *live_costs(rich, comparison, costs),
    ]
    found += live_surrogate(rich, surrogate(rich))
    assert [one.name for one in found] == [plot.name for plot in drawn]
    return found


def test_plotly_takes_every_figure_and_draws_nothing_of_its_own(live: list[Live]) -> None:
    for one in live:
        figure = one.plotly()  # raises for what Plotly does not know
        assert len(figure.data) == len(one.figure["data"])
        assert figure.layout.xaxis.title.text is not None


def test_symbols_are_plotlys_and_as_many_as_markers() -> None:
    from plotly.validator_cache import ValidatorCache

    known = ValidatorCache.get_validator("scatter.marker", "symbol")
    for look in Scenarios().looks.values():
        known.validate_coerce(SYMBOLS[look.marker or ""])
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)
    letters = [
        marker_of(Look("", "#000000", f"${letter}$", "-"), 8)["symbol"] for letter in MARKER_LETTERS
    ]
    for symbol in letters:
        known.validate_coerce(symbol)
    assert len(set(letters)) == len(letters)


def test_traces_hold_the_curves_points_and_their_operating_points(
    rich: Assembled, live: list[Live]
) -> None:
    looks, numbers = Looks.of(rich), numbered(rich)
    keys = {number: key for key, number in numbers.items()}
    vqa = next(one for one in live if one.name == "vqa").figure["data"]
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
    vqa = next(one for one in live_curves(assembled) if one.name == "vqa").figure["data"]
    d2 = [trace for trace in vqa if trace.get("name") == "d2"]
    assert [len(trace["x"]) for trace in d2] == [2, 1]
    assert [trace["showlegend"] for trace in d2] == [True, False]
    (d3,) = (c for c in assembled.curves if (c.scenario, c.task) == ("d3", "vqa"))
    band = next(t for t in vqa if t.get("fill") and t["legendgroup"] == "d3")
    np.testing.assert_allclose(band["y"], [*d3.frame["high"], *d3.frame["low"][::-1]], rtol=1e-5)

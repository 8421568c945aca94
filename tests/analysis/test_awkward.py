"""Awkward sweeps: long names, many curves, few points, other scales; every figure of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.ablation import draw_ablation
from analysis.compare import compare
from analysis.cost import COMPLEXITY, draw_costs, read_costs
from analysis.curves import Assembled, assemble
from analysis.difference import draw_difference
from analysis.interactive_variants import live_ablation
from analysis.layout import WIDTH
from analysis.plots import draw_curves, draw_psnr
from analysis.points import read_sweep
from analysis.render import Plot
from analysis.surrogate import draw_surrogate
from tests.analysis.awkward import LONG_CODECS, LONG_MLLMS, LONG_VARIANTS, crowd, some
from tests.analysis.rich import make_rich
from tests.analysis.test_figures import check_fits, write_costs


def every_figure(assembled: Assembled, costs: str | None = None) -> list[Plot]:
    comparison = compare(assembled.sweep, n_resamples=20, assembled=assembled)
    plots = [*draw_curves(assembled), *draw_psnr(assembled), *draw_difference(assembled)]
    plots += [*draw_ablation(assembled, comparison), *draw_surrogate(assembled)]
    return plots + (draw_costs(assembled, comparison, read_costs(costs)) if costs else [])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two codecs and all scenarios, under names longer than a figure is wide."""
    found = make_rich(tmp_path_factory.mktemp("long") / "demo", LONG_CODECS, n=20)
    write_costs(found, LONG_CODECS)
    return found


@pytest.fixture(scope="module")
def crowded(directory: Path) -> Assembled:
    sweep = some(read_sweep(str(directory)), task=["captioning", "vqa"])
    return assemble(crowd(sweep, LONG_MLLMS[1:], LONG_VARIANTS), 20)


@pytest.fixture(scope="module")
def plots(directory: Path, crowded: Assembled) -> list[Plot]:
    return every_figure(crowded, str(directory / COMPLEXITY))


def test_no_name_is_cut_and_no_legend_covers_data(plots: list[Plot]) -> None:
    kinds = {plot.name.partition("-")[0] for plot in plots}
    assert kinds >= {"mean", "captioning", "psnr", "difference", "ablation", "surrogate"}
    assert "complexity" in kinds
    for plot in plots:
        assert plot.figure.get_figwidth() == WIDTH
        check_fits(plot)


def test_figures_say_whose_they_are(plots: list[Plot], crowded: Assembled) -> None:
    mean = [plot for plot in plots if plot.name.startswith("mean")]
    assert len(mean) == 2
    for plot, mllm in zip(mean, LONG_MLLMS[1:], strict=True):
        assert plot.title == f"Mean over tasks ({mllm})"
        drawn = "".join(text.get_text() for text in plot.figure.texts)
        assert mllm in drawn.replace("\n", "")
        assert mllm in plot.alt


def test_codecs_variants_and_scenarios_are_told_once_each(plots: list[Plot]) -> None:
    """Twelve curves of d1, d2 and d3 need no twelve entries."""
    (figure,) = (plot.figure for plot in plots if plot.name == "psnr")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:4] == [*sorted(LONG_CODECS), *LONG_VARIANTS]
    assert set(labels[4:]) <= {"reconstruction", "d1", "d2"}


def test_the_variants_to_point_at_are_the_drawn_ones(plots: list[Plot], crowded: Assembled) -> None:
    comparison = compare(crowded.sweep, n_resamples=20, assembled=crowded)
    live = live_ablation(crowded, comparison)
    drawn = {plot.name: plot.figure for plot in plots if plot.name.startswith("ablation")}
    assert [one.name for one in live] == list(drawn)
    assert len(live) == 4
    for one in live:
        one.plotly()  # raises for what Plotly does not know
        panels = drawn[one.name].axes
        for number, axes in enumerate(panels):
            own = [
                t for t in one.figure["data"] if t["yaxis"] == f"y{number + 1 if number else ''}"
            ]
            varied = [t for t in own if "text" in t]
            markers = [line for line in axes.lines if line.get_linestyle() == "None"]
            for trace, line in zip(varied, markers, strict=True):
                np.testing.assert_allclose(trace["x"], line.get_xdata(), rtol=1e-5)
                np.testing.assert_allclose(trace["y"], line.get_ydata(), rtol=1e-5)
        text = next(t["text"][0] for t in one.figure["data"] if t["name"] == "d1" and "text" in t)
        for words in (
            "entering-at-block-2",
            "teacher.block = 2",
            "accuracy 0.",
            "BD-rate",
            "4 rates",
        ):
            assert words in text, text

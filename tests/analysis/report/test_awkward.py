"""Awkward sweeps: long names, many curves, few points, other scales; every figure of them."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from plotly.graph_objects import Figure as PlotlyFigure

from analysis.curves.assemble import Assembled, assemble
from analysis.curves.missing import Missing, in_words
from analysis.figures.ablation import draw_ablation
from analysis.figures.common.drawing import Drawing, Group, Panel, Series
from analysis.figures.common.layout import WIDTH
from analysis.figures.common.looks import Looks
from analysis.figures.common.render import Plot, draw, styled
from analysis.figures.cost import draw_costs
from analysis.figures.difference import draw_difference
from analysis.figures.rate_accuracy import draw_curves, draw_psnr
from analysis.figures.surrogate import draw_surrogate
from analysis.io.complexity import COMPLEXITY, read_costs
from analysis.io.read import read_sweep
from analysis.io.scenarios import Scenarios
from analysis.report.interactive import interactive
from analysis.report.summary import summary_sentence
from analysis.stats.compare import compare
from analysis.stats.savings import gains, savings
from analysis.stats.significance import significance
from tests.analysis.awkward import (
    LONG_CODECS,
    LONG_MLLMS,
    LONG_VARIANTS,
    crowd,
    lower,
    scaled,
    single,
    some,
    twins,
)
from tests.analysis.figures.test_figures import check_fits, write_costs
from tests.analysis.rich import make_rich
from tests.analysis.sweeps import LAMBDAS, make_sweep


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
    legends = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    labels = next(labels for labels in legends if "d1" in labels)
    assert labels[:4] == [*sorted(LONG_CODECS), *LONG_VARIANTS]
    assert set(labels[4:]) <= {"reconstruction", "d1", "d2"}


def test_the_variants_to_point_at_are_the_drawn_ones(plots: list[Plot]) -> None:
    drawn = [plot for plot in plots if plot.name.startswith("ablation")]
    assert len(drawn) == 4
    for plot in drawn:
        assert plot.drawing is not None
        live = interactive(plot.drawing, {})
        PlotlyFigure(live)  # raises for what Plotly does not know
        for number, axes in enumerate(plot.figure.axes):
            on_axis = f"y{number + 1 if number else ''}"
            varied = [t for t in live["data"] if t["yaxis"] == on_axis and "text" in t]
            markers = [line for line in axes.lines if line.get_linestyle() == "None"]
            for trace, line in zip(varied, markers, strict=True):
                np.testing.assert_allclose(trace["x"], line.get_xdata(), rtol=1e-5)
                np.testing.assert_allclose(trace["y"], line.get_ydata(), rtol=1e-5)
        text = next(t["text"][0] for t in live["data"] if t["name"] == "d1" and "text" in t)
        for words in (
            "entering-at-block-2",
            "teacher.block = 2",
            "accuracy 0.",
            "BD-rate",
            "4 rates",
        ):
            assert words in text, text


def test_less_is_better_is_drawn_as_it_is_and_compared_with_nothing(sweep_dir: Path) -> None:
    assembled = assemble(lower(read_sweep(str(sweep_dir))), 20)
    comparison = compare(assembled.sweep, n_resamples=20, assembled=assembled)
    vqa = comparison[(comparison["task"] == "vqa") & (comparison["scenario"] != "uncompressed")]
    numbers = ["bd_rate", "bd_accuracy", "saved", "saved_max"]
    assert vqa[numbers].isna().all().all()
    compared = vqa[vqa["scenario"] != "reconstruction"]
    assert compared["note"].str.contains("error_rate").all()
    assert comparison.loc[comparison["task"] == "rec", "bd_rate"].notna().any()
    assert not comparison["task"].str.contains("mean").any()
    assert assembled.means == []
    sentence = summary_sentence(assembled.sweep, comparison)
    assert "no mean over tasks" in sentence
    assert "vqa error_rate" in sentence
    (plot,) = (plot for plot in draw_curves(assembled) if plot.name == "vqa")
    assert plot.figure.axes[0].get_ylabel() == "error rate, lower is better"
    (d3,) = (c for c in assembled.curves if (c.scenario, c.task) == ("d3", "vqa"))
    drawn = [line.get_ydata() for line in plot.figure.axes[0].lines]
    assert any(len(y) == 4 and np.allclose(y, d3.frame["value"]) for y in drawn)
    assert d3.frame["value"].iloc[0] > d3.frame["value"].iloc[-1]
    for plot in every_figure(assembled):
        check_fits(plot)
    why = "no number: lower error_rate is better"
    for frame in (savings(assembled), gains(assembled), significance(assembled)):
        said = frame[frame["metric"] == "error_rate"]
        assert len(said) == 4  # a row for each curve but the anchor
        assert said["note"].str.startswith(why).all()


@pytest.mark.parametrize(("factor", "unit"), [(100.0, "%"), (10.0, "CIDEr")])
def test_another_scale_changes_the_numbers_of_no_comparison(
    sweep_dir: Path, factor: float, unit: str
) -> None:
    plain = read_sweep(str(sweep_dir))
    sweep = scaled(plain, factor, unit)
    assembled = assemble(sweep, 20)
    one, other = (compare(s, n_resamples=20) for s in (plain, sweep))
    np.testing.assert_allclose(other["bd_rate"], one["bd_rate"], rtol=1e-9)
    np.testing.assert_allclose(other["bd_accuracy"], factor * one["bd_accuracy"], rtol=1e-9)
    plots = {plot.name: plot for plot in every_figure(assembled)}
    assert plots["mean"].figure.axes[0].get_ylabel() == f"mean over tasks ({unit})"
    assert plots["vqa"].figure.axes[0].get_ylabel() == f"score ({unit})"
    for plot in plots.values():
        check_fits(plot)


def test_metrics_of_several_units_have_no_mean_anywhere(sweep_dir: Path) -> None:
    sweep = read_sweep(str(sweep_dir))
    tasks = {**sweep.manifest["tasks"]}
    tasks["captioning"] = {**tasks["captioning"], "primary": "cider"}
    mixed = dataclasses.replace(sweep, manifest={**sweep.manifest, "tasks": tasks})
    comparison = compare(mixed, n_resamples=20)
    assert not comparison["task"].str.contains("mean").any()
    assert "several units (CIDEr, fraction)" in summary_sentence(mixed, comparison)


def test_one_rate_alone_is_drawn_with_its_interval(sweep_dir: Path) -> None:
    assembled = assemble(single(read_sweep(str(sweep_dir))), 20)
    plots = {plot.name: plot for plot in every_figure(assembled)}
    for plot in plots.values():
        check_fits(plot)
        axes = plot.figure.axes[0]
        low, high = axes.get_xlim()
        assert high / low >= 1.09  # rates that differ by a hundredth are not spread out
        with styled():
            plot.figure.canvas.draw()
        boxes = [t.get_window_extent() for t in axes.get_xticklabels() if t.get_text()]
        pairs = itertools.pairwise(sorted(boxes, key=lambda box: box.x0))
        assert not any(one.overlaps(other) for one, other in pairs), plot.name
    assert "difference" not in plots
    bars = plots["mean"].figure.axes[0].collections
    assert len(bars) == 5
    assert plots["mean"].drawing is not None
    traces = {trace["name"]: trace for trace in interactive(plots["mean"].drawing, {})["data"]}
    (d1,) = (c for c in assembled.means if c.scenario == "d1")
    high = traces["d1"]["y"][0] + traces["d1"]["error_y"]["array"][0]
    assert high == pytest.approx(d1.frame["high"].iloc[0], rel=1e-5)
    assert "chance" not in traces  # far from what is shown, as in the drawn figure


def test_a_curve_under_another_is_told(sweep_dir: Path) -> None:
    sweep = twins(read_sweep(str(sweep_dir)))
    plots = {plot.name: plot for plot in draw_curves(assemble(sweep, 20))}
    assert "the same points: d2, d3" in plots["vqa"].svg
    for plot in plots.values():
        check_fits(plot)


def test_holes_are_told_together_and_an_empty_curve_is_in_no_legend(tmp_path: Path) -> None:
    killed = dict.fromkeys([("d1", lmbda) for lmbda in LAMBDAS], "out of memory")
    one = {("d2", LAMBDAS[1]): "loss is nan, and a reason that goes on and on " * 5}
    assembled = assemble(read_sweep(str(make_sweep(tmp_path / "x", killed | one, n=20))), 20)
    for plot in every_figure(assembled):
        check_fits(plot)
    (mean,) = (plot for plot in draw_curves(assembled) if plot.name == "mean")
    assert "missing: d1 lambda 0.0005, 0.0015, 0.004, 0.012: out of memory" in mean.svg
    labels = [text.get_text() for text in mean.figure.legends[0].get_texts()]
    assert "d1" not in labels
    assert "d2" in labels


def test_curves_that_are_still_to_come_take_no_panel(crowded: Assembled) -> None:
    """As the live figures of a sweep at its start: two of many curves have points."""
    there = [c for c in crowded.curves if c.task == "vqa" and c.mllm == LONG_MLLMS[1]]
    assert len(there) > 10
    empty = there[0].frame.iloc[:0]
    begun = [*there[:2], *(dataclasses.replace(c, frame=empty) for c in there[2:])]
    full, early = (
        next(p for p in draw_curves(dataclasses.replace(crowded, curves=c, means=[])))
        for c in (there, begun)
    )
    assert len(full.figure.axes) > 1
    assert len(early.figure.axes) == 1


def test_missing_points_are_named_by_what_they_are() -> None:
    gone = [
        Missing("elic", 0.01, "d2", 0, "killed"),
        Missing("elic", 0.03, "d2", 1, "killed"),
        Missing("jpeg", None, "classical", 0, "no encoder", quality=20),
        Missing(None, None, "uncompressed", 0, "killed"),
    ]
    assert in_words(gone, Scenarios()) == [
        "d2 lambda 0.01, 0.03: killed",
        "jpeg quality 20: no encoder",
        "uncompressed: killed",
    ]
    assert in_words(gone[:1], Scenarios(), codecs=True) == ["elic d2 lambda 0.01: killed"]


@pytest.mark.parametrize("count", [1, 3, 8, 16])
def test_names_along_an_axis_fit_however_many_there_are(count: int) -> None:
    names = [
        "k0",
        "k1-with-a-long-name",
        *LONG_VARIANTS,
        "ce only",
        "1:100",
        "x",
        "a-variant-with-a-name-without-an-end",
    ] * 2
    owner = ("elic", "d1", "")
    look = Looks([owner[:2]]).owner(*owner)
    panel = Panel("", [Series(owner, look, [0], [0])], [Group(frozenset([owner]), [look])])
    plot = draw(Drawing("names", "Names", "", "", [[panel]], names=names[:count]))
    figure = plot.figure
    with styled():
        figure.draw_without_rendering()
    labels = figure.axes[0].get_xticklabels()
    shown = "".join(label.get_text() for label in labels)
    assert "".join(shown.split()) == "".join(names[:count]).replace(" ", "")
    below = [label.get_window_extent().y0 for label in labels]
    assert min(below) >= figure.legends[0].get_window_extent().y1 - 1
    check_fits(plot)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_value_axis_has_room_for_its_label_beside_wide_ticks(scale: float) -> None:
    owner = ("elic", "d1", "")
    look = Looks([owner[:2]]).owner(*owner)
    series = Series(owner, look, [1, 2], [-1.25 * scale, 1.375 * scale], joined=True)
    panel = Panel("vqa: accuracy", [series], [Group(frozenset([owner]), [look])])
    check_fits(draw(Drawing("wide", "Wide", "", "", [[panel]])))


def test_image_quality_of_one_codec_is_one_curve(crowded: Assembled) -> None:
    """Scenarios that leave the codec as it is are told together, whatever their number."""
    (plot,) = draw_psnr(crowded)
    drawn = [
        line.get_xydata().tobytes()
        for line in plot.figure.axes[0].lines
        if line.get_marker() not in ("", "None", None)
    ]
    assert len(set(drawn)) == len(drawn)
    notes = "".join(text.get_text() for text in plot.figure.texts).replace("\n", "")
    assert "the same points: " in notes


def test_an_anchor_of_every_variant_is_the_line_at_zero_and_lacks_nothing(sweep_dir: Path) -> None:
    sweep = crowd(
        some(read_sweep(str(sweep_dir)), task=["vqa", "rec"]),
        ["a"],
        LONG_VARIANTS,
        ["reconstruction", "d1"],
    )
    assembled = assemble(sweep, 20)
    comparison = compare(sweep, n_resamples=20, assembled=assembled)
    (plot,) = draw_ablation(assembled, comparison)
    _, rates, *_ = plot.figure.axes
    assert not rates.texts
    markers = [line for line in rates.lines if line.get_linestyle() == "None"]
    assert len(markers) == 1
    assert plot.drawing is not None
    assert interactive(plot.drawing, {})["layout"]["annotations"] == []

"""Rank correlations against their definitions and closed forms, and the words for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.curves.assemble import assemble
from analysis.figures.surrogate import draw_surrogate
from analysis.io.read import Sweep, read_sweep
from analysis.report.interactive import interactive
from analysis.stats.surrogate import interval, kendall, spearman, surrogate, surrogate_sentence
from tests.analysis.messages import holds


@pytest.fixture(scope="module")
def rich(rich_dir: Path) -> Sweep:
    return read_sweep(str(rich_dir))


@pytest.mark.parametrize("n", [5, 40, 300])
@pytest.mark.parametrize("ties", [False, True])
def test_coefficients_equal_their_definitions(n: int, ties: bool) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(size=n)
    y = -x + rng.normal(size=n)
    if ties:
        x, y = np.round(x), np.round(2 * y)
    ranks = [pd.Series(values).rank().to_numpy() for values in (x, y)]
    assert spearman(x, y) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)
    a, b = (np.sign(values[:, None] - values[None, :]) for values in (x, y))
    untied = np.sqrt(np.abs(a).sum() * np.abs(b).sum())
    assert kendall(x, y) == pytest.approx((a * b).sum() / untied, abs=1e-12)


def test_a_constant_has_no_correlation() -> None:
    x = np.arange(6.0)
    assert np.isnan(spearman(x, np.ones(6)))
    assert np.isnan(kendall(np.ones(6), x))
    assert spearman(x, -(x**3)) == -1


@pytest.mark.parametrize("n", [12, 40])
@pytest.mark.parametrize("rho", [-0.9, -0.5, 0.0])
def test_intervals_cover_what_they_say(n: int, rho: float) -> None:
    """Normal pairs: Spearman's coefficient of the population is 6/pi asin(rho/2), Kendall's is
    2/pi asin(rho)."""
    rng = np.random.default_rng(1)
    truth = {"spearman": 6 / np.pi * np.arcsin(rho / 2), "kendall": 2 / np.pi * np.arcsin(rho)}
    measure = {"spearman": spearman, "kendall": kendall}
    hits = dict.fromkeys(truth, 0)
    rounds = 1000
    for _ in range(rounds):
        x, y = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], n).T
        for name, value in truth.items():
            found = measure[name](x, y)
            if abs(found) == 1:  # no interval is given: counts as a miss
                continue
            low, high = interval(found, n, name)
            hits[name] += low <= value <= high
    for name, count in hits.items():
        assert 0.92 <= count / rounds <= 0.98, (name, count)


def test_no_interval_for_few_points_or_a_perfect_order() -> None:
    for arguments in ((0.5, 4, "spearman"), (1.0, 20, "kendall"), (-1.0, 20, "spearman")):
        assert np.isnan(interval(*arguments)).all()


def test_a_row_per_task_and_term_over_all_points_but_the_bound(rich: Sweep) -> None:
    frame = surrogate(assemble(rich, 50))
    assert len(frame) == 8
    points = rich.points[
        (rich.points["task"] == "vqa") & (rich.points["scenario"] != "uncompressed")
    ]
    row = frame[(frame["task"] == "vqa") & (frame["term"] == "distill_tokens")].iloc[0]
    assert row["n_points"] == len(points) == 64
    expected = stats.spearmanr(points["distill_tokens"], points["value"]).statistic
    assert row["spearman"] == pytest.approx(expected)
    assert row["spearman_low"] < row["spearman"] < row["spearman_high"] < 0
    assert row["words"].startswith("predicts")


def test_at_equal_rate_what_only_the_rate_explains_is_gone(rich: Sweep) -> None:
    """Of an error that is the rate and noise nothing is left; of one that is the metric, all."""
    rng = np.random.default_rng(3)
    rate = np.log(rich.points["bpp"])
    blind = rich.points.assign(
        distill_pooled=np.exp(-rate + rng.normal(0, 0.3, len(rate))),
        distill_tokens=1.5 - rich.points["value"],
        value=rich.points["value"],
    )
    frame = surrogate(assemble(dataclasses.replace(rich, points=blind), 50)).set_index("term")
    assert (frame.loc["distill_pooled", "spearman"] < -0.3).all()
    assert (frame.loc["distill_pooled", "at_equal_rate"].abs() < 0.3).all()
    assert list(frame.loc["distill_tokens", "at_equal_rate"]) == pytest.approx([-1.0] * 4)
    assert (frame.loc["distill_tokens", "words"].str.contains("the same order")).all()


def test_the_words_say_what_the_numbers_do(rich: Sweep) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=len(rich.points)) ** 2
    points = rich.points.assign(
        distill_pooled=noise, distill_tokens=rich.points["value"] + noise / 9
    )
    frame = surrogate(assemble(dataclasses.replace(rich, points=points), 50)).set_index("term")
    assert frame.loc["distill_pooled", "words"].str.startswith("not shown").any()
    assert frame.loc["distill_tokens", "words"].str.startswith("misleads").all()
    assert "in 0 of 4 tasks" in surrogate_sentence(frame.reset_index())
    metrics = {"accuracy": {"higher_is_better": False}}
    described = {"vqa": {"primary": "accuracy", "metrics": metrics}}
    other = dataclasses.replace(rich, points=points, manifest={**rich.manifest, "tasks": described})
    lower = surrogate(assemble(other, 50)).set_index(["task", "term"])
    assert lower.loc[("vqa", "distill_tokens"), "words"].startswith("predicts")


def test_the_sentence_judges_as_the_table_does_and_both_state_the_threshold(rich: Sweep) -> None:
    """A correlation of 0.5 to 0.7 that holds at equal rate is no 0.8, but it is something."""
    rng = np.random.default_rng(5)
    parts = [rows.assign(error=-rows["value"].rank()) for _, rows in rich.points.groupby("task")]
    ranked = pd.concat(parts).sort_index()
    ranked["error"] += rng.normal(0, 19, len(ranked))
    flat = ranked["value"].mask(ranked["task"] == "captioning", 0.5)
    points = ranked.assign(distill_pooled=ranked["error"], distill_tokens=np.nan, value=flat)
    frame = surrogate(assemble(dataclasses.replace(rich, points=points, samples=None), 50))
    frame = frame.set_index("task")
    part = frame.index[frame["spearman"].between(-0.8, -0.3)]
    assert len(part) >= 2
    assert frame.loc[part, "words"].str.startswith("predicts in part").all()
    assert frame.loc[part, "words"].str.contains("0.8", regex=False).all()
    sentence = surrogate_sentence(frame.reset_index())
    assert holds(sentence, "predicts in 0 of 4 tasks", f"predicts in part in {len(part)} (", "0.8")
    assert holds(sentence, "no order in 1 (captioning)")
    listed = sentence.partition("predicts in part in ")[2].partition(")")[0]
    assert all(task in listed for task in part)


def test_terms_that_never_vary_are_not_called_too_few(rich: Sweep) -> None:
    points = rich.points.assign(distill_pooled=0.5, distill_tokens=np.nan)
    frame = surrogate(assemble(dataclasses.replace(rich, points=points), 50))
    sentence = surrogate_sentence(frame)
    assert "Too few" not in sentence
    assert holds(sentence, "predicts in 0 of 4 tasks", "no order in 4")


def test_an_axis_shows_no_values_that_nothing_has_and_markers_stand_off_the_frame(
    rich: Sweep,
) -> None:
    """A metric that is 0 everywhere has one tick, not some below 0."""
    points = rich.points.assign(value=rich.points["value"].where(rich.points["task"] != "vqa", 0.0))
    (plot,) = draw_surrogate(assemble(dataclasses.replace(rich, points=points, samples=None), 50))
    plot.figure.canvas.draw()
    by_label = {axes.get_ylabel(): axes for axes in plot.figure.axes}
    assert list(by_label["vqa: accuracy"].get_yticks()) == [0.0]
    axes = by_label["rec: accuracy@0.5"]
    assert len(axes.get_yticks()) > 2
    radius = max(line.get_markersize() for line in axes.lines) / 72 * plot.figure.dpi / 2
    frame = axes.get_window_extent()
    for line in axes.lines:
        x, y = axes.transData.transform(line.get_xydata()).T
        assert (y <= frame.y1 - radius).all()
        assert (y >= frame.y0 + radius).all()
        assert (x >= frame.x0 + radius).all()
        assert (x <= frame.x1 - radius).all()
    assert plot.drawing is not None
    layout = interactive(plot.drawing, {})["layout"]
    ticks = {name: axis.get("tickvals") for name, axis in layout.items() if "yaxis" in name}
    assert [name for name, values in ticks.items() if values == [0.0]] == ["yaxis3", "yaxis4"]


def test_few_points_and_none(rich: Sweep) -> None:
    few = rich.points[rich.points["point_key"].isin(list(rich.points["point_key"].unique()[:4]))]
    frame = surrogate(assemble(dataclasses.replace(rich, points=few), 50))
    assert frame["spearman"].isna().all()
    assert frame["words"].str.startswith("too few points").all()
    assert surrogate_sentence(frame).startswith("Too few points")
    bare = rich.points.drop(columns=["distill_pooled", "distill_tokens"])
    none = assemble(dataclasses.replace(rich, points=bare), 50)
    assert surrogate(none).empty
    assert surrogate_sentence(surrogate(none)) == ""
    assert draw_surrogate(none) == []


def test_a_term_that_knows_the_rate_alone_does_not_predict() -> None:
    sweep = read_sweep(str(Path(__file__).parents[3] / "docs" / "results" / "demo"))
    noise = np.exp(np.random.default_rng(0).normal(0.0, 0.05, len(sweep.points)))
    points = sweep.points.assign(distill_tokens=noise / sweep.points["bpp"], distill_pooled=np.nan)
    frame = surrogate(assemble(dataclasses.replace(sweep, points=points), 50))
    assert (frame["spearman"] < -0.9).all()
    assert frame["words"].str.startswith("through the rate").all()
    assert "in 0 of 4 tasks" in surrogate_sentence(frame)

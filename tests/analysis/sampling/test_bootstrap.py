"""What is resampled together, and what several seeds add."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.curves.assemble import assemble, curves
from analysis.curves.curve import MEAN
from analysis.io.sweep import Sweep
from analysis.sampling.bootstrap import Resampled
from analysis.sampling.intervals import (
    interval_of,
    percentile_interval,
    resampled_means,
)
from analysis.stats.compare import compare
from analysis.stats.pairs import Pair
from tests.analysis.simulated import LINE, Population, hits, line_gain


def test_blocks_of_resamples_are_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(70, 3))
    expected = resampled_means(np.eye(70), 50, 4) @ values
    for block in (1, 71, 700, 10**6):
        monkeypatch.setattr("analysis.sampling.intervals.BLOCK", block)
        np.testing.assert_allclose(resampled_means(values, 50, 4), expected)


def test_an_undefined_resample_may_stand_for_any_number() -> None:
    estimates = np.arange(1000.0)
    assert interval_of(estimates)[:2] == pytest.approx(percentile_interval(estimates), abs=1)
    some = estimates.copy()
    some[500:510] = np.nan
    low, high, share = interval_of(some)
    assert share == 0.99
    assert low < percentile_interval(estimates)[0] - 5
    assert high > percentile_interval(estimates)[1] + 5
    some[500:530] = np.nan
    assert np.isnan(interval_of(some)[:2]).all()


def constant(values: dict[str, tuple[float, ...]], high: float) -> Sweep:
    """A sweep of scores in [0, `high`] with 8 samples that all say the same.

    Args:
        values: scenario -> a value per seed, at 0.5 bpp.
    """
    kind = {"mllm": "m", "task": "t", "metric": "score"}
    about = {"dataset": "d", "split": "t", "variant": "", "sweep": "s", "codec": "c", "lmbda": 0.1}
    points = pd.DataFrame(
        [
            {"point_key": f"{scenario}{seed}", "scenario": scenario, "seed": seed, "value": value}
            for scenario, of_seeds in values.items()
            for seed, value in enumerate(of_seeds)
        ]
    ).assign(**kind, **about, bpp=0.5, value_low=np.nan, value_high=np.nan)
    samples = points.merge(pd.DataFrame({"sample_id": range(8)}), how="cross")
    described = {"metrics": {"score": {"unit": "points", "low": 0.0, "high": high}}}
    return Sweep(points, samples, {"tasks": {"t": {"primary": "score", **described}}})


def test_with_constant_samples_seeds_alone_give_students_interval() -> None:
    """Samples that all say the same leave nothing but the seeds' spread."""
    values = (0.60, 0.66, 0.63, 0.71)
    resampled = Resampled(constant({"d1": values}, 1.0), 200_000)
    means = resampled.mean([("m", "t", "score", ("d10", "d11", "d12", "d13"))])
    assert means is not None
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    np.testing.assert_allclose(percentile_interval(means[1]), expected, atol=0.002)
    np.testing.assert_allclose(means[0], 0.5)


@pytest.mark.parametrize("mirrored", [False, True])
def test_an_interval_ends_where_the_metric_does_and_that_of_a_difference_does_not(
    mirrored: bool,
) -> None:
    """Student's interval of four seeds, cut at the metric's range of 0 to 10."""
    low, test = (0.0,) * 4, (0.1, 2.0, 0.4, 1.0)
    if mirrored:
        low, test = (tuple(10 - value for value in values) for values in (low, test))
    sweep = constant({"reconstruction": low, "d1": test}, 10.0)
    ends = stats.t.interval(0.95, 3, np.mean(test), stats.sem(test))
    assert (ends[1] > 10.1) if mirrored else (ends[0] < -0.1)
    assembled = assemble(sweep, 100_000)
    curve = {c.scenario: c for c in assembled.curves}
    for of_test in (curve["d1"], next(c for c in assembled.means if c.scenario == "d1")):
        got = of_test.frame.loc[0, ["low", "high"]].to_numpy(dtype=np.float64)
        np.testing.assert_allclose(got, np.clip(ends, 0, 10), atol=0.02)
        assert got.min() >= 0
        assert got.max() <= 10
    gained = Pair(curve["reconstruction"], curve["d1"], assembled.resampled).gained(0.5)
    expected = np.subtract(ends, 10 if mirrored else 0)
    np.testing.assert_allclose((gained.low, gained.high), expected, atol=0.02)


def test_intervals_of_accuracies_near_nothing_stay_in_the_range() -> None:
    few = Population(accuracy=(0.02, 0.05, 0.1, 0.97), seeds=3, seed_noise=0.15, tasks=2)
    assembled = assemble(few.draw(np.random.default_rng(3), 30), 500)
    for curve in (*assembled.curves, *assembled.means):
        assert (curve.frame["low"] >= 0).all()
        assert (curve.frame["high"] <= 1).all()
        assert (curve.frame["low"] <= curve.frame["value"]).all()


def interval(
    sweep: Sweep, *parts: tuple[str, tuple[str, ...]], n: int = 4000
) -> tuple[float, float]:
    """Of the mean over (task, point keys) of a simulated sweep."""
    means = Resampled(sweep, n).mean([("m", task, "accuracy", keys) for task, keys in parts])
    assert means is not None
    return percentile_interval(means[1])


def test_samples_of_an_image_are_no_independent_draws() -> None:
    """Four answers of an image that are always the same tell no more than one."""
    one = Population().draw(np.random.default_rng(0), 200)
    four = Population(per_image=4, of_image=1.0).draw(np.random.default_rng(0), 200)
    widths = [np.ptp(interval(sweep, ("vqa", ("d1-0-0",)))) for sweep in (one, four)]
    assert widths[1] == pytest.approx(widths[0], rel=0.08)
    samples = four.samples
    assert samples is not None
    scores = samples[samples["point_key"] == "d1-0-0"].groupby("image_id")["value"].mean()
    half = stats.norm.ppf(0.975) * stats.sem(scores)
    low, high = interval(four, ("vqa", ("d1-0-0",)))
    assert high - low == pytest.approx(2 * half, rel=0.05)


def test_tasks_on_the_same_images_are_drawn_together() -> None:
    """A task and its copy vary together: their mean varies as one does, not by root two less."""
    sweep = Population().draw(np.random.default_rng(1), 200)
    assert sweep.samples is not None

    def copy(frame: pd.DataFrame, **more: object) -> pd.DataFrame:
        return pd.concat([frame, frame.assign(task="copy", **more)], ignore_index=True)

    other_ids = sweep.samples["sample_id"] + "-copy"
    twice = Sweep(copy(sweep.points), copy(sweep.samples, sample_id=other_ids))
    of_one = interval(twice, ("vqa", ("d1-0-0",)))
    of_both = interval(twice, ("vqa", ("d1-0-0",)), ("copy", ("d1-0-0",)))
    np.testing.assert_allclose(of_both, of_one, atol=0.01)  # each has a prior of its own
    other_images = sweep.samples["image_id"].astype(str) + "-copy"
    apart = Sweep(
        copy(sweep.points), copy(sweep.samples, sample_id=other_ids, image_id=other_images)
    )
    of_apart = interval(apart, ("vqa", ("d1-0-0",)), ("copy", ("d1-0-0",)))
    assert np.ptp(of_apart) < 0.8 * np.ptp(of_both)


def test_a_sample_without_an_answer_changes_only_its_own_point() -> None:
    sweep = Population().draw(np.random.default_rng(2), 200)
    samples, points = sweep.samples, sweep.points
    assert samples is not None
    lost = (samples["point_key"] == "d1-1-0") & (samples["sample_id"] == samples["sample_id"][3])
    left = samples[~lost]
    mean = left.loc[left["point_key"] == "d1-1-0", ["value", "bpp"]].mean()
    is_point = points["point_key"] == "d1-1-0"
    points = points.assign(
        value=points["value"].mask(is_point, mean["value"]),
        bpp=points["bpp"].mask(is_point, mean["bpp"]),
    )
    holed = Sweep(points, left)
    for key in ("d1-0-0", "reconstruction-1-0"):
        assert interval(holed, ("vqa", (key,))) == interval(sweep, ("vqa", (key,)))
    before, after = (interval(s, ("vqa", ("d1-1-0",))) for s in (sweep, holed))
    np.testing.assert_allclose(after, before, atol=0.01)
    whole, one_less = (assemble(s, 200) for s in (sweep, holed))
    for assembled in (whole, one_less):
        assert all(np.isfinite(c.frame["low"]).all() for c in assembled.means)


def test_all_right_has_the_interval_of_jeffreys_prior() -> None:
    sweep = Population().draw(np.random.default_rng(3), 96)
    assert sweep.samples is not None
    samples = sweep.samples.assign(value=1.0)
    right = Sweep(sweep.points.assign(value=1.0), samples)
    expected = stats.beta(96.5, 0.5).ppf([0.025, 0.975])
    np.testing.assert_allclose(interval(right, ("vqa", ("d1-0-0",))), expected, atol=0.002)
    # Two curves that are always right may differ as much as either may be wrong.
    pair = {c.scenario: c for c in curves(right)}
    gained = Pair(pair["reconstruction"], pair["d1"], Resampled(right, 2000)).gained(0.25)
    assert gained.low < -0.01
    assert gained.high > 0.01


def test_seeds_widen_the_interval_from_three_on_and_two_are_said_to_tell_nothing() -> None:
    noisy = Population(seeds=3, seed_noise=0.05).draw(np.random.default_rng(4), 400)
    found = {}
    for seeds in (1, 2, 3):
        own = noisy.points[noisy.points["seed"] < seeds]
        frame = compare(dataclasses.replace(noisy, points=own), n_resamples=1000)
        found[seeds] = frame[(frame["scenario"] == "d1") & (frame["task"] == MEAN)].iloc[0]
    width = {n: row["bd_accuracy_high"] - row["bd_accuracy_low"] for n, row in found.items()}
    assert width[2] < width[1] * 1.1  # the mean of two varies less over samples
    assert width[3] > 1.5 * width[2]
    assert "2 seeds: intervals are over test samples only" in found[2]["note"]
    assert "seeds:" not in found[3]["note"]
    assert "one training" in found[1]["note"]
    assert found[3]["n_seeds"] == 3


def test_a_curves_band_is_its_means_own_where_samples_are_known() -> None:
    sweep = Population(seeds=5, seed_noise=0.03).draw(np.random.default_rng(5), 400)
    curve = next(c for c in assemble(sweep, 2000).curves if c.scenario == "d1")
    first = sweep.points[sweep.points["point_key"].isin(curve.frame["point_keys"].iloc[0])]
    over_seeds = stats.t.interval(0.95, 4, first["value"].mean(), stats.sem(first["value"]))
    row = curve.frame.iloc[0]
    assert row["low"] < over_seeds[0]
    assert row["high"] > over_seeds[1]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """60 sweeps of 200 samples whose curves are known, compared as `compare` and `savings` do.

    With a coverage of 95 % the chance of 50 hits or fewer in 60 is below 1 in 1,000.
    tests/benchmarks/coverage.py measures it closely.
    """
    population = Population()
    found: dict[str, list[float]] = {"mean": [], "BD-rate": [], "saving": [], "gain": []}
    for i in range(60):
        sweep = population.draw(np.random.default_rng(i), 200)
        known = {c.scenario: c for c in curves(sweep)}
        pair = Pair(known["reconstruction"], known["d1"], Resampled(sweep, 400))
        point = known["d1"].frame.iloc[1]
        found["mean"].append(float(hits(point["low"], LINE[1], point["high"])))
        for name, said, truth in (
            ("BD-rate", pair.bd_rate(), -30.0),
            ("saving", pair.saved(0.6), 30.0),
            ("gain", pair.gained(0.25), line_gain(0.7)),
        ):
            found[name].append(float(hits(said.low, truth, said.high)))
    for name, held in found.items():
        told = np.array(held)[np.isfinite(held)]
        assert len(told) >= 57, name  # a sweep's curves may end short of the target
        assert stats.binomtest(int(told.sum()), len(told), 0.95).pvalue > 1e-3, name

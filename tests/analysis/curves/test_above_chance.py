"""Accuracies normalised by chance: what changes by how much, and what must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from analysis.curves.assemble import assemble
from analysis.curves.curve import MEAN
from analysis.curves.tasks import above_chance, tasks
from analysis.figures.rate_accuracy import titled
from analysis.io.read import AnalysisError, read_sweep
from analysis.report.build import main
from analysis.report.summary import summary_sentence
from analysis.stats.compare import compare
from tests.analysis.sweeps import LAMBDAS, TASKS


def test_the_mean_counts_what_each_task_has_above_guessing(sweep_dir: Path) -> None:
    sweep = read_sweep(str(sweep_dir))
    points = sweep.points[sweep.points["point_key"] == f"d1-hyperprior-{LAMBDAS[1]}"]
    value = points.set_index(["task", "metric"])["value"]
    above = [(value[t, metric] - chance) / (1 - chance) for t, (metric, chance, _) in TASKS.items()]
    frame = compare(above_chance(sweep))
    mean = frame[(frame["task"] == MEAN) & (frame["scenario"] == "d1")].iloc[0]
    bpp = points.groupby("task")["bpp"].mean().mean()
    d1 = above_chance(sweep).points
    d1 = d1[(d1["scenario"] == "d1") & d1["metric"].str.endswith("above chance")]
    by_rate = d1.groupby("bpp")["value"].mean()
    assert by_rate[bpp] == pytest.approx(np.mean(above))
    assert [mean["value_low"], mean["value_high"]] == pytest.approx([by_rate.min(), by_rate.max()])


def test_one_task_compares_as_before(sweep_dir: Path) -> None:
    sweep = read_sweep(str(sweep_dir))
    before, after = (
        frame[(frame["task"] != MEAN)].set_index(["scenario", "task"])
        for frame in map(compare, (sweep, above_chance(sweep)))
    )
    numbers = ["bd_rate", "saved"]
    assert np.isfinite(before.loc["d3", numbers].to_numpy()).any()
    np.testing.assert_allclose(after[numbers], before[numbers], rtol=1e-9)
    # What stands for the answers that no sample gave is drawn anew.
    ends = [f"{name}_{end}" for name in numbers for end in ("low", "high")]
    np.testing.assert_allclose(after[ends], before[ends], atol=1)


def test_figures_and_sentence_say_so(sweep_dir: Path) -> None:
    sweep = above_chance(read_sweep(str(sweep_dir)))
    assembled = assemble(sweep, n_resamples=20)
    assert titled(assembled, MEAN, "").label == "mean accuracy over tasks, above chance"
    assert titled(assembled, "vqa", "accuracy above chance").label == "accuracy above chance"
    sentence = summary_sentence(sweep, compare(sweep, assembled=assembled))
    assert sentence.startswith("For equal mean accuracy over tasks, above chance, against")


def test_of_two_equal_answers_it_is_kappa(sweep_dir: Path) -> None:
    """Four classes as often as each other in truth and answers: chance is a quarter."""
    truth = np.tile(np.arange(4), 25)
    answers = np.random.default_rng(0).permuted(truth[:60]).tolist() + truth[60:].tolist()
    accuracy = float((truth == answers).mean())
    sweep = read_sweep(str(sweep_dir))
    is_vqa = (sweep.points["task"] == "vqa").to_numpy()
    sweep = replace(sweep, points=sweep.points[is_vqa].assign(value=accuracy), samples=None)
    kappa = cohen_kappa_score(truth, answers)
    assert above_chance(sweep, {"vqa": 0.25}).points["value"].to_list() == pytest.approx(
        [kappa] * is_vqa.sum()
    )


def test_other_metrics_and_the_sweep_itself_stay(sweep_dir: Path) -> None:
    sweep = read_sweep(str(sweep_dir))
    got = above_chance(sweep, {"rec": 0.1})
    assert {task.chance for task in tasks(got).values()} == {0.0}
    assert tasks(sweep)["vqa"].chance == TASKS["vqa"][1]
    cider = sweep.points["metric"] == "cider"
    pd.testing.assert_frame_equal(got.points[cider], sweep.points[cider])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["nonsense=0.5"], ["nonsense", "captioning, vqa"]),
        (["vqa=1"], ["vqa=1", "less than 1"]),
        (["vqa=nan"], ["vqa=nan"]),
        (["vqa"], ["'vqa' is not TASK=CHANCE"]),
    ],
)
def test_a_wrong_chance_is_refused(
    sweep_dir: Path, capsys: pytest.CaptureFixture[str], given: list[str], words: list[str]
) -> None:
    try:
        code = main([str(sweep_dir), "--above-chance", *given])
    except SystemExit as refused:
        code = int(refused.code or 0)
    assert code == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words)


def test_an_unknown_chance_has_to_be_stated(sweep_dir: Path) -> None:
    sweep = read_sweep(str(sweep_dir))
    described = {name: {**task, "chance": None} for name, task in sweep.manifest["tasks"].items()}
    unknown = replace(sweep, manifest={**sweep.manifest, "tasks": described})
    with pytest.raises(AnalysisError, match=r"fewshot=0\.25"):
        above_chance(unknown, {"captioning": 0, "vqa": 0.3, "rec": 0})

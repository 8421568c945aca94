"""Some curves of a sweep, and another anchor: as if nothing else had been measured or asked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.curves.assemble import assemble
from analysis.curves.chosen import choose
from analysis.curves.curve import MEAN
from analysis.io.read import AnalysisError, Sweep, read_sweep
from analysis.io.schema import MEASURE
from analysis.report.build import main
from analysis.stats.compare import compare
from tests.analysis.messages import holds, naming


@pytest.fixture(scope="module")
def sweep(sweep_dir: Path) -> Sweep:
    return read_sweep(str(sweep_dir))


def test_chosen_curves_have_the_numbers_that_they_have_among_all(sweep: Sweep) -> None:
    chosen = compare(choose(sweep, ["scenario=d1,d3"]), n_resamples=50)
    whole = compare(sweep, n_resamples=50)
    assert set(chosen["scenario"]) == {"uncompressed", "reconstruction", "d1", "d3"}
    by = ["codec", "variant", "scenario", *MEASURE]
    numbers = ["bd_rate", "saved", "bpp_low", "value_high"]
    both = chosen[[*by, *numbers]].merge(whole[[*by, *numbers]], on=by, suffixes=("", "_whole"))
    assert len(both) == len(chosen) > 4
    for name in numbers:
        expected = both[f"{name}_whole"].rename(name)
        pd.testing.assert_series_equal(both[name], expected, rtol=1e-9)


def test_another_anchor_is_what_compare_takes_for_one(sweep: Sweep) -> None:
    chosen = choose(sweep, anchor="d1")
    assert chosen.anchor == "d1"
    pd.testing.assert_frame_equal(
        compare(chosen, n_resamples=20), compare(sweep, "d1", n_resamples=20)
    )


def test_filters_on_tasks_change_the_mean_and_samples_follow(sweep: Sweep) -> None:
    chosen = choose(sweep, ["task=vqa,rec", "scenario=d1"])
    assert set(chosen.points["task"]) == {"vqa", "rec"}
    assert chosen.samples is not None
    assert set(chosen.samples["task"]) == {"vqa", "rec"}
    assert set(chosen.samples["point_key"]) == set(chosen.points["point_key"])
    (curve,) = [c for c in assemble(chosen, 10).means if c.scenario == "d1"]
    rows = chosen.points[
        (chosen.points["scenario"] == "d1")
        & (chosen.points["metric"].isin(["accuracy", "accuracy@0.5"]))
    ]
    assert curve.task == MEAN
    assert curve.frame["value"].to_list() == pytest.approx(
        rows.groupby("lmbda")["value"].mean().to_list()
    )


def test_what_is_missing_of_other_curves_is_not_missed(holey_dir: Path) -> None:
    holey = read_sweep(str(holey_dir))
    gone = {entry["scenario"] for entry in holey.manifest["missing"]}
    assert gone
    whole = set(holey.points["scenario"]) - gone - {holey.anchor, holey.bound}
    chosen = choose(holey, [f"scenario={','.join(whole)}"])
    of_chosen = [m for m in assemble(chosen, 10).missing if m.scenario not in {holey.anchor}]
    assert of_chosen == []


@pytest.mark.parametrize(
    ("filters", "anchor", "named"),
    [
        (["scenario=d4"], None, ("scenario d4", "d1", "d3")),
        (["scenarios=d1"], None, ("scenarios=d1", "codec, scenario, variant, mllm, task")),
        (["scenario="], None, ("field=value",)),
        ([], "recon", ("anchor 'recon'", "reconstruction")),
        ([], "uncompressed", ("anchor 'uncompressed'", "d1")),
        (["variant=big"], "none", ("variant big", "anchor 'none'")),
    ],
)
def test_a_typo_is_told_with_the_valid_names(
    sweep: Sweep, filters: list[str], anchor: str | None, named: tuple[str, ...]
) -> None:
    with pytest.raises(AnalysisError, match=naming(*named)):
        choose(sweep, filters, anchor)


def test_the_command_takes_both_and_leaves_the_sweeps_own_report(
    sweep_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["--curves", "scenario=d3", "codec=hyperprior", "--anchor", "d1"]
    assert main([str(sweep_dir), *chosen]) == 2
    assert holds(capsys.readouterr().err, "--out", "--curves")
    assert main([str(sweep_dir), *chosen, "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "against d1" in text
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "post-processing" not in page

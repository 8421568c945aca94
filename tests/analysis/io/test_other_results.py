"""Other people's results beside one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bjontegaard
import numpy as np
import pytest

from analysis.curves.assemble import assemble, curves
from analysis.curves.tasks import tasks
from analysis.io.read import read_sweep, write_points
from analysis.io.schema import AnalysisError
from analysis.report.build import main
from analysis.stats.compare import compare
from tests.analysis.messages import naming
from tests.analysis.sampling.test_bd import MEAN_BPP, MEAN_PSNR, VTM_BPP, VTM_PSNR


def results(path: Path, name: str, **lists: Any) -> Path:
    """As CompressAI's evaluations write it."""
    said = {k: list(map(float, v)) for k, v in lists.items()}
    content = {"name": name, "description": "Inference (ans)", "results": said}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def kodak(tmp_path: Path) -> list[str]:
    mean = results(
        tmp_path / "mean.json",
        "mbt2018-mean",
        **{"psnr-rgb": MEAN_PSNR, "ms-ssim-rgb": np.linspace(0.9, 0.99, 8), "bpp": MEAN_BPP},
        encoding_time=np.full(8, 0.03),
    )
    vtm = results(tmp_path / "vtm.json", "VTM", psnr=VTM_PSNR, bpp=VTM_BPP)
    return [str(vtm), str(mean)]


def test_compressais_results_are_a_curve_per_metric(kodak: list[str]) -> None:
    sweep = read_sweep(kodak[1])
    assert set(sweep.points["metric"]) == {"psnr", "ms-ssim", "ms-ssim-db"}
    assert len(sweep.points) == 24
    psnr = next(c for c in curves(sweep) if c.metric == "psnr")
    assert (psnr.codec, psnr.scenario, psnr.task) == (
        "mbt2018-mean",
        "reconstruction",
        "image_quality",
    )
    np.testing.assert_array_equal(psnr.frame["bpp"], MEAN_BPP)
    np.testing.assert_array_equal(psnr.frame["value"], MEAN_PSNR)
    decibels = sweep.points[sweep.points["metric"] == "ms-ssim-db"]["value"]
    assert [decibels.min(), decibels.max()] == pytest.approx([10, 20])


def test_two_published_codecs_compare_as_the_package_says(kodak: list[str]) -> None:
    sweep = read_sweep(*kodak)
    frame = compare(sweep, codec="VTM").set_index(["codec", "task"])
    got = frame.loc[("mbt2018-mean", "image_quality")]
    said = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    expected = bjontegaard.bd_rate(VTM_BPP, VTM_PSNR, MEAN_BPP, MEAN_PSNR, **said)
    assert got["metric"] == "psnr"
    assert got["bd_rate"] == pytest.approx(expected, rel=1e-12)
    gain = bjontegaard.bd_psnr(VTM_BPP, VTM_PSNR, MEAN_BPP, MEAN_PSNR, **said)
    assert got["bd_accuracy"] == pytest.approx(gain, rel=1e-12)
    assert "per-sample values are not known" in got["note"]
    assert frame.loc[("VTM", "image_quality"), "note"].startswith("the anchor")


def test_rd_evals_lambdas_are_kept_and_the_points_can_be_written(tmp_path: Path) -> None:
    path = results(
        tmp_path / "own.json", "elic d2", bpp=[0.1, 0.2], lmbda=[0.004, 0.016], psnr=[30, 32]
    )
    sweep = read_sweep(str(path))
    assert sweep.points["lmbda"].tolist() == [0.004, 0.016]
    assert sweep.points["psnr"].tolist() == [30, 32]
    write_points(sweep.points, str(tmp_path / "there"))
    assert len(read_sweep(str(tmp_path / "there")).points) == 2


def test_two_files_of_one_name_clash_or_stay_apart(tmp_path: Path) -> None:
    files = [
        str(results(tmp_path / f"{i}.json", "codec", bpp=[0.1, 0.2], psnr=[30 + i, 32 + i]))
        for i in range(2)
    ]
    with pytest.raises(AnalysisError, match=naming("0 and 1", "reconstruction", "codec", "seed 0")):
        read_sweep(*files)
    assert {c.variant for c in curves(read_sweep(*files, apart=True))} == {"0", "1"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["JSON"]),
        ('{"space": 1}', ["CompressAI", "'results'"]),
        ('{"results": {"psnr": [1]}}', ["CompressAI", "'bpp'"]),
        ('{"results": {"psnr": [1, 2], "bpp": [1]}}', ["lengths"]),
        ('{"results": {"psnr": [30], "bpp": [0]}}', ["bpp", "above 0"]),
        ('{"results": {"bpp": [0.1]}}', ["metric", "bpp"]),
        (
            '{"description": "entropy-estimation", "results": {"psnr": [1], "bpp": [1]}}',
            ["entropy-estimation"],
        ),
    ],
)
def test_what_is_no_results_file_is_said(tmp_path: Path, content: str, words: list[str]) -> None:
    path = tmp_path / "results.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(AnalysisError, match=naming(path, *words)):
        read_sweep(str(path))


def test_a_csv_of_rates_and_metrics_is_a_curve_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("bpp,accuracy,cider\n0.4,0.7,80\n0.1,0.5,60.5\n", encoding="utf-8")
    sweep = read_sweep(str(path))
    found = {c.metric: c for c in curves(sweep)}
    assert set(found) == {"accuracy", "cider"}
    assert found["accuracy"].scenario == "theirs"
    assert found["accuracy"].frame["value"].tolist() == [0.5, 0.7]
    assert found["cider"].frame["bpp"].tolist() == [0.1, 0.4]


def test_a_csv_may_say_what_it_knows_and_compare_with_ones_own(
    sweep_dir: Path, tmp_path: Path
) -> None:
    own = read_sweep(str(sweep_dir))
    row = own.points[own.points["task"] == "vqa"].iloc[0]
    path = tmp_path / "theirs.csv"
    path.write_text(
        "bpp,accuracy,task,mllm,dataset,split,codec\n"
        + "".join(
            f"{bpp},{value},vqa,{row['mllm']},scenes,test,theirs\n"
            for bpp, value in ((0.05, 0.6), (0.1, 0.7), (0.3, 0.85))
        ),
        encoding="utf-8",
    )
    frame = compare(read_sweep(str(sweep_dir), str(path)), n_resamples=50)
    got = frame[(frame["codec"] == "theirs") & (frame["task"] == "vqa")].iloc[0]
    assert got["bd_rate"] < 0
    assert got["note"].startswith("against reconstruction of hyperprior")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("bpp,notes\n0.1,good\n", ["metric", "bpp", "notes"]),
        ("bpp,accuracy\n0.1,65\n", ["accuracy", "65"]),
        ("bpp,accuracy\n-1,0.5\n", ["bpp", "above 0"]),
        ("bpp,accuracy\n", ["accuracy"]),
        ("rate,accuracy\n1,2\n", ["sweep", "point_key"]),
        ("", ["empty"]),
    ],
)
def test_what_is_no_such_csv_is_said(tmp_path: Path, content: str, words: list[str]) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(AnalysisError, match=naming(path, *words)):
        read_sweep(str(path))


def test_a_csv_of_bpp_and_value_or_psnr_alone_works(tmp_path: Path) -> None:
    for name, header in (("a", "bpp,value,metric"), ("b", "bpp,psnr")):
        path = tmp_path / f"{name}.csv"
        rest = ",top1" if "metric" in header else ""
        path.write_text(f"{header}\n0.1,30{rest}\n0.2,32{rest}\n", encoding="utf-8")
        points = read_sweep(str(path)).points
        assert points["value"].tolist() == [30, 32]
        assert set(points["metric"]) == {"top1" if rest else "psnr"}


METHODS = "method,bpp,accuracy\n" + "".join(
    f"{method},{bpp},{value}\n"
    for method, values in (("ours", (0.6, 0.7, 0.8)), ("theirs", (0.5, 0.6, 0.7)))
    for bpp, value in zip((0.1, 0.2, 0.4), values, strict=True)
)


def test_a_column_of_text_divides_the_rows_into_curves(tmp_path: Path) -> None:
    path = tmp_path / "methods.csv"
    path.write_text(METHODS, encoding="utf-8")
    found = {c.scenario: c.frame["value"].tolist() for c in curves(read_sweep(str(path)))}
    assert found == {"ours": [0.6, 0.7, 0.8], "theirs": [0.5, 0.6, 0.7]}


def test_a_column_that_is_not_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("bpp,accuracy,note,by\n0.1,0.5,good,me\n0.2,0.7,better,me\n")
    sweep = read_sweep(str(path))
    (curve,) = curves(sweep)
    assert curve.scenario == "mine"
    assert sweep.manifest["skipped"] == ["mine.csv: columns not used: note, by"]


@pytest.mark.parametrize("metric", ["perplexity", "mse", "error_rate"])
def test_a_metric_of_which_less_is_better_is_not_compared_backwards(
    tmp_path: Path, metric: str
) -> None:
    """The direction of a table's metric was taken to be that of an accuracy."""
    path = tmp_path / "methods.csv"
    path.write_text(METHODS.replace("accuracy", metric).replace("theirs", "reconstruction"))
    sweep = read_sweep(str(path))
    frame = compare(sweep).set_index("scenario")
    assert np.isnan(frame.loc["ours", "bd_accuracy"])
    assert f"lower {metric} is better" in frame.loc["ours", "note"]


def test_a_metric_of_unknown_direction_is_refused_until_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "methods.csv"
    path.write_text(METHODS.replace("accuracy", "score,epoch").replace("\n", ",3\n", 99))
    text = path.read_text().replace("score,epoch,3", "score,epoch")
    path.write_text(text)
    with pytest.raises(AnalysisError, match=naming(path, "score, epoch", "--lower-is-better")):
        read_sweep(str(path))
    path.write_text(METHODS.replace("accuracy", "score"))
    said = {
        better: read_sweep(str(path), **{f"{better}_is_better": ["score"]})
        for better in ("higher", "lower")
    }
    for better, sweep in said.items():
        described = sweep.manifest["tasks"]["unknown"]["metrics"]["score"]
        assert described["higher_is_better"] == (better == "higher")


@pytest.mark.parametrize(
    "metric", ["top1_error", "top5_err", "f1_loss", "accuracy_drop", "psnr_loss", "error_free"]
)
def test_a_name_that_turns_a_known_one_is_refused(metric: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(f"bpp,{metric}\n0.1,0.5\n0.2,0.6\n")
    with pytest.raises(AnalysisError, match=metric):
        read_sweep(str(tmp_path / "mine.csv"))
    read_sweep(str(tmp_path / "mine.csv"), lower_is_better=[metric])


def test_points_without_a_description_are_not_compared_backwards(
    sweep_dir: Path, tmp_path: Path
) -> None:
    points = read_sweep(str(sweep_dir)).points
    name = str(points["metric"].iloc[0])
    renamed = points.assign(metric=points["metric"].where(points["metric"] != name, "error_rate"))
    write_points(renamed, str(tmp_path / "alone"))
    for path in (tmp_path / "alone", tmp_path / "alone" / "points.csv"):
        found = tasks(read_sweep(str(path)))
        lower = {metric for task in found.values() for metric in task.lower_is_better}
        assert lower == {"error_rate"}


def test_seeds_without_a_rate_of_their_own_are_refused(tmp_path: Path) -> None:
    """As rates of their own, the luckiest would make the curve."""
    rows = [f"d1,{seed},{0.1 * 2**i},{0.5 + 0.1 * i}" for i in range(3) for seed in range(2)]
    (tmp_path / "mine.csv").write_text("\n".join(["scenario,seed,bpp,accuracy", *rows]))
    with pytest.raises(AnalysisError, match="2 seeds without `lmbda` or `quality`"):
        assemble(read_sweep(str(tmp_path / "mine.csv")))
    rows = [f"{row},{i // 2}" for i, row in enumerate(rows)]
    (tmp_path / "mine.csv").write_text("\n".join(["scenario,seed,bpp,accuracy,quality", *rows]))
    (curve,) = assemble(read_sweep(str(tmp_path / "mine.csv"))).curves
    assert (len(curve.frame), curve.seeds) == (3, (0, 1))


def test_a_tables_direction_survives_beside_a_sweep(sweep_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("bpp,perplexity,task,mllm,dataset\n0.1,9,vqa,m,scenes\n0.2,8,vqa,m,scenes\n")
    both = read_sweep(str(sweep_dir), str(path))
    assert tasks(both)["vqa"].lower_is_better == {"perplexity"}
    assert tasks(both)["vqa"].primary == "accuracy"


def test_the_command_takes_directions(tmp_path: Path) -> None:
    path = tmp_path / "methods.csv"
    path.write_text(METHODS.replace("accuracy", "score"))
    assert main([str(path)]) == 2
    assert main([str(path), "--higher-is-better", "score", "--out", str(tmp_path / "out")]) == 0


def test_tasks_of_one_rate_are_one_point_with_a_mean(tmp_path: Path) -> None:
    file = tmp_path / "two.csv"
    rows = [
        f"{scenario},{task},accuracy,{lmbda},{bpp},{value}"
        for scenario in ("reconstruction", "d1")
        for task, gain in (("vqa", 0.0), ("captions", 0.2))
        for lmbda, bpp, value in ((0.1, 0.05, 0.3), (0.2, 0.1, 0.5))
        for value in [value + gain]
    ]
    file.write_text("\n".join(["scenario,task,metric,lmbda,bpp,value", *rows]))
    sweep = read_sweep(str(file))
    assert sweep.points["point_key"].nunique() == 4
    for curve in assemble(sweep).means:
        np.testing.assert_allclose(curve.frame["value"], [0.4, 0.6])


def test_rows_of_one_task_and_rate_stay_points_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "twice.csv"
    file.write_text("scenario,task,bpp,accuracy\nd1,vqa,0.1,0.5\nd1,vqa,0.1,0.6\n")
    assert read_sweep(str(file)).points["point_key"].nunique() == 2

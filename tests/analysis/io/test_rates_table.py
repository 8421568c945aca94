"""Tables of rates: results of benchmarks become points, samples, curves, BD-rates, a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bjontegaard
import fsspec
import numpy as np
import pytest

from analysis.curves.assemble import assemble
from analysis.curves.curve import MEAN
from analysis.curves.tasks import tasks
from analysis.io.read import read_sweep
from analysis.io.scenarios import Scenarios
from analysis.io.schema import AnalysisError
from analysis.report.build import main
from analysis.stats.compare import compare
from bridgesweep.command import run as bridgesweep
from tests.analysis.benchmark_files import (
    lmms_content,
    vlmevalkit_table,
    write_lmms,
    write_vlmevalkit,
)
from tests.analysis.messages import holds, naming

BPP = {"vtm": (0.05, 0.1, 0.2, 0.4), "elic": (0.04, 0.09, 0.17, 0.35)}
TEXT = {"vtm": (30.1, 41.0, 50.2, 56.3), "elic": (31.0, 42.5, 51.9, 57.0)}
"""Percentages, as of TextVQA."""
STAR = {"vtm": (0.25, 0.31, 0.36, 0.4), "elic": (0.26, 0.32, 0.38, 0.41)}
"""Fractions, as of MMStar."""


def write_table(directory: Path, *rows: Sequence[Any], header: str = "results,codec,bpp") -> Path:
    file = directory / "rates.csv"
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    """Two codecs of four points, with a directory of two benchmarks each."""
    rows = []
    for codec, bits in BPP.items():
        for i, bpp in enumerate(bits):
            write_vlmevalkit(
                tmp_path / f"{codec}{i}" / "llava_v1.5_7b",
                "llava_v1.5_7b",
                TextVQA_VAL={"Overall": TEXT[codec][i], "Book": 1.0},
                MMStar={"split": "none", "Overall": STAR[codec][i], "math": 0.1},
            )
            rows.append((f"{codec}{i}", codec, bpp))
    return write_table(tmp_path, *rows)


def test_a_row_per_point_task_and_metric(rates: Path) -> None:
    sweep = read_sweep(str(rates))
    points = sweep.points
    assert len(points) == 16
    assert points["point_key"].nunique() == 8
    assert set(points["mllm"]) == {"llava_v1.5_7b"}
    assert set(points["metric"]) == {"accuracy"}
    assert sweep.name == "rates"
    assert sweep.samples is None
    for codec in BPP:
        of_codec = points[points["codec"] == codec].sort_values("bpp")
        text = of_codec[of_codec["task"] == "TextVQA_VAL"]
        np.testing.assert_allclose(text["value"], np.array(TEXT[codec]) / 100)
        star = of_codec[of_codec["task"] == "MMStar"]
        np.testing.assert_allclose(star["value"], STAR[codec])
        assert tuple(star["bpp"]) == BPP[codec]
    assert {t.units["accuracy"] for t in tasks(sweep).values()} == {"fraction"}


def test_the_mean_over_tasks_has_the_bd_rate_of_the_package(rates: Path) -> None:
    """Of the second codec against the first, on the mean of both benchmarks as fractions."""
    frame = compare(read_sweep(str(rates))).set_index(["codec", "task"])
    mean = {c: (np.array(TEXT[c]) / 100 + np.array(STAR[c])) / 2 for c in BPP}
    expected = {
        MEAN: mean,
        "TextVQA_VAL": {c: np.array(TEXT[c]) / 100 for c in BPP},
        "MMStar": {c: np.array(STAR[c]) for c in BPP},
    }
    said = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    for task, values in expected.items():
        bd_rate = bjontegaard.bd_rate(
            BPP["vtm"], values["vtm"], BPP["elic"], values["elic"], **said
        )
        assert -30 < bd_rate < -5
        assert frame.loc[("elic", task), "bd_rate"] == pytest.approx(bd_rate, rel=1e-9)
        assert frame.loc[("vtm", task), "note"].startswith("the anchor")


def test_the_commands_write_the_report(
    rates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(rates), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert holds(page, "TextVQA_VAL", "MMStar")
    assert holds(said, "against vtm", "elic")
    assert list((tmp_path / "out" / "plots").glob("*.svg"))
    assert bridgesweep(["report", str(rates), "--out", str(tmp_path / "two")]) == 0
    assert (tmp_path / "two" / "report.html").is_file()


def questions(right: int, n: int = 200) -> list[dict[str, float]]:
    """Samples of which these many, always the same first ones, are answered."""
    return [{"exact_match": float(i < right)} for i in range(n)]


def lmms_point(directory: Path, right: int, n: int = 200) -> None:
    content = lmms_content({"gqa": {"exact_match,none": right / n}}, {"gqa": {"exact_match": True}})
    write_lmms(directory / "liuhaotian__llava-v1.5-7b", content, {"gqa": questions(right, n)})


def test_samples_give_paired_intervals(tmp_path: Path) -> None:
    rows = []
    for codec, right in {"vtm": (60, 90, 120, 140), "elic": (70, 100, 128, 146)}.items():
        for i, number in enumerate(right):
            lmms_point(tmp_path / codec / f"q{i}", number)
            rows.append((f"{codec}/q{i}", codec, 0.05 * 2**i))
    sweep = read_sweep(str(write_table(tmp_path, *rows)))
    assert sweep.samples is not None
    assert len(sweep.samples) == 8 * 200
    assert set(sweep.points["mllm"]) == {"liuhaotian/llava-v1.5-7b"}
    assert set(sweep.points["split"]) == {"val"}
    means = sweep.samples.groupby("point_key", observed=True)["value"].mean()
    stored = sweep.points.set_index("point_key")["value"]
    np.testing.assert_allclose(means, stored.loc[means.index])
    frame = compare(sweep, n_resamples=200)
    row = frame[(frame["codec"] == "elic") & (frame["task"] == "gqa")].iloc[0]
    assert row["bd_rate_low"] < row["bd_rate"] < row["bd_rate_high"] < 0
    # The same samples are right in both, so the paired interval is far narrower than the means'.
    (curve,) = [c for c in assemble(sweep, 200).curves if c.codec == "elic"]
    assert (curve.frame["high"] - curve.frame["low"]).min() > 0.05


def test_a_score_that_equals_the_mean_by_chance_has_no_samples(tmp_path: Path) -> None:
    rows = []
    for name, ratio in {"a": 0.5, "b": 0.9}.items():
        content = lmms_content({"pope": {"yes_ratio,none": ratio}}, {"pope": {"yes_ratio": True}})
        write_lmms(tmp_path / name, content, {"pope": [{"yes_ratio": hit} for hit in (0.0, 1.0)]})
        rows.append((name, "c", ratio))
    sweep = read_sweep(str(write_table(tmp_path, *rows)))
    assert sweep.samples is None
    (line,) = sweep.manifest["skipped"]
    assert holds(line, "pope yes_ratio", "(b)")


def score_point(directory: Path, *samples: float, metric: str = "score", **more: Any) -> None:
    """Results of the task `qa` whose metric is the mean of these samples."""
    lines = [{metric: value, **more} for value in samples]
    content = lmms_content({"qa": {f"{metric},none": np.mean(samples)}}, {"qa": {metric: True}})
    write_lmms(directory, content, {"qa": lines})


@pytest.mark.parametrize(("other", "unit"), [((3.0, 5.0), "score"), ((1.0, 1.0), "fraction")])
def test_samples_say_a_unit_only_where_those_of_all_rows_do(
    tmp_path: Path, other: tuple[float, float], unit: str
) -> None:
    score_point(tmp_path / "a", 0.0, 1.0)
    score_point(tmp_path / "b", *other)
    sweep = read_sweep(str(write_table(tmp_path, ("a", "c", 0.1), ("b", "c", 0.2))))
    assert sweep.points["value"].tolist() == [0.5, np.mean(other)]
    assert tasks(sweep)["qa"].units == {"score": unit}
    assert sweep.samples is not None
    assert sweep.samples["value"].tolist() == [0.0, 1.0, *other]


def test_a_row_without_samples_has_the_unit_of_the_others(tmp_path: Path) -> None:
    score_point(tmp_path / "a", 0.0, 1.0)
    for name, value, unit in (("b", 0.4, "fraction"), ("c", 4.0, "score")):
        content = lmms_content({"qa": {"score,none": value}}, {"qa": {"score": True}})
        write_lmms(tmp_path / name, content)
        sweep = read_sweep(str(write_table(tmp_path, ("a", "c", 0.1), (name, "c", 0.2))))
        assert sweep.points["value"].tolist() == [0.5, value]
        assert tasks(sweep)["qa"].units == {"score": unit}


def test_samples_of_other_targets_are_not_paired(tmp_path: Path) -> None:
    score_point(tmp_path / "a", 0.0, 1.0, metric="acc", target="yes")
    score_point(tmp_path / "b", 1.0, 1.0, metric="acc", target="no")
    sweep = read_sweep(str(write_table(tmp_path, ("a", "c", 0.1), ("b", "d", 0.1))))
    assert sweep.samples is None
    assert sweep.points["value"].tolist() == [0.5, 1.0]
    (line,) = sweep.manifest["skipped"]
    assert holds(line, "qa", "target", "doc_id 0")


def test_rows_of_different_samples_are_named(tmp_path: Path) -> None:
    score_point(tmp_path / "a", 0.0, 1.0, metric="acc")
    score_point(tmp_path / "b", 0.0, 1.0, 1.0, metric="acc")
    sweep = read_sweep(str(write_table(tmp_path, ("a", "c", 0.1), ("b", "d", 0.1))))
    assert sweep.samples is not None
    assert len(sweep.samples) == 5
    (line,) = sweep.manifest["skipped"]
    assert holds(line, "qa", "2 of 3", "doc_id")


def test_a_row_may_be_for_one_benchmark(tmp_path: Path) -> None:
    write_vlmevalkit(tmp_path / "a" / "m", "m", X={"Overall": 50.0}, Y={"Overall": 20.0})
    write_vlmevalkit(tmp_path / "b" / "m", "m", X={"Overall": 60.0}, Y={"Overall": 30.0})
    rows = [("a", "c", 0.1, "X", 1), ("a", "c", 0.2, "Y", 1), ("b", "c", 0.3, "X", 2)]
    rows.append(("b", "c", 0.5, "Y", 2))
    header = "results,codec,bpp,task,quality"
    sweep = read_sweep(str(write_table(tmp_path, *rows, header=header)))
    found = sweep.points.set_index(["quality", "task"])["bpp"].to_dict()
    assert found == {(1, "X"): 0.1, (1, "Y"): 0.2, (2, "X"): 0.3, (2, "Y"): 0.5}
    assert sweep.points["point_key"].nunique() == 2
    (mean,) = assemble(sweep).means
    np.testing.assert_allclose(mean.frame["bpp"], [0.15, 0.4])
    np.testing.assert_allclose(mean.frame["value"], [0.35, 0.45])


def test_columns_of_the_points_file_are_kept(tmp_path: Path) -> None:
    write_vlmevalkit(tmp_path / "a", "a_model", X={"Overall": 50.0})
    header = "results,codec,bpp,scenario,variant,lmbda,seed,mllm,psnr,note"
    row = ("a", "elic", 0.1, "d1", "wide", 0.004, 2, "a_model", 31.5, "good")
    sweep = read_sweep(str(write_table(tmp_path, row, header=header)))
    (point,) = sweep.points.to_dict("records")
    expected = {
        "codec": "elic",
        "bpp": 0.1,
        "scenario": "d1",
        "variant": "wide",
        "lmbda": 0.004,
        "seed": 2,
        "mllm": "a_model",
        "psnr": 31.5,
        "value": 0.5,
    }
    assert {name: point[name] for name in expected} == expected
    assert sweep.manifest["skipped"] == ["rates.csv: columns not used: note"]


def test_a_percentage_below_one_is_one_beside_others(tmp_path: Path) -> None:
    """At few bits, 0.8 % are not 80 %."""
    for name, value in {"a": 0.8, "b": 55.0}.items():
        write_vlmevalkit(tmp_path / name / "m", "m", X={"Overall": value})
    sweep = read_sweep(str(write_table(tmp_path, ("a", "c", 0.01), ("b", "c", 0.2))))
    assert sweep.points["value"].tolist() == pytest.approx([0.008, 0.55])


def test_points_of_mme_keep_their_numbers_and_have_no_mean(tmp_path: Path) -> None:
    write_vlmevalkit(
        tmp_path / "m", "m", MME={"perception": 1400.0, "reasoning": 300.0}, X={"Overall": 50.0}
    )
    sweep = read_sweep(str(write_table(tmp_path, (".", "c", 0.1))))
    known = tasks(sweep)
    assert known["MME"].primary == "perception"
    assert known["MME"].units == {"perception": "perception", "reasoning": "reasoning"}
    assert set(sweep.points["value"]) == {1400.0, 300.0, 0.5}
    assert assemble(sweep).means == []


def test_a_file_and_a_directory_inside_are_results(tmp_path: Path) -> None:
    lmms_point(tmp_path / "out", 50)
    file = next(tmp_path.glob("out/*/*_results.json"))
    rows = [("out", "a", 0.1), (file.relative_to(tmp_path), "b", 0.1), (file, "c", 0.1)]
    rows.append((f"file://{file}", "d", 0.1))
    assert read_sweep(str(write_table(tmp_path, *rows))).points["value"].tolist() == [0.25] * 4


def test_directories_may_have_names_of_numbers(tmp_path: Path) -> None:
    for name in ("0.10", "0.20"):
        write_vlmevalkit(tmp_path / name / "m", "m", X={"Overall": 50.0})
    table = write_table(tmp_path, ("0.10", "c", 0.1), ("0.20", "c", 0.2))
    assert len(read_sweep(str(table)).points) == 2


def test_two_mllms_at_one_point(tmp_path: Path) -> None:
    for model in ("a", "b"):
        write_vlmevalkit(tmp_path / model, model, X={"Overall": 50.0})
    sweep = read_sweep(str(write_table(tmp_path, ("a", "c", 0.1), ("b", "c", 0.1))))
    assert sweep.points["mllm"].tolist() == ["a", "b"]
    assert sweep.points["point_key"].nunique() == 1


def test_a_scenario_is_what_the_table_says(tmp_path: Path) -> None:
    write_vlmevalkit(tmp_path / "m", "m", X={"Overall": 50.0})
    rows = [
        (".", "c", 24, "uncompressed"),
        (".", "c", 0.2, "reconstruction"),
        (".", "c", 0.1, "d1"),
    ]
    sweep = read_sweep(str(write_table(tmp_path, *rows, header="results,codec,bpp,scenario")))
    assert sweep.bound == "uncompressed"
    assert sweep.anchor == "reconstruction"
    assert [c.scenario for c in assemble(sweep).curves] == ["reconstruction", "d1"]


def test_a_codec_uncompressed_is_the_bound(tmp_path: Path) -> None:
    write_vlmevalkit(tmp_path / "m", "m", X={"Overall": 50.0})
    rows = [(".", "uncompressed", 24), (".", "vtm", 0.2), (".", "elic", 0.1)]
    sweep = read_sweep(str(write_table(tmp_path, *rows)))
    assert sweep.bound == "uncompressed"
    assert sweep.anchor == "vtm"
    assert {c.scenario for c in assemble(sweep).curves} == {"vtm", "elic"}


def test_the_first_scenario_is_the_anchor_where_none_is(tmp_path: Path) -> None:
    write_vlmevalkit(tmp_path / "m", "m", X={"Overall": 50.0})
    header = "results,codec,bpp,scenario"
    rows = [(".", "c", 24, "uncompressed"), (".", "c", 0.2, "mine"), (".", "c", 0.1, "d1")]
    sweep = read_sweep(str(write_table(tmp_path, *rows, header=header)))
    assert (sweep.bound, sweep.anchor) == ("uncompressed", "mine")
    sweep = read_sweep(str(write_table(tmp_path, rows[2], rows[1], header=header)))
    assert sweep.anchor == "d1"
    assert sweep.scenarios.title("d1") == Scenarios().title("d1")


def test_a_remote_table_names_no_local_file(tmp_path: Path) -> None:
    lmms_point(tmp_path / "m", 50)
    fs = fsspec.filesystem("memory")
    uris = [f"{before}{tmp_path}/m" for before in ("file://", "simplecache::file://", "zip://x::")]
    for results in (tmp_path / "m", *uris):
        fs.pipe_file("/rates.csv", f"results,codec,bpp\n{results},c,0.1\n".encode())
        with pytest.raises(AnalysisError, match=naming("row 1", tmp_path / "m", "local")):
            read_sweep("memory://rates.csv")
    fs.rm_file("/rates.csv")


def test_files_of_unknown_form_are_named(tmp_path: Path) -> None:
    directory = write_vlmevalkit(tmp_path / "m", "m", X={"Overall": 50.0})
    (directory / "m_MMSci_acc.csv").write_bytes(vlmevalkit_table({"subject": "a", "Avg": 0.5}))
    (directory / "m_X.xlsx").write_bytes(b"PK")
    sweep = read_sweep(str(write_table(tmp_path, ("m", "c", 0.1))))
    assert set(sweep.points["task"]) == {"X"}
    (line,) = sweep.manifest["skipped"]
    assert holds(line, "rates.csv", "m_MMSci_acc.csv", "subject")


def test_files_that_repeat_a_score_are_one_task(tmp_path: Path) -> None:
    row = {"split": "none", "Overall": 0.5}
    directory = write_vlmevalkit(tmp_path / "m", "m", MMMU_COT=row, MMMU_COT_cotpost=row, X=row)
    groups = ("clinical vqa task", "department", "perceptual granularity")
    for group in groups:
        name = f"m_GMAI-MMBench_VAL_openai_{group}_acc.csv"
        (directory / name).write_bytes(vlmevalkit_table(row))
    sweep = read_sweep(str(write_table(tmp_path, ("m", "c", 0.1))))
    assert set(sweep.points["task"]) == {"MMMU_COT", "X", "GMAI-MMBench_VAL_openai"}
    lines = sweep.manifest["skipped"]
    assert len(lines) == 3
    assert all(holds(line, "the same score as m_") for line in lines)
    assert holds("".join(lines), "MMMU_COT_cotpost", *groups)


def test_directions_are_those_of_the_results_or_said(tmp_path: Path) -> None:
    content = lmms_content(
        {"asr": {"wer,none": 0.2, "novelty,none": 0.5}}, {"asr": {"wer": False, "novelty": None}}
    )
    write_lmms(tmp_path / "m", content)
    table = str(write_table(tmp_path, ("m", "c", 0.1)))
    with pytest.raises(AnalysisError, match=naming(table, "asr", "novelty", "--lower-is-better")):
        read_sweep(table)
    sweep = read_sweep(table, higher_is_better=["novelty"])
    assert tasks(sweep)["asr"].lower_is_better == {"wer"}
    sweep = read_sweep(table, higher_is_better=["wer"], lower_is_better=["novelty"])
    assert tasks(sweep)["asr"].lower_is_better == {"novelty"}


def test_it_stands_beside_a_sweep(rates: Path, sweep_dir: Path) -> None:
    both = read_sweep(str(sweep_dir), str(rates))
    assert {"vqa", "TextVQA_VAL"} <= set(both.points["task"])
    assert both.anchor == "reconstruction"
    assert len(compare(both, n_resamples=50))

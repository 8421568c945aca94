"""The points file and where a sweep is read from."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.io.files import write_bytes
from analysis.io.names import metric_from_mlflow, metric_to_mlflow
from analysis.io.read import read_sweep, write_points
from analysis.io.schema import COLUMNS, SCHEMA_VERSION, VERSION_KEY, AnalysisError, documented
from search_spaces.settings.secrets import without_secrets
from tests.analysis.messages import naming
from tests.analysis.sweeps import make_sweep

ROOT = Path(__file__).parents[3]


@pytest.fixture
def frame(sweep_dir: Path) -> pd.DataFrame:
    return pd.read_parquet(sweep_dir / "points.parquet")


@pytest.mark.parametrize("name", ["points.parquet", "points.csv"])
def test_both_files_hold_what_was_written(frame: pd.DataFrame, tmp_path: Path, name: str) -> None:
    write_points(frame, str(tmp_path / "there"))
    again = read_sweep(str(tmp_path / "there" / name)).points
    assert set(again.pop("variant")) == {""}
    pd.testing.assert_frame_equal(again, frame)
    assert {p.name for p in (tmp_path / "there").iterdir()} == {
        *("points.parquet", "points.csv", "points.csv-metadata.json")
    }


def test_parquet_says_version_units_and_types(sweep_dir: Path) -> None:
    schema = pq.read_schema(sweep_dir / "points.parquet")
    assert schema.metadata[VERSION_KEY] == str(SCHEMA_VERSION).encode()
    assert schema.field("bpp").metadata[b"unit"] == b"bit/pixel"
    assert schema.field("psnr").metadata[b"unit"] == b"dB"
    assert [f.type for f in schema] == [f.type for f in COLUMNS]


def test_csv_says_version_in_itself_and_units_beside_it(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    write_points(frame.assign(k=2), str(tmp_path))
    as_anyone_reads_it = pd.read_csv(tmp_path / "points.csv")
    assert set(as_anyone_reads_it["schema"]) == {SCHEMA_VERSION}
    said = json.loads((tmp_path / "points.csv-metadata.json").read_text())
    columns = said["tableSchema"]["columns"]
    assert said["url"] == "points.csv"
    assert [c["name"] for c in columns] == list(as_anyone_reads_it.columns)
    by_name = {c["name"]: c for c in columns}
    assert by_name["bpp"]["schema:unitText"] == "bit/pixel"
    assert by_name["bpp"]["datatype"] == "double"
    assert by_name["bpp"]["required"]
    assert not by_name["lmbda"]["required"]


def test_the_schema_prints_every_column_with_type_and_unit() -> None:
    lines = documented().splitlines()
    assert (
        "| `bpp` | double | bit/pixel | real bits written per pixel given to the codec |" in lines
    )
    assert len(lines) == 4 + len(COLUMNS) + 4


def test_uncompressed_has_no_codec_and_24_bits(sweep_dir: Path) -> None:
    points = read_sweep(str(sweep_dir)).points
    own = points[points["scenario"] == "uncompressed"]
    assert own["codec"].isna().all()
    assert own["lmbda"].isna().all()
    assert own["psnr"].isna().all()
    assert (own["bpp"] == 24).all()


def test_further_columns_are_kept_after_the_fixed_ones(frame: pd.DataFrame, tmp_path: Path) -> None:
    write_points(frame.assign(k=2)[["k", *frame.columns]], str(tmp_path))
    assert list(read_sweep(str(tmp_path)).points.columns) == [*COLUMNS.names, "k", "variant"]


def test_an_fsspec_uri_is_written_and_read(frame: pd.DataFrame) -> None:
    write_points(frame, "memory://store/demo")
    found = read_sweep("memory://store").points.drop(columns="variant")
    pd.testing.assert_frame_equal(found, frame)


def test_all_mistakes_of_a_frame_come_in_one_message(frame: pd.DataFrame, tmp_path: Path) -> None:
    bad = frame.astype({"n_samples": object})
    bad.loc[0, "n_samples"] = "many"
    bad["task"] = None
    with pytest.raises(AnalysisError, match=naming("task", "n_samples", "int64")):
        write_points(bad, str(tmp_path))
    twice = pd.concat([frame, frame.head(1)])
    twice["bpp"] = 0.0
    with pytest.raises(AnalysisError, match=naming("bpp", 0, frame["point_key"].iloc[0])):
        write_points(twice, str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_newer_schema_is_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    table = pa.Table.from_pandas(frame)
    newer = {VERSION_KEY: str(SCHEMA_VERSION + 1).encode()}
    pq.write_table(table.replace_schema_metadata(newer), tmp_path / "points.parquet")
    with pytest.raises(AnalysisError, match=naming("points.parquet", "schema 2")):
        read_sweep(str(tmp_path))
    frame.assign(schema=SCHEMA_VERSION + 1).to_csv(tmp_path / "newer.csv", index=False)
    with pytest.raises(AnalysisError, match=naming("newer.csv", "schema 2")):
        read_sweep(str(tmp_path / "newer.csv"))
    frame.assign(schema="two").to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(AnalysisError, match=naming("odd.csv", "'two'")):
        read_sweep(str(tmp_path / "odd.csv"))


def test_percentages_are_refused_where_fractions_are_meant(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    percent = frame.assign(value=frame["value"] * 100)
    with pytest.raises(AnalysisError, match=naming("exact_match", "percentage")):
        write_points(percent, str(tmp_path))


def test_a_storage_with_one_sweep_is_enough_and_several_must_be_chosen_from(
    sweep_dir: Path, tmp_path: Path
) -> None:
    assert read_sweep(str(sweep_dir.parent)).directory == str(sweep_dir)
    for name in ("one", "two"):
        make_sweep(tmp_path / name, n=4, examples=False)
    with pytest.raises(AnalysisError, match=naming("one", "two")):
        read_sweep(str(tmp_path))
    with pytest.raises(AnalysisError, match=naming(tmp_path / "three")):
        read_sweep(str(tmp_path / "three"))


def test_a_points_file_without_rows_is_an_error(frame: pd.DataFrame, tmp_path: Path) -> None:
    write_points(frame.head(0), str(tmp_path))
    with pytest.raises(AnalysisError, match=naming(tmp_path)):
        read_sweep(str(tmp_path))


def test_metric_names_survive_mlflow() -> None:
    from mlflow.utils.validation import _validate_metric_name

    for name in ("accuracy@0.5", "exact_match", "cider"):
        _validate_metric_name(f"rec/{metric_to_mlflow(name)}/low")
        assert metric_from_mlflow(metric_to_mlflow(name)) == name
    assert metric_to_mlflow("accuracy@0.5") == "accuracy_at_0.5"
    with pytest.raises(ValueError, match="_at_"):
        metric_to_mlflow("accuracy_at_0.5")


def test_passwords_do_not_reach_a_message() -> None:
    assert without_secrets("http://me:pw@host:5000/x") == "http://***@host:5000/x"


def test_values_keep_full_precision_in_csv(frame: pd.DataFrame, sweep_dir: Path) -> None:
    again = read_sweep(str(sweep_dir / "points.csv")).points
    np.testing.assert_array_equal(again["bpp"], frame["bpp"])


def test_report_is_made_with_torch_ray_and_the_other_packages_blocked(
    sweep_dir: Path, tmp_path: Path
) -> None:
    code = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "ray", "mlflow", "trainables", "orchestrator"):
            raise ModuleNotFoundError("forbidden here: " + name)
sys.meta_path.insert(0, Blocker())
from analysis.report.build import main
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, str(sweep_dir), "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "report.html").exists()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        write_bytes(str(tmp_path / "points.csv"), b"sweep")
    assert not list(tmp_path.iterdir())

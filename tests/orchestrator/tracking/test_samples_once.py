"""The samples' file of a sweep is written when its content changes, and only then."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.storage.store import Store
from orchestrator.tracking.measured import Measured
from orchestrator.tracking.points_file import _write_samples
from tests.orchestrator.tracking.test_mlflow_runs import manifest, point

FILE = "smoke/samples.parquet"


def test_samples_are_read_and_written_only_where_a_point_or_its_names_changed(
    tmp_path: Path,
) -> None:
    store, reads = Store(str(tmp_path / "storage")), list[str]()

    def counted(measured: Measured, value: float) -> Measured:
        def samples() -> pa.Table:
            reads.append(measured.key)
            return pa.table({"point_key": [measured.key], "value": [value]})

        return replace(measured, samples=samples)

    first, second = counted(point("k1"), 1.0), counted(point("k2"), 2.0)
    both = {"k1": first, "k2": second}
    for _ in range(3):
        _write_samples(store, "smoke", both)
    assert reads == ["k1", "k2"]
    assert pq.read_table(store.path(FILE)).to_pylist() == [
        {"point_key": "k1", "value": 1.0},
        {"point_key": "k2", "value": 2.0},
    ]
    # Another evaluation of a point.
    manifests = [manifest("stages/point/k2"), manifest("stages/evaluation/e2")]
    both["k2"] = counted(replace(point("k2"), manifests=manifests), 3.0)
    _write_samples(store, "smoke", both)
    assert pq.read_table(store.path(FILE))["value"].to_pylist() == [1.0, 3.0]
    # The same evaluation under another name of its model.
    renamed = [row | {"mllm": "n"} for row in first.rows]
    both["k1"] = counted(replace(first, rows=renamed), 4.0)
    _write_samples(store, "smoke", both)
    assert pq.read_table(store.path(FILE))["value"].to_pylist() == [4.0, 3.0]
    # A point less, and a file that is cut.
    del both["k2"]
    _write_samples(store, "smoke", both)
    whole = store.read(FILE)
    assert whole is not None
    # The length of its footer stands before the last four bytes.
    lengths = (0, 4, 2**32 - 1, len(whole) - 11)
    ends = [whole[:-8] + length.to_bytes(4, "little") + whole[-4:] for length in lengths]
    cut = [b"", whole[:4], whole[:50], whole[:-1], whole[:-4] + b"XXXX"]
    for damaged in (whole[:-20] + b"\xff" * 12 + whole[-8:], *cut, *ends):
        store.write(FILE, damaged)
        _write_samples(store, "smoke", both)
        assert store.read(FILE) == whole
    assert pq.read_table(store.path(FILE))["value"].to_pylist() == [4.0]


def test_a_storage_that_is_away_is_no_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path / "storage"))
    table = pa.table({"value": [1.0]})
    complete = {"k1": replace(point("k1"), samples=lambda: table)}
    _write_samples(store, "smoke", complete)

    def refuse(*arguments: object, **options: object) -> bytes:
        raise OSError("thrift: no route to the storage")

    monkeypatch.setattr(store.fs, "cat_file", refuse)
    with pytest.raises(OSError, match="no route"):
        _write_samples(store, "smoke", complete)

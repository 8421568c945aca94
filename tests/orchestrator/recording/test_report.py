"""The end of a sweep writes nothing outside of the sweep's directory."""

from __future__ import annotations

from pathlib import Path

from orchestrator.recording.report import _write_report
from orchestrator.storage.files import StoreError
from orchestrator.storage.store import Store
from tests.orchestrator.tracking.test_mlflow_runs import PAGE


def test_a_sweep_with_a_link_in_its_directory_gets_no_report(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    (tmp_path / "home").mkdir()
    store.put_file(PAGE, "smoke/examples/k1/x.png")
    Path(store.path("smoke/plots")).symlink_to(tmp_path / "home")
    report, failure = _write_report(store, "smoke", f"{store.uri}/smoke")
    assert report is None
    assert isinstance(failure, StoreError), "which the command says in a line"
    assert "smoke/plots is a link" in str(failure)
    assert not list((tmp_path / "home").iterdir())

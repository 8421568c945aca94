"""The examples of a sweep are written once, however often its points file is."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.storage.store import Store, StoreError
from orchestrator.tracking.points_file import _write_tables
from orchestrator.tracking.run_content import write_artifacts
from tests.orchestrator.tracking.test_mlflow_runs import PAGE, point


def test_examples_that_are_there_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, written = Store(str(tmp_path / "storage")), list[str]()
    put_file = Store.put_file

    def counted(store: Store, source: Path, name: str) -> None:
        written.append(name)
        put_file(store, source, name)

    monkeypatch.setattr(Store, "put_file", counted)
    measured, page = point(), "smoke/examples/k1/x.png"
    for _ in range(2):
        _write_tables(store, "smoke", {"k1": measured}, {})
    assert written == [page]
    assert store.read(page) == PAGE.read_bytes()
    # A page that was cut, and a new one.
    store.write(page, PAGE.read_bytes()[:100])
    new: dict[str, Any] = {"files": measured.files | {"examples/k2/y.png": PAGE}}
    _write_tables(store, "smoke", {"k1": replace(measured, **new)}, {})
    assert written == [page, page, "smoke/examples/k2/y.png"]
    assert store.read(page) == PAGE.read_bytes()


def test_no_table_is_written_behind_a_link(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    (tmp_path / "home").mkdir()
    Path(store.path()).mkdir()
    Path(store.path("smoke")).symlink_to(tmp_path / "home")
    with pytest.raises(StoreError, match="smoke is a link"):
        _write_tables(store, "smoke", {"k1": point()}, {})
    assert not list((tmp_path / "home").iterdir())


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_an_example_that_became_a_link_or_a_pipe_is_not_copied(tmp_path: Path, kind: str) -> None:
    """Hours may pass between the look at a stage's files and the end of the sweep."""
    store = Store(str(tmp_path / "storage"))
    store.put_file(PAGE, "stages/evaluation/e/examples/x.png")
    page = Path(store.path("stages/evaluation/e/examples/x.png"))
    measured = replace(point(), files={"examples/k1/x.png": page})
    (tmp_path / "secret").write_text("secret")
    page.unlink()
    page.symlink_to(tmp_path / "secret") if kind == "link" else os.mkfifo(page)
    with pytest.raises(StoreError, match=r"x\.png is (a link|no regular file)"):
        _write_tables(store, "smoke", {"k1": measured}, {})
    with pytest.raises(StoreError, match=r"x\.png is (a link|no regular file)"):
        write_artifacts(measured, tmp_path)
    assert not store.below("smoke/examples")
    assert not (tmp_path / "examples/k1/x.png").exists()

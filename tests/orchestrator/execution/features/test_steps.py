"""What the steps of a pass keep on a machine goes with their process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from orchestrator.execution.features import steps
from orchestrator.execution.features.shards import INDEX
from orchestrator.storage.files import StoreError
from orchestrator.storage.store import Store

READ = """
from orchestrator.execution.features.shards import INDEX
from orchestrator.execution.features.steps import _index_directory
from orchestrator.storage.store import Store

store = Store("memory://bucket/storage")
out = store.new("key")
(out / "train.parquet").write_bytes(b"rows")
with store.work("key") as (_, lease):
    store.save_work("key", out, INDEX, lease)
(out / "train.parquet").unlink()
out.rmdir()
directories = {_index_directory(store.uri, "key") for _ in range(2)}
print([(directory / "train.parquet").read_text() for directory in directories])
"""


def test_a_list_of_images_is_loaded_once_and_goes_with_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", READ]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    child = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert child.stdout == "['rows']\n", child.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_list_of_images_that_is_not_there_yet_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.filesystem("memory").store.clear()
    store = Store("memory://bucket/storage", cache=tmp_path)
    monkeypatch.setattr(steps, "_input_store", lambda storage: store)
    steps._loaded_index.cache_clear()
    with pytest.raises(FileNotFoundError, match="work/key/index is not in the storage"):
        steps._index_directory(store.uri, "key")
    assert not list(tmp_path.glob("tmp/*")), "nothing is left of the first try"
    with store.work("key") as (work, lease):
        (work / INDEX).mkdir()
        (work / INDEX / "train.parquet").write_bytes(b"rows")
        store.save_work("key", work / INDEX, INDEX, lease)
    assert (steps._index_directory(store.uri, "key") / "train.parquet").read_bytes() == b"rows"
    steps._loaded_index.cache_clear()


@pytest.mark.parametrize("place", [INDEX, f"{INDEX}/train.parquet"])
def test_no_link_to_a_list_of_images_is_followed(place: str, tmp_path: Path) -> None:
    """Others may write to the storage, and the link may lead to files of whoever runs the sweep."""
    (tmp_path / "private").mkdir()
    link = tmp_path / "storage" / "work" / "key" / place
    link.parent.mkdir(parents=True)
    steps._index_directory(str(tmp_path / "storage"), "key")
    link.symlink_to(tmp_path / "private")
    with pytest.raises(StoreError, match=f"{place} is a link"):
        steps._index_directory(str(tmp_path / "storage"), "key")

"""What the steps of a pass keep on a machine goes with their process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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

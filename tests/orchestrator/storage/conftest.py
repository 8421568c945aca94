"""The storages that the tests run on: a disk, one that shows files late, remote ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from orchestrator.storage import outage
from orchestrator.storage.store import Store
from tests.orchestrator.storage.late import History, LateStore

BUCKET = "lab"
LATE_S = 0.3
OpenStore = Callable[[str], Store]
"""Node name -> the storage as that node sees it, with a cache of its own."""


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of a local server that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_storage(endpoint: str, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a storage on the local S3, which this process may use."""
    for variable, value in (
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(variable, value)
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    return f"s3://{BUCKET}/{name}"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files become visible within a second, or never."""
    monkeypatch.setattr(outage, "VISIBLE_S", 1.0)
    monkeypatch.setattr(outage, "VISIBLE_LOOK_S", 0.02)


@pytest.fixture(params=["local", "late", "file-as-remote", "memory", "s3"])
def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> OpenStore:
    if request.param == "local":
        return lambda node: Store(str(tmp_path / "storage"))
    if request.param == "late":
        history = History(LATE_S)
        return lambda node: LateStore(tmp_path / "storage", history, node)
    if request.param == "file-as-remote":
        uri = f"file://{tmp_path}/storage"
        return lambda node: Store(uri, cache=tmp_path / node, remote=True)
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return lambda node: Store("memory://bucket/storage", cache=tmp_path / node)
    uri = s3_storage(request.getfixturevalue("s3_endpoint"), tmp_path.name, monkeypatch)
    return lambda node: Store(uri, cache=tmp_path / node)


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store("cache")

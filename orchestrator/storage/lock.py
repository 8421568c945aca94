"""One driver per sweep and storage."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.storage.store import Store, locked

BEAT_S, STALE_S = 10.0, 60.0


class SweepHeldError(RuntimeError):
    """Another driver runs the same sweep."""


@contextlib.contextmanager
def only_driver(store: Store, name: str) -> Iterator[None]:
    """Be the only driver of a sweep.

    On a local directory the kernel keeps the lock and lets go of it when the driver dies. On
    remote storage the driver's heartbeat does, and a dead driver holds it for a minute.

    Raises:
        SweepHeldError: by whom and where.
    """
    with _remote(store, name) if store.remote else _local(store, name):
        yield


@contextlib.contextmanager
def _local(store: Store, name: str) -> Iterator[None]:
    path = Path(store.path(name, ".driver"))
    try:
        with locked(path, wait=False) as file:
            file.truncate(0)
            file.write(_me())
            file.flush()
            yield
    except BlockingIOError:
        raise SweepHeldError(_message(store, name, path.read_text(encoding="utf-8"))) from None


@contextlib.contextmanager
def _remote(store: Store, name: str) -> Iterator[None]:
    at = f"{name}/.driver"
    text = store.read(at)
    if text and time.time() - json.loads(text)["beat"] < STALE_S and not _is_dead(text.decode()):
        raise SweepHeldError(_message(store, name, text.decode()))
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            store.write(at, _me().encode())
            over.wait(BEAT_S)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        store.fs.rm(store.path(at))


def _me() -> str:
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "beat": time.time()})


def _is_dead(text: str) -> bool:
    import psutil

    holder = _parse(text)
    here = holder.get("host") == socket.gethostname()
    return here and not psutil.pid_exists(int(holder.get("pid", 0)))


def _parse(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _message(store: Store, name: str, text: str) -> str:
    holder = _parse(text)
    who = f"process {holder['pid']} on {holder['host']}" if "pid" in holder else "another process"
    return (
        f"sweep {name!r} in {store.uri} is being run by {who}: wait for it, stop it, "
        "or give this one another --name or --storage"
    )

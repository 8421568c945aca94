"""One driver per sweep and storage."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from orchestrator.storage.file_lock import locked
from orchestrator.storage.store import Store

BEAT_S, STALE_S = 10.0, 60.0


class SweepHeldError(RuntimeError):
    """Another driver runs the same sweep."""


@contextlib.contextmanager
def only_driver(store: Store, name: str) -> Iterator[None]:
    """Hold the lock of a sweep, which one driver at a time can have.

    On a local directory the kernel keeps the lock and releases it when the driver dies. On remote
    storage a heartbeat keeps it, and the lock of a dead driver expires after a minute.

    Raises:
        SweepHeldError: another driver holds it; the message names its process and machine.
    """
    with _remote(store, name) if store.remote else _local(store, name):
        yield


@contextlib.contextmanager
def _local(store: Store, name: str) -> Iterator[None]:
    path = Path(store.path(name, ".driver"))
    try:
        with locked(path, wait=False) as file:
            file.truncate(0)
            file.write(_this_driver())
            file.flush()
            yield
    except BlockingIOError:
        holder = _parse(path.read_text(encoding="utf-8"))
        raise SweepHeldError(_message(store, name, holder)) from None


@contextlib.contextmanager
def _remote(store: Store, name: str) -> Iterator[None]:
    at = f"{name}/.driver"
    holder = _parse((store.read(at) or b"").decode())
    if holder is not None and holder.may_live:
        raise SweepHeldError(_message(store, name, holder))
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            store.write(at, _this_driver().encode())
            over.wait(BEAT_S)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        store.fs.rm(store.path(at))


@dataclass(frozen=True)
class _Holder:
    """The driver that holds a lock; `beat` is the time of its last heartbeat."""

    host: str
    pid: int
    beat: float

    @property
    def may_live(self) -> bool:
        """Whether its heartbeat is fresh and, if it ran on this machine, its process exists."""
        if time.time() - self.beat >= STALE_S:
            return False
        return self.host != socket.gethostname() or psutil.pid_exists(self.pid)


def _this_driver() -> str:
    return json.dumps(asdict(_Holder(socket.gethostname(), os.getpid(), time.time())))


def _parse(text: str) -> _Holder | None:
    """The content of a lock file; None if it is incomplete."""
    try:
        content = json.loads(text)
        return _Holder(str(content["host"]), int(content["pid"]), float(content["beat"]))
    except (ValueError, TypeError, KeyError):
        return None


def _message(store: Store, name: str, holder: _Holder | None) -> str:
    driver = "another process" if holder is None else f"process {holder.pid} on {holder.host}"
    return (
        f"sweep {name!r} in {store.uri} is being run by {driver}: wait for it, stop it, "
        "or give this sweep another --name or --storage"
    )

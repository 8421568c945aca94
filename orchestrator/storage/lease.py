"""Leases: one holder of a name at a time, on whatever machine that sees the storage.

    leases/<name>/000001.json    holder, beat, released
    leases/<name>/000002.json    made when 000001 was released, or its holder is dead

The file with the highest number is the lease. A number is made by a conditional write, so one of
several writers wins it. Its holder alone rewrites it, with a `beat` that rises. A waiter takes a
holder for dead when the beat has not risen for a minute of the waiter's own clock: no clocks of two
machines are compared. A holder that was a process of this machine is dead as soon as that is gone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from orchestrator.storage.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How often a lease is renewed and looked at, in seconds.

    Attributes:
        beat: between two beats of the holder.
        stale: without a beat, after which the holder is dead.
        look: between two looks of a waiter.
    """

    beat: float = 10.0
    stale: float = 60.0
    look: float = 1.0


class LeaseHeldError(RuntimeError):
    """Another process holds the lease."""

    def __init__(self, name: str, holder: Process) -> None:
        super().__init__(f"{name} is held by {holder}")
        self.holder = holder


class SweepHeldError(RuntimeError):
    """Another driver runs the same sweep."""


class LeaseLostError(RuntimeError):
    """Another process has taken the lease, because this one could not renew it."""


@dataclass(frozen=True)
class Process:
    """A process, told apart from all others of all machines and containers.

    Attributes:
        host: host name.
        boot: of the machine and its process namespace, 12 hex digits; processes with another one
            cannot be seen.
        pid: in the namespace.
        started_ms: milliseconds since 1970.
    """

    host: str
    boot: str
    pid: int
    started_ms: int

    @classmethod
    def current(cls) -> Process:
        """This process."""
        process = psutil.Process()
        return cls(socket.gethostname(), _boot(), process.pid, _started_ms(process))

    @property
    def is_gone(self) -> bool:
        """Whether it certainly does not run any more; False where it cannot be seen from here."""
        if self.boot != _boot():
            return False
        try:
            process = psutil.Process(self.pid)
            is_zombie = process.status() == psutil.STATUS_ZOMBIE
            return is_zombie or _started_ms(process) != self.started_ms
        except psutil.NoSuchProcess:
            return True

    @property
    def is_here(self) -> bool:
        """Whether it can be seen from here, so that `is_gone` decides."""
        return self.boot == _boot()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@functools.cache
def _boot() -> str:
    """Identity of this machine's boot and process namespace."""
    boot_id, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot_id.exists():
        identity = f"{boot_id.read_text(encoding='ascii').strip()}/{namespace.stat().st_ino}"
    else:
        identity = f"{socket.gethostname()}/{psutil.boot_time():.0f}"
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def _started_ms(process: psutil.Process) -> int:
    return round(process.create_time() * 1000)


@dataclass(frozen=True)
class _State:
    """The content of a lease's file."""

    holder: Process
    beat: int
    released: bool = False

    def dump(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def parse(cls, data: bytes) -> _State:
        content = json.loads(data)
        return cls(Process(**content["holder"]), content["beat"], content["released"])


class Lease:
    """A lease that this process holds; see `hold`."""

    def __init__(self, store: Store, name: str, number: int, pace: Pace) -> None:
        self._store = store
        self._name = name
        self._number = number
        self._pace = pace
        self._beat = 0
        self._process = Process.current()
        self._taken = threading.Event()
        self._renewed = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)
        self._thread.start()

    @property
    def is_lost(self) -> bool:
        """Whether another process holds the lease by now, or may do so soon."""
        silent = time.monotonic() - self._renewed
        return self._taken.is_set() or silent > self._pace.stale - self._pace.beat

    def check(self) -> None:
        """Stop work that somebody else may be doing.

        Raises:
            LeaseLostError: another process may hold the lease by now.
        """
        if self.is_lost:
            raise LeaseLostError(f"the lease of {self._name} could not be renewed and is lost")

    def release(self) -> None:
        """Give the lease back, if it is still held."""
        self._over.set()
        self._thread.join()
        try:
            self._write(released=True)  # of no effect where another one has the next number
        except Exception as error:
            log.info("the lease of %s was not released and expires: %s", self._name, error)

    def _renew(self) -> None:
        while not self._over.wait(self._pace.beat):
            try:
                if self._store.exists(_file(self._name, self._number + 1)):
                    self._taken.set()
                    return
                self._write()
                self._renewed = time.monotonic()
            except Exception as error:  # whatever a storage raises, the next beat may get through
                log.info("the lease of %s was not renewed: %s", self._name, error)

    def _write(self, released: bool = False) -> None:
        self._beat += 1
        state = _State(self._process, self._beat, released)
        self._store.write(_file(self._name, self._number), state.dump())


@contextlib.contextmanager
def hold(store: Store, name: str, wait: bool = True, pace: Pace | None = None) -> Iterator[Lease]:
    """Hold a lease.

    Args:
        name: of the lease in the storage.
        wait: until its holder releases it or is dead; otherwise only until it is clear whether a
            holder on another machine is alive.

    Raises:
        LeaseHeldError: another process holds it and `wait` is False.
    """
    default = Pace() if store.remote else Pace(look=0.1)
    lease = _acquire(store, name, wait, pace or default)
    try:
        yield lease
    finally:
        lease.release()


@contextlib.contextmanager
def only_driver(store: Store, sweep: str) -> Iterator[Lease]:
    """Hold the lease of a sweep, which one driver at a time can have.

    Raises:
        SweepHeldError: another driver holds it; the message names its process and machine.
    """
    try:
        with hold(store, f"sweep-{sweep}", wait=False) as lease:
            yield lease
    except LeaseHeldError as error:
        raise SweepHeldError(
            f"sweep {sweep!r} in {store.uri} is being run by {error.holder}: wait for it, stop it, "
            "or give this sweep another --name or --storage"
        ) from None


def _acquire(store: Store, name: str, wait: bool, pace: Pace) -> Lease:
    seen: tuple[int, int] | None = None
    since = time.monotonic()
    while True:
        number = _highest(store, name)
        state = _read(store, name, number) if number else None
        is_free = number == 0 or (state is not None and (state.released or state.holder.is_gone))
        if not is_free and state is not None:
            current = (number, state.beat)
            if seen is None:
                seen, since = current, time.monotonic()
                log.info("%s is held by %s", name, state.holder)
            is_alive = state.holder.is_here or current != seen
            if is_alive and not wait:
                raise LeaseHeldError(name, state.holder)
            if current != seen:
                seen, since = current, time.monotonic()
            is_free = not state.holder.is_here and time.monotonic() - since > pace.stale
        if is_free:
            content = _State(Process.current(), 0).dump()
            if store.create(_file(name, number + 1), content):
                return Lease(store, name, number + 1, pace)
            continue
        time.sleep(pace.look)


def _highest(store: Store, name: str) -> int:
    """The number of the latest lease of a name; 0 if there was none."""
    numbers = [int(PurePosixPath(file).stem) for file in store.names(f"leases/{name}")]
    return max(numbers, default=0)


def _read(store: Store, name: str, number: int) -> _State | None:
    data = store.read(_file(name, number))
    return None if data is None else _State.parse(data)


def _file(name: str, number: int) -> str:
    return f"leases/{name}/{number:06}.json"

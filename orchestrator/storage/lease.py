"""Leases: one holder of a name at a time, across all machines that share the storage.

    leases/<name>/000001.json    holder, grant, beat, released
    leases/<name>/000002.json    made when 000001 was released, or its holder is dead

The file with the highest number is the lease. A number is made by a conditional write, so one of
several writers wins it. Only its holder rewrites it, with a `beat` that rises. A waiter considers
the holder dead when the beat has not risen for a minute of the waiter's own clock: clocks of two
machines are never compared. A holder that was a process of this machine is dead as soon as that
process has ended.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import Enum, auto

from orchestrator.storage.files import Files
from orchestrator.storage.outage import OUTAGE_S
from orchestrator.storage.process import Process

log = logging.getLogger(__name__)

_NUMBERED = re.compile(r"(\d{6,})\.json")


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
class _State:
    """The content of a lease's file; `grant` tells apart the threads of a process."""

    holder: Process
    beat: int
    released: bool = False
    grant: str = ""

    def dump(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def parse(cls, data: bytes) -> _State:
        content = json.loads(data)
        return cls(Process(**content["holder"]), content["beat"], content["released"])


class Lease:
    """A lease that this process holds; see `hold`."""

    def __init__(self, store: Files, name: str, number: int, pace: Pace) -> None:
        self._store = store
        self._name = name
        self._number = number
        self._pace = pace
        self._beat = 0
        self._process = Process.current()
        self._taken = threading.Event()
        self._renewed = time.monotonic()
        self._over = threading.Event()
        self._is_given_back = threading.Event()
        threading.Thread(target=self._keep, name=f"lease {name}", daemon=True).start()

    @property
    def is_lost(self) -> bool:
        """Whether another process holds the lease by now, or may do so soon."""
        silent = time.monotonic() - self._renewed
        return self._taken.is_set() or silent > self._pace.stale - self._pace.beat

    def check(self) -> None:
        """Stop work that somebody else does; wait while the storage is away, where nobody can.

        Raises:
            LeaseLostError: another process holds the lease, or the storage was away for too long.
        """
        end = time.monotonic() + OUTAGE_S
        while self.is_lost:
            if self._taken.is_set() or time.monotonic() >= end:
                raise LeaseLostError(f"the lease of {self._name} could not be renewed and is lost")
            time.sleep(self._pace.look)

    @property
    def is_taken(self) -> bool:
        """Whether another process holds the lease."""
        return self._taken.is_set()

    def release(self) -> None:
        """Give the lease back; if the storage is away, as soon as it is back."""
        if os.getpid() != self._process.pid:
            return  # a forked child, whose parent holds it
        self._over.set()
        self._is_given_back.wait()

    def _keep(self) -> None:
        while not self._over.wait(self._pace.beat):
            self._renew()
        # While this process lives, nobody on this machine would take it for dead.
        while not self._is_released() and not self._taken.is_set():
            self._is_given_back.set()
            time.sleep(self._pace.beat)
        self._is_given_back.set()

    def _renew(self) -> None:
        if self._taken.is_set():
            return
        try:
            if self._store.exists(_file(self._name, self._number + 1)):
                self._taken.set()
                return
            self._write()
            self._renewed = time.monotonic()
        except Exception as error:  # whatever a storage raises, the next beat may get through
            log.info("the lease of %s was not renewed: %s", self._name, error)

    def _is_released(self) -> bool:
        try:
            self._write(released=True)  # of no effect where another one has the next number
        except Exception as error:
            log.info("the lease of %s was not released: %s", self._name, error)
            return False
        return True

    def _write(self, released: bool = False) -> None:
        self._beat += 1
        state = _State(self._process, self._beat, released)
        self._store.write(_file(self._name, self._number), state.dump())


@contextlib.contextmanager
def hold(store: Files, name: str, wait: bool = True, pace: Pace | None = None) -> Iterator[Lease]:
    """Hold a lease.

    Args:
        name: of the lease in the storage.
        wait: until its holder releases it or is dead; otherwise only until it is clear whether a
            holder on another machine is alive.

    Raises:
        LeaseHeldError: another process holds it and `wait` is False.
    """
    lease = _acquire(_Watch(store, name, pace), wait)
    try:
        yield lease
    finally:
        lease.release()


@contextlib.contextmanager
def hold_all(store: Files, names: Iterable[str], pace: Pace | None = None) -> Iterator[None]:
    """Hold several leases, in one order for all callers, who so never wait for each other.

    It takes as long as for one lease until all their holders are known to be dead.
    """
    watches = [_Watch(store, name, pace) for name in sorted(set(names))]
    with contextlib.ExitStack() as stack:
        for number, watch in enumerate(watches, 1):
            stack.callback(_acquire(watch, wait=True, others=watches[number:]).release)
        yield


@contextlib.contextmanager
def only_driver(store: Files, sweep: str) -> Iterator[Lease]:
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


class _Standing(Enum):
    """What is known of a lease's holder."""

    FREE = auto()
    ALIVE = auto()
    UNKNOWN = auto()


class _Watch:
    """Looks at a lease again and again, and says whether it can be taken."""

    def __init__(self, store: Files, name: str, pace: Pace | None) -> None:
        self.store, self.name = store, name
        self.pace = pace or (Pace() if store.remote else Pace(look=0.1))
        self._seen: tuple[int, int | None] | None = None
        self._since = time.monotonic()
        self.number = 0
        """The latest lease; 0 if there was none."""
        self.holder: Process | None = None

    def look(self) -> _Standing:
        """What is known by now."""
        self.number = _highest(self.store, self.name)
        state = _read(self.store, self.name, self.number) if self.number else None
        self.holder = None if state is None else state.holder
        current = (self.number, None if state is None else state.beat)
        is_first_look, has_changed = self._seen is None, self._seen != current
        if has_changed:
            self._seen, self._since = current, time.monotonic()
        if self.number == 0 or (state is not None and state.released):
            return _Standing.FREE
        if self.holder is not None and self.holder.is_here:
            return _Standing.FREE if self.holder.is_gone else _Standing.ALIVE
        if time.monotonic() - self._since > self.pace.stale:
            return _Standing.FREE
        return _Standing.ALIVE if has_changed and not is_first_look else _Standing.UNKNOWN


def _acquire(watch: _Watch, wait: bool, others: Sequence[_Watch] = ()) -> Lease:
    """Take a lease.

    Args:
        others: of leases that are taken next; they are looked at meanwhile.
    """
    store, name, pace = watch.store, watch.name, watch.pace
    while True:
        standing = watch.look()
        if standing is _Standing.FREE:
            content = _State(Process.current(), 0, grant=uuid.uuid4().hex).dump()
            if store.create(_file(name, watch.number + 1), content):
                return Lease(store, name, watch.number + 1, pace)
            # Another one was first, though a listing may not show it yet.
        elif standing is _Standing.ALIVE and not wait and watch.holder is not None:
            raise LeaseHeldError(name, watch.holder)
        for other in others:
            other.look()
        time.sleep(pace.look)


def _highest(store: Files, name: str) -> int:
    """The number of the latest lease of a name; 0 if there was none."""
    matches = (_NUMBERED.fullmatch(file) for file in store.names(f"leases/{name}"))
    return max((int(match[1]) for match in matches if match), default=0)


def _read(store: Files, name: str, number: int) -> _State | None:
    """The state of a lease; None if its file cannot be read (yet)."""
    try:
        return _State.parse(store.read(_file(name, number)) or b"")
    except (ValueError, TypeError, KeyError):
        return None


def _file(name: str, number: int) -> str:
    return f"leases/{name}/{number:06}.json"

"""The files of leases, and how a waiter looks at them (see lease.py)."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass
from enum import Enum, auto
from pathlib import PurePosixPath
from typing import Final

from pydantic import TypeAdapter

from orchestrator.storage.files import Files, StoreError
from orchestrator.storage.outage import VISIBLE_S
from orchestrator.storage.process import Process

_NUMBERED: Final = re.compile(r"([0-9]{6,12})\.json")
_END: Final = 10**12 - 10**6
"""Numbers from here on are no leases, so that each lease can be followed by many more."""


@dataclass(frozen=True)
class Pace:
    """How often a lease is renewed and looked at, in seconds.

    Attributes:
        beat: between two beats of the holder.
        stale: without a visible beat, after which the holder is dead; longer than the storage may
            hide a beat.
        look: between two looks of a waiter.
        stopped: without a beat of a process that runs on this machine, after which the system must
            have stopped it; longer than an outage of the storage that is waited for.
    """

    beat: float = 10.0
    stale: float = 60.0
    look: float = 1.0
    stopped: float = 1800.0


REMOTE = Pace()
SHARED_DISK = Pace(stale=VISIBLE_S + 20.0, look=0.1)


@dataclass(frozen=True)
class LeaseState:
    """The content of a lease's file; `grant` tells apart the threads of a process."""

    holder: Process
    beat: int
    released: bool = False
    grant: str = ""

    def dump(self) -> bytes:
        """The content of the file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def parse(cls, data: bytes) -> LeaseState:
        """Read the content of the file.

        Raises:
            ValueError: it is damaged.
        """
        return _STATE.validate_json(data, strict=True)


_STATE: Final = TypeAdapter(LeaseState)


class Standing(Enum):
    """What is known of a lease's holder."""

    FREE = auto()
    ALIVE = auto()
    UNKNOWN = auto()


class Watch:
    """Looks at a lease again and again, and says whether it can be taken.

    Args:
        name: of the lease.
        pace: None for the storage's.

    Attributes:
        looked: `time.monotonic` before the latest look.
        number: of the latest lease; 0 if there was none.
        holder: of the latest lease; None if there was none, or its file cannot be read.
    """

    def __init__(self, store: Files, name: str, pace: Pace | None) -> None:
        self.store, self.name = store, name
        self.pace = pace or (REMOTE if store.remote else SHARED_DISK)
        self._seen: tuple[int, int | None] | None = None
        self._since = time.monotonic()
        self._has_beaten = False
        self.looked = 0.0
        self.number = 0
        self.holder: Process | None = None

    def look(self) -> Standing:
        """What is known by now.

        A holder whose file cannot be read counts as one that does not beat: until `stale` is over.
        """
        self.looked = time.monotonic()
        self.number = max(lease_numbers(self.store, self.name), default=0)
        state = read_lease(self.store, self.name, self.number) if self.number else None
        self.holder = None if state is None else state.holder
        current = (self.number, None if state is None else state.beat)
        is_first_look, has_changed = self._seen is None, self._seen != current
        if has_changed:
            self._seen, self._since = current, time.monotonic()
            self._has_beaten = not is_first_look
        if self.number == 0 or (state is not None and state.released):
            return Standing.FREE
        if self.holder is not None and self.holder.is_here:
            is_over = self.holder.is_gone or self.still_s > self.pace.stopped
            return Standing.FREE if is_over else Standing.ALIVE
        if self.still_s > self.pace.stale:
            return Standing.FREE
        return Standing.ALIVE if self._has_beaten else Standing.UNKNOWN

    @property
    def still_s(self) -> float:
        """Seconds since a look found another lease or beat than the look before it."""
        return time.monotonic() - self._since


def lease_numbers(store: Files, name: str) -> list[int]:
    """The numbers of a lease, rising."""
    numbers = map(lease_number, store.names(f"leases/{name}"))
    return sorted(number for number in numbers if number)


def lease_number(file: str) -> int:
    """The number of a lease's file; 0 for a file of another name."""
    match = _NUMBERED.fullmatch(PurePosixPath(file).name)
    number = int(match[1]) if match else 0
    return number if number < _END else 0


def read_lease(store: Files, name: str, number: int) -> LeaseState | None:
    """The state of a lease; None if its file cannot be read (yet)."""
    try:
        return parse_lease(store.read(lease_file(name, number)))
    except StoreError:  # no file
        return None


def parse_lease(data: bytes | None) -> LeaseState | None:
    """The state in the content of a lease's file; None if there is none or it is damaged."""
    try:
        return LeaseState.parse(data or b"")
    except ValueError:
        return None


def put_back_first(store: Files, name: str) -> None:
    """Make number 1 of a lease that has a later one, unless it is there: nobody's."""
    nobodys = LeaseState(Process.current(), 0, released=True)
    store.create(lease_file(name, 1), nobodys.dump())


def lease_file(name: str, number: int) -> str:
    """Path of a lease's file in the storage."""
    return f"leases/{name}/{number:06}.json"

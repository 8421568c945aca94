"""Leases: one holder of a name at a time, across all machines that share the storage.

    leases/<name>/000001.json    holder, grant, beat, released
    leases/<name>/000002.json    made when 000001 was released, or its holder is dead

The file with the highest number is the lease. A number is made by a conditional write, so one of
several writers wins it. Only its holder rewrites it, with a `beat` that rises. A waiter considers
the holder dead when the beat has not risen for a minute of the waiter's own clock, on a shared
disk for 95 s: clocks of two machines are never compared. A holder that was a process of this
machine is dead as soon as that process has ended, and counts as dead when the system has stopped it
for half an hour.

Number 1 stays, so that it can be tried first, without a look. The numbers between it and a lease
are removed once that is `SETTLED_S` old: nobody then acts on a look from before it any more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from orchestrator.storage.files import Files, StoreError
from orchestrator.storage.lease_files import (
    LeaseState,
    Pace,
    Standing,
    Watch,
    lease_file,
    lease_numbers,
    put_back_first,
)
from orchestrator.storage.outage import OUTAGE_S, VISIBLE_S
from orchestrator.storage.process import Process

log = logging.getLogger(__name__)

Waits = Callable[[str], None]
"""Called with what is waited for, if that takes more than a moment, and with nothing when that is
over."""
WAIT_IS_SAID_S = 3.0
"""After which a waiter is told what it waits for."""
RELEASE_S = 60.0
"""How long the end of a lease is waited for; the holder's thread goes on with it."""
ANOTHER_SWEEP: Final = "give this sweep another --name or --storage"
SETTLED_S = 2 * VISIBLE_S
"""Age of a lease that every process has noticed which looks again within `VISIBLE_S`."""


class LeaseHeldError(RuntimeError):
    """Another process holds the lease."""

    def __init__(self, name: str, holder: Process) -> None:
        super().__init__(f"{name} is held by {holder}")
        self.holder = holder


class SweepHeldError(RuntimeError):
    """Another driver runs the same sweep.

    Args:
        about: which driver runs it.
    """

    def __init__(self, about: str) -> None:
        super().__init__(f"{about}: wait for it, stop it, or {ANOTHER_SWEEP}")
        self.about = about


class LeaseLostError(RuntimeError):
    """Another process has taken the lease, because this one could not renew it."""


class LeaseLapsedError(LeaseLostError):
    """Nobody is known to have taken the lease, but the storage was away for too long."""


class Lease:
    """A lease that this process holds; see `hold`.

    Args:
        asked: `time.monotonic` before its file was made.
    """

    def __init__(self, store: Files, name: str, number: int, pace: Pace, asked: float) -> None:
        self._store = store
        self._name = name
        self._number = number
        self._pace = pace
        self._beat = 0
        self._process = Process.current()
        self._taken = threading.Event()
        self._made = self._renewed = asked
        self._has_predecessors = number > 2
        self._over = threading.Event()
        self._is_given_back = threading.Event()
        threading.Thread(target=self._keep, name=f"lease {name}", daemon=True).start()

    @property
    def number(self) -> int:
        """Of the lease: rises with each holder of the name."""
        return self._number

    @property
    def is_lost(self) -> bool:
        """Whether another process holds the lease by now, or may do so soon."""
        silent = time.monotonic() - self._renewed
        return self._taken.is_set() or silent > self._pace.stale - self._pace.beat

    def check(self) -> None:
        """Stop work that somebody else does; wait while the storage is away, where nobody can.

        Raises:
            LeaseLostError: another process holds the lease.
            LeaseLapsedError: the storage was away for too long.
        """
        end = time.monotonic() + OUTAGE_S
        while self.is_lost:
            if self._taken.is_set():
                raise LeaseLostError(f"the lease of {self._name} could not be renewed and is lost")
            if time.monotonic() >= end:
                silent = time.monotonic() - self._renewed
                raise LeaseLapsedError(
                    f"the storage has not taken the lease of {self._name} for {silent:.0f} s"
                )
            time.sleep(self._pace.look)

    @property
    def is_taken(self) -> bool:
        """Whether another process holds the lease."""
        return self._taken.is_set()

    def release(self) -> None:
        """Give the lease back; if the storage is away or hangs, as soon as it is back."""
        if os.getpid() != self._process.pid:
            return  # a forked child, whose parent holds it
        self._over.set()
        self._is_given_back.wait(RELEASE_S)

    def _keep(self) -> None:
        while not self._over.wait(self._pace.beat):
            self._renew()
        # While this process lives, nobody on this machine would take it for dead.
        while not self._taken.is_set() and not self._is_released():
            self._is_given_back.set()
            time.sleep(self._pace.beat)
        self._is_given_back.set()

    def _renew(self) -> None:
        if self._taken.is_set():
            return
        # Others may see the beat long before this process has the storage's answer.
        began = time.monotonic()
        try:
            numbers = lease_numbers(self._store, self._name)
            if max(numbers, default=0) > self._number or not self._is_there(numbers):
                self._taken.set()
                return
            self._write()
            self._renewed = began
            if self._number > 1 and 1 not in numbers:  # a clean-up has removed what nobody held
                put_back_first(self._store, self._name)
            if self._has_predecessors and self._renewed - self._made > SETTLED_S:
                before = [lease_file(self._name, number) for number in numbers[:-1] if number > 1]
                self._store.remove(before)
                self._has_predecessors = False
        except Exception as error:  # whatever a storage raises, the next beat may get through
            log.info("the lease of %s was not renewed: %s", self._name, error)

    def _is_there(self, numbers: Sequence[int]) -> bool:
        """Whether this lease's file was not removed, though a listing may leave it out."""
        file = lease_file(self._name, self._number)
        return self._number in numbers or self._store.is_file(file)

    def _is_released(self) -> bool:
        try:
            self._write(released=True)  # of no effect where another one has the next number
        except Exception as error:
            log.info("the lease of %s was not released: %s", self._name, error)
            return False
        return True

    def _write(self, released: bool = False) -> None:
        self._beat += 1
        state = LeaseState(self._process, self._beat, released)
        self._store.write(lease_file(self._name, self._number), state.dump())


@contextlib.contextmanager
def hold(
    store: Files,
    name: str,
    wait: bool = True,
    pace: Pace | None = None,
    waits: Waits = lambda line: None,
) -> Iterator[Lease]:
    """Hold a lease.

    Args:
        name: of the lease in the storage.
        wait: until its holder releases it or is dead; otherwise only until it is clear whether a
            holder on another machine is alive.
        waits: as of `Waits`.

    Raises:
        LeaseHeldError: another process holds it and `wait` is False.
    """
    lease = _acquire(Watch(store, name, pace), wait, waits=waits)
    try:
        yield lease
    finally:
        lease.release()


@contextlib.contextmanager
def hold_all(
    store: Files,
    names: Iterable[str],
    pace: Pace | None = None,
    waits: Waits = lambda line: None,
) -> Iterator[list[Lease]]:
    """Hold several leases, in one order for all callers, who so never wait for each other.

    It takes as long as for one lease until all their holders are known to be dead.

    Args:
        waits: as of `Waits`.
    """
    watches = [Watch(store, name, pace) for name in sorted(set(names))]
    with contextlib.ExitStack() as stack:
        leases = []
        for number, watch in enumerate(watches, 1):
            leases.append(_acquire(watch, True, watches[number:], waits))
            stack.callback(leases[-1].release)
        yield leases


@contextlib.contextmanager
def hold_available(
    store: Files, names: Iterable[str], pace: Pace | None = None
) -> Iterator[frozenset[str]]:
    """Hold those of several leases that no living process holds.

    It takes as long as for one lease until it is clear which holders are alive.

    Yields:
        The names of the leases that are held.
    """
    watches = [Watch(store, name, pace) for name in sorted(set(names))]
    held: set[str] = set()
    with contextlib.ExitStack() as stack:
        for number, watch in enumerate(watches, 1):
            with contextlib.suppress(LeaseHeldError):
                stack.callback(_acquire(watch, wait=False, others=watches[number:]).release)
                held.add(watch.name)
        yield frozenset(held)


@contextlib.contextmanager
def only_driver(store: Files, sweep: str, waits: Waits = lambda line: None) -> Iterator[Lease]:
    """Hold the lease of a sweep, which one driver at a time can have.

    Args:
        waits: as of `Waits`.

    Raises:
        SweepHeldError: another driver holds it; the message names its process and machine.
    """
    try:
        with hold(store, f"sweep-{sweep}", wait=False, waits=waits) as lease:
            yield lease
    except LeaseHeldError as error:
        raise SweepHeldError(
            f"sweep {sweep!r} in {store.uri} is being run by {error.holder}"
        ) from None


def _acquire(
    watch: Watch,
    wait: bool,
    others: Sequence[Watch] = (),
    waits: Waits = lambda line: None,
) -> Lease:
    """Take a lease.

    Args:
        others: of leases that are taken next; they are looked at meanwhile.
    """
    store, name, pace = watch.store, watch.name, watch.pace
    content = LeaseState(Process.current(), 0, grant=uuid.uuid4().hex).dump()
    began, said = time.monotonic(), ""
    with _not_left_behind(watch, 1, content):
        is_first = store.create(lease_file(name, 1), content)
    if is_first:
        return Lease(store, name, 1, pace, began)
    while True:
        standing = watch.look()
        if standing is Standing.FREE:
            number, asked = watch.number + 1, time.monotonic()
            with _not_left_behind(watch, number, content):
                is_made = store.create(lease_file(name, number), content)
                is_mine = is_made and _is_next(watch, number)
            if is_mine:
                if said:
                    waits("")
                return Lease(store, name, number, pace, asked)
            # Another one was first, though a listing may not show it yet.
        elif standing is Standing.ALIVE and not wait and watch.holder is not None:
            raise LeaseHeldError(name, watch.holder)
        elif watch.holder and time.monotonic() - began > WAIT_IS_SAID_S:
            line = _waited_for(watch, standing)
            if line != said:
                said = line
                waits(line)
        for other in others:
            other.look()
        time.sleep(pace.look)


def _waited_for(watch: Watch, standing: Standing) -> str:
    """What a waiter is told of the holder, which may be dead or stopped."""
    pace = watch.pace
    if standing is not Standing.ALIVE:
        return f"looking whether {watch.holder} still lives: {pace.stale:g} s at most"
    line = f"waiting for {watch.holder}, which works on it"
    if watch.still_s <= pace.stale:
        return line
    return f"{line} but has not said so for {pace.stale:g} s: {pace.stopped:g} s at most"


@contextlib.contextmanager
def _not_left_behind(watch: Watch, number: int, content: bytes) -> Iterator[None]:
    """Give a number back that may have been made although the storage failed.

    Nobody on this machine would take its holder for dead while this process lives.
    """
    try:
        yield
    except Exception:
        threading.Thread(
            target=_give_back,
            args=(watch.store, lease_file(watch.name, number), content, watch.pace),
            name=f"lease {watch.name}",
            daemon=True,
        ).start()
        raise


def _give_back(store: Files, file: str, content: bytes, pace: Pace) -> None:
    """Release a lease that nobody uses, as soon as the storage is back.

    Args:
        content: of its file, if it was made.
    """
    while True:
        time.sleep(pace.beat)
        try:
            if store.read(file) == content:
                store.write(file, replace(LeaseState.parse(content), released=True).dump())
        except StoreError:
            return  # something else is in its place
        except Exception as error:  # each storage has its own
            log.info("%s was not given back: %s", file, error)
        else:
            return


def _is_next(watch: Watch, number: int) -> bool:
    """Whether a number that was made is the lease; if it is not, it is removed again.

    A process that slept after its look may make a number that was given and removed meanwhile.
    """
    if time.monotonic() - watch.looked < SETTLED_S - VISIBLE_S:
        return True
    is_next = lease_numbers(watch.store, watch.name)[-2:] in ([number - 1, number], [1])
    if not is_next:
        watch.store.remove([lease_file(watch.name, number)])
    return is_next

"""Requests to the driver of a running sweep, which any machine writes into the storage.

    requests/<sweep>/<id>.json           of whoever asks: what is asked, and of which driver
    requests/<sweep>/<id>.answer.json    the driver's answer
    requests/<sweep>/added.json          the larger space and the points that were added, until a
                                         driver has come to its end

Whoever asks waits for the answer and then removes both files. A driver is named by the number of
its lease: a later one removes what its predecessors were asked. No request is lost with a driver:
who asks sees that the lease is free or another driver's, and what a driver has added stays in
`added.json` until a driver ends in order, so that its successor takes it over.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from orchestrator.storage.files import Files, StoreError, line_of_shape
from orchestrator.storage.lease_files import Standing, Watch
from orchestrator.storage.outage import VISIBLE_S, patiently
from search_spaces.settings.secrets import without_secrets

DIRECTORY: Final = "requests"
LOOK_S: Final = 1.0
"""Seconds between two looks for an answer."""
DRIVER_LOOK_S: Final = 10.0
"""Seconds between two looks of a driver for requests."""
_ANSWER: Final = ".answer.json"
_ADDED: Final = "added.json"
_DAMAGES: Final = (ValueError, StoreError)
"""Errors of a file, or of what stands in its place, that somebody else wrote."""
log = logging.getLogger(__name__)

Kind = Literal["add", "cancel", "prioritise"]
"""`add` operating points, `cancel` or `prioritise` some."""
Content = dict[str, Any]
"""An object of JSON data."""


class _RequestShape(BaseModel, strict=True):
    kind: str
    content: Content
    lease: int


class _AddedShape(BaseModel, strict=True, extra="allow"):
    space: Content
    points: list[Content]
    added: list[Content]
    command: str


class _AnswerShape(BaseModel, strict=True):
    is_accepted: bool
    lines: list[str]


@dataclass(frozen=True)
class SweepRequest:
    """A request to the driver of a sweep.

    Attributes:
        id: names its file; rises with the time by the clock of whoever asks.
        kind: a `Kind`, or what a later version of this program asks for.
        content: what the kind needs.
        lease: number of the lease of the driver that is asked.
    """

    id: str
    kind: str
    content: Content
    lease: int


@dataclass(frozen=True)
class Answer:
    """A driver's answer.

    Attributes:
        is_accepted: whether the driver does what was asked.
        lines: for a person: what it does, or why it refuses.
    """

    is_accepted: bool
    lines: tuple[str, ...]


class Inbox:
    """The requests to this driver.

    Args:
        store: the storage.
        sweep: its name.
        lease: number of the driver's lease.
    """

    def __init__(self, store: Files, sweep: str, lease: int) -> None:
        self._store, self._directory, self._lease = store, f"{DIRECTORY}/{sweep}", lease
        self._answered: dict[str, float] = {}
        """Id -> when it was answered, or found damaged; a listing may show an answer late."""

    def pending(self) -> list[SweepRequest]:
        """The requests to this driver without an answer, the oldest first.

        Those to an earlier driver are removed: who asked sees that it has ended, or is gone.
        """
        names = self._store.names(self._directory)
        answered = {name.removesuffix(_ANSWER) for name in names if name.endswith(_ANSWER)}
        over = answered | self._answered.keys() | {_ADDED.removesuffix(".json")}
        ids = [name.removesuffix(".json") for name in names if not name.endswith(_ANSWER)]
        pending, outdated = [], []
        for request_id in ids:
            if request_id in over:
                continue
            request = self._read(request_id)
            if request is None:
                continue
            if request.lease == self._lease:
                pending.append(request)
            elif request.lease < self._lease:
                outdated.append(f"{self._directory}/{request_id}.json")
        self._store.remove(outdated)
        return pending

    def _read(self, request_id: str) -> SweepRequest | None:
        """A request; None if whoever asked has removed it, or if it is damaged."""
        try:
            data = self._store.read(f"{self._directory}/{request_id}.json")
            if data is None:
                return None
            shape = _RequestShape.model_validate_json(data)
            return SweepRequest(request_id, shape.kind, shape.content, shape.lease)
        except _DAMAGES as error:
            # Others may write there: whatever stands in a name goes to the log in one line.
            log.warning("the request %r is damaged: %s", request_id, type(error).__name__)
            self._answered[request_id] = time.monotonic()
            return None

    def answer(self, request: SweepRequest, answer: Answer) -> None:
        """Answer a request."""
        data = json.dumps(asdict(answer)).encode()
        self._store.write(f"{self._directory}/{request.id}{_ANSWER}", data)
        self._answered[request.id] = time.monotonic()

    def refuse_all(self, reason: str) -> None:
        """Answer all requests that no job is left for."""
        for request in self.pending():
            self.answer(request, Answer(False, (reason,)))

    def read_added(self) -> Content | None:
        """What drivers of the sweep have kept of `add`; None if there is nothing.

        Returns:
            The content of the latest `add`, and `added`: fields of the points that were added.
        """
        try:
            data = self._store.read(f"{self._directory}/{_ADDED}")
            if data is None:
                return None
            return _AddedShape.model_validate_json(data).model_dump()
        except _DAMAGES as error:
            log.warning("%s of the sweep is damaged: %s", _ADDED, type(error).__name__)
            return None

    def keep_added(self, content: Mapping[str, object]) -> None:
        """Keep what `read_added` returns for the driver that follows if this one dies."""
        self._store.write(f"{self._directory}/{_ADDED}", json.dumps(content).encode())

    def forget_added(self) -> None:
        """Keep nothing for the driver that follows."""
        self._store.remove([f"{self._directory}/{_ADDED}"])

    def clear(self) -> None:
        """Remove what was kept, and requests that were answered and whose asker is gone.

        An answer that the asker may not see yet stays; the asker removes it, or the next driver.
        """
        now = time.monotonic()
        fresh = {i for i, when in self._answered.items() if now - when < VISIBLE_S}
        names = self._store.names(self._directory)
        answered = {n.removesuffix(_ANSWER) for n in names if n.endswith(_ANSWER)} - fresh
        files = [f"{request_id}{end}" for request_id in answered for end in (".json", _ANSWER)]
        self.forget_added()
        self._store.remove(f"{self._directory}/{name}" for name in files if name in names)


def ask(
    store: Files,
    sweep: str,
    kind: Kind,
    content: Mapping[str, object],
    waits: Callable[[], None] = lambda: None,
) -> Answer | None:
    """Ask the driver of a sweep, and wait for its answer.

    Args:
        content: as of `SweepRequest`.
        waits: called once, when the driver is known to live and has the request.

    Returns:
        None if no driver runs the sweep, or it ended before it answered.

    Raises:
        StoreError: the answer is damaged.
        Exception: what the storage raises, after `OUTAGE_S` if it was away at a look.
    """
    watch = Watch(store, f"sweep-{sweep}", None)
    while (standing := patiently(watch.look)) is Standing.UNKNOWN:
        time.sleep(watch.pace.look)
    if standing is Standing.FREE:
        return None
    lease, request_id = watch.number, f"{time.time_ns():020}-{uuid.uuid4().hex[:8]}"
    file, answer_file = (f"{DIRECTORY}/{sweep}/{request_id}{end}" for end in (".json", _ANSWER))
    data = json.dumps({"kind": kind, "content": dict(content), "lease": lease}).encode()

    def look() -> tuple[bool, bytes | None]:
        """Whether that driver has ended, and its answer."""
        is_over = watch.look() is Standing.FREE or watch.number != lease
        return is_over, store.read(answer_file)  # in this order: its last act may be the answer

    try:
        store.write(file, data)
        waits()
        while True:
            is_over, answer = patiently(look)
            if answer is not None:
                return _parsed(answer)
            if is_over:
                return None
            time.sleep(LOOK_S)
    finally:
        _withdraw(store, [file, answer_file])


def _parsed(answer: bytes) -> Answer:
    """A driver's answer.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        shape = _AnswerShape.model_validate_json(answer)
    except ValueError as error:
        raise StoreError(f"the driver's answer is damaged ({line_of_shape(error)})") from None
    return Answer(shape.is_accepted, tuple(shape.lines))


def _withdraw(store: Files, files: Sequence[str]) -> None:
    """Remove a request and its answer; an error would hide the answer from whoever asked."""
    try:
        store.remove(files)
    except Exception as error:  # each storage has its own
        log.warning("%s stays in the storage: %s", files[0], without_secrets(str(error)))

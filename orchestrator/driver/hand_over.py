"""A second command on a sweep that runs hands its points over to the sweep's driver."""

from __future__ import annotations

import shlex
import sys

from orchestrator.execution.environment import StorageAwayError, storage_answers
from orchestrator.recording.request import Request
from orchestrator.storage.files import StoreError
from orchestrator.storage.lease import ANOTHER_SWEEP, SweepHeldError
from orchestrator.storage.sweep_requests import ask
from search_spaces.settings.secrets import printable, without_secrets


class RefusedSpaceError(RuntimeError):
    """The driver does not take the space over; a line per reason."""


class UnansweredError(RuntimeError):
    """The driver was asked, and then the storage did not answer any more."""


def hand_over(request: Request, held: SweepHeldError) -> bool:
    """Ask the driver of the sweep to add the points of a request, and print what it added.

    Args:
        held: about the driver that runs the sweep.

    Returns:
        False if that driver has ended, so that the caller may run the sweep.

    Raises:
        RefusedSpaceError: the space is no larger one of the sweep's, or the cluster has no room.
        StorageAwayError: the storage cannot be used, and nobody was asked.
        StoreError: a file there is damaged, and nobody was asked.
        UnansweredError: it could not be used any more when the driver had been asked, or the answer
            is damaged.
    """
    asked: list[str] = []
    content = {
        "space": request.space.model_dump(mode="json"),
        "points": [point.fields for point in request.points],
        "command": request.command,
        "options": request.options,
    }

    def note() -> None:
        asked.append(request.name)
        about = f"{printable(held.about)}; asking it to add the points of this space"
        print(about, file=sys.stderr, flush=True)
        if request.notify is not None:
            print("--notify has no effect: that driver keeps its settings", file=sys.stderr)

    try:
        with storage_answers(request.store.uri):
            answer = ask(request.store, request.name, "add", content, note)
    except (StorageAwayError, StoreError) as error:
        if not asked:
            raise
        raise UnansweredError(f"{error}; that driver may have added the points") from error
    if answer is None:
        return False
    if not answer.is_accepted:
        reasons = "\n".join(map(printable, answer.lines))
        raise RefusedSpaceError(f"{held.about}\n{reasons}\nwait for it, or {ANOTHER_SWEEP}")
    status = ["status", request.name, "--storage", without_secrets(request.store.uri)]
    follow = shlex.join(["python", "-m", "orchestrator.sweep", *status])
    print(f"{printable('; '.join(answer.lines))}; follow it by `{follow}`", flush=True)
    return True

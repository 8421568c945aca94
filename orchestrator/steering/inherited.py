"""What was added to a sweep whose driver then died, taken over by the next driver."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from orchestrator.plan.jobs import Plan
from orchestrator.steering.larger_space import (
    NotLargerError,
    check_larger,
    keys_of,
    read_space,
    whole_plan,
)
from orchestrator.steering.words import in_turn, typed_anew
from orchestrator.storage.store import Store
from orchestrator.storage.sweep_requests import Content
from search_spaces import OperatingPoint, Space


@dataclass(frozen=True)
class Inheritance:
    """The space and the points of a sweep, with those that were added before.

    Attributes:
        command: that continues all of it, without secrets.
        count: how many operating points were added to those of this driver's command.
    """

    space: Space
    points: tuple[OperatingPoint, ...]
    command: str
    count: int


def inherit(
    space: Space, points: Collection[OperatingPoint], command: str, added: Content, store: Store
) -> Inheritance:
    """The larger one of this driver's space and the one that was added to the sweep before.

    Args:
        space, points, command: of this driver.
        added: `Inbox.read_added`.

    Raises:
        NotLargerError: neither space is a larger one of the other; a line per reason.
        OSError, ValueError: a file that the added space names is missing, or its command is none.
    """
    whole = whole_plan(space, store)
    added_whole = whole_plan(read_space(added["space"], space), store)
    plan = Plan(space, points, whole.fingerprints, None)
    added_keys, covered_keys = (keys_of(added_whole, added[name]) for name in ("added", "points"))
    try:
        check_larger(plan, added_whole)
        larger = added_whole
    except NotLargerError:
        added_points = [added_whole.wanted[key] for key in added_keys]
        check_larger(Plan(added_whole.space, added_points, added_whole.fingerprints, None), whole)
        larger = whole
    keys, commands = plan.wanted.keys(), [typed_anew(str(added["command"])), command]
    needed = commands[:1] if keys <= covered_keys else commands
    return Inheritance(
        larger.space,
        tuple(point for key, point in larger.wanted.items() if key in keys | added_keys),
        command if added_keys <= keys else in_turn(needed),
        len(added_keys - keys),
    )

"""Frees the placement groups of trainings that ended without freeing them.

A controller of Ray Train makes a placement group for its workers. Ray keeps the group after the
controller's process or node is lost, and Train's cleaner frees it only where it reaches Ray's
dashboard and no other cluster runs on the head's machine. CPUs and GPUs of such a group are lost to
the sweep; if its node is lost too, Ray tries to place it again for ever, before any other group.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Final

import ray
from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]
from ray.util.placement_group import PlacementGroup, remove_placement_group

from orchestrator.execution.looking import looking

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""Seconds between two looks for groups without a creator."""


@contextlib.contextmanager
def orphans_freed() -> Iterator[None]:
    """Free the groups of this driver's lost trainings, in a thread, while the context lasts."""
    with contextlib.ExitStack() as stack:
        thread = stack.enter_context(looking(free_orphans, LOOK_S, "placement groups"))
        try:
            yield
        finally:
            stack.close()  # it must not ask Ray when that has ended
            thread.join()


def free_orphans() -> None:
    """Free the placement groups that dead actors of this driver's job have made."""
    job = ray.get_runtime_context().get_job_id()
    # `ray.util.placement_group_table` leaves out who made a group.
    for data in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(data)
        is_orphan = (
            group.creator_job_id.hex() == job
            # The driver's groups have no creating actor, and their creating actor counts as dead.
            and any(byte != 0xFF for byte in group.creator_actor_id)
            and group.creator_actor_dead
            and not group.is_detached
            and group.state != PlacementGroupTableData.REMOVED
        )
        if is_orphan:
            log.info("freeing a lost training's placement group %s", group.placement_group_id.hex())
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))

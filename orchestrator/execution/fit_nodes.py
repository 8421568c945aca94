"""No process of a sweep works on a node that may see other files than the driver.

    driver --nodes it has checked before--> Settings --> a process there works
    driver --publish: nodes that have joined since--> the head's key-value store --> it works, too
    driver --hold: placement groups on a node that is not fit--> Ray places nothing more there

On any other node a process would compute from other models, data or code, and keep the result under
the key of the driver's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import ray
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from orchestrator.execution.driver_keys import driver_key
from orchestrator.execution.failures import UnfitNodeError
from orchestrator.execution.job_steps import Settings

CHECK_WAIT_S: Final = 600.0
"""Seconds that a process waits for its node to be checked; then its work goes elsewhere."""
UNFIT_WAIT_S: Final = 60.0
"""Seconds that it waits on a node that is not fit, which somebody may mend."""
LOOK_S: Final = 1.0
CHECKED: Final = "node"
"""Kind of the keys."""
_FIT: Final = b"1"
_UNFIT: Final = b"0"


def publish(nodes: Iterable[str], is_fit: bool) -> None:
    """Let processes work on nodes, or not; called in the driver.

    Args:
        nodes: ids of nodes.
        is_fit: they see what the driver sees.
    """
    for node in nodes:
        _internal_kv_put(driver_key(CHECKED, node), _FIT if is_fit else _UNFIT)


def hold(node: Mapping[str, Any]) -> list[PlacementGroup]:
    """Reserve a node's CPUs and GPUs as they become free, so that Ray places no work there.

    A node without work would else draw each job that is ready. The groups end with the driver.

    Args:
        node: as Ray lists it.
    """
    resources = node["Resources"]
    (place,) = (n for n in resources if n.startswith("node:") and n != "node:__internal_head__")
    return [
        placement_group([{kind: 1.0, place: 0.001}])
        for kind in ("CPU", "GPU")
        for _ in range(int(resources.get(kind, 0)))
    ]


def free(groups: Iterable[PlacementGroup]) -> None:
    """Give back what `hold` has reserved."""
    for group in groups:
        remove_placement_group(group)


def wait_until_fit(settings: Settings) -> None:
    """Wait until the driver has found the node of this process fit.

    Raises:
        UnfitNodeError: it has found it unfit for `UNFIT_WAIT_S`, or nothing for `CHECK_WAIT_S` or
            half of the limit of silence.
    """
    if settings.fit_nodes is None:
        return
    node = ray.get_runtime_context().get_node_id()
    if node in settings.fit_nodes:
        return
    began = time.monotonic()
    end = began + min(CHECK_WAIT_S, settings.space.resources.silence_s / 2)
    while (found := _internal_kv_get(driver_key(CHECKED, node))) != _FIT:
        now = time.monotonic()
        if found == _UNFIT:
            end = min(end, now + UNFIT_WAIT_S)
        if now >= end:
            reason = "sees other files" if found == _UNFIT else "was not checked"
            raise UnfitNodeError(f"node {node[:8]} {reason}, for {now - began:.0f} s")
        time.sleep(LOOK_S)

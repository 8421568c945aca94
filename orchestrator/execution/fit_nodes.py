"""No process of a sweep works on a node that may see other files than the driver.

    driver --nodes it has checked before--> Settings --> a process there works
    driver --publish: nodes that have joined since--> the head's key-value store --> it works, too

On any other node a process would compute from other models, data or code, and keep the result under
the key of the driver's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Final

from orchestrator.execution.failures import UnfitNodeError
from orchestrator.execution.job_steps import Settings

CHECK_WAIT_S: Final = 600.0
"""Seconds that a process waits for its node to be checked; then its work goes elsewhere."""
UNFIT_WAIT_S: Final = 60.0
"""Seconds that it waits on a node that is not fit, which somebody may mend. It holds its CPUs and
GPUs meanwhile, so that the node does not draw one job after the other."""
LOOK_S: Final = 1.0
_FIT: Final = b"1"
_UNFIT: Final = b"0"


def publish(nodes: Iterable[str], is_fit: bool) -> None:
    """Let processes work on nodes, or not; called in the driver.

    Args:
        nodes: ids of nodes.
        is_fit: they see what the driver sees.
    """
    from ray.experimental.internal_kv import _internal_kv_put

    for node in nodes:
        _internal_kv_put(_key(node), _FIT if is_fit else _UNFIT)


@contextlib.contextmanager
def forgotten_at_the_end() -> Iterator[None]:
    """Remove at the end what this driver publishes meanwhile: the head may live on."""
    from ray.experimental.internal_kv import _internal_kv_del

    try:
        yield
    finally:
        _internal_kv_del(_key(""), del_by_prefix=True)


def wait_until_fit(settings: Settings) -> None:
    """Wait until the driver has found the node of this process fit.

    Raises:
        UnfitNodeError: it has found it unfit for `UNFIT_WAIT_S`, or nothing for `CHECK_WAIT_S` or
            half of the limit of silence.
    """
    if settings.fit_nodes is None:
        return
    import ray
    from ray.experimental.internal_kv import _internal_kv_get

    node = ray.get_runtime_context().get_node_id()
    if node in settings.fit_nodes:
        return
    began = time.monotonic()
    end = began + min(CHECK_WAIT_S, settings.space.resources.silence_s / 2)
    while (found := _internal_kv_get(_key(node))) != _FIT:
        now = time.monotonic()
        if found == _UNFIT:
            end = min(end, now + UNFIT_WAIT_S)
        if now >= end:
            reason = "sees other files" if found == _UNFIT else "was not checked"
            raise UnfitNodeError(f"node {node[:8]} {reason}, for {now - began:.0f} s")
        time.sleep(LOOK_S)


def _key(node: str) -> str:
    """The driver's job in Ray is that of all its processes; another driver has another one."""
    import ray

    return f"bridgesweep-node-{ray.get_runtime_context().get_job_id()}-{node}"

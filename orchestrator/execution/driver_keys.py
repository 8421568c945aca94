"""What a driver tells the processes of its sweep by the key-value store of Ray's head."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import ray
from ray.experimental.internal_kv import _internal_kv_del


def driver_key(kind: str, name: str = "") -> str:
    """A key, or without a name what all keys of a kind begin with.

    The driver's job in Ray is that of all its processes; another driver has another one.
    """
    return f"bridgesweep-{kind}-{ray.get_runtime_context().get_job_id()}-{name}"


@contextlib.contextmanager
def removed_at_the_end(*kinds: str) -> Iterator[None]:
    """Remove at the end what this driver tells meanwhile: the head may live on."""
    try:
        yield
    finally:
        for kind in kinds:
            _internal_kv_del(driver_key(kind), del_by_prefix=True)

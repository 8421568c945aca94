"""Processes that the system has stopped: they cannot keep a limit of silence (silence.py)."""

from __future__ import annotations

import time
from typing import Final

import psutil

from orchestrator.execution.cluster import alive_nodes

LOOK_S: Final = 10.0
"""How long a process is looked at; one that a debugger stops for a moment goes on."""
JOB_VARIABLE: Final = "RAY_JOB_ID"


def end_stopped() -> None:
    """End the processes of this Ray job that are stopped, on all nodes; returns at once.

    Ray then knows that they died, and whoever waits for them goes on.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    job_id = ray.get_runtime_context().get_job_id()
    end = ray.remote(num_cpus=0, max_retries=0)(_end_stopped_here)
    for node in alive_nodes():
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        end.options(scheduling_strategy=here).remote(job_id)


def _end_stopped_here(job_id: str) -> None:
    raylet = psutil.Process().parent()
    processes = [] if raylet is None else raylet.children()
    stopped = [each for each in processes if _is_stopped(each, job_id)]
    time.sleep(LOOK_S)
    for process in stopped:
        if _is_stopped(process, job_id):
            process.kill()


def _is_stopped(process: psutil.Process, job_id: str) -> bool:
    try:
        is_stopped = process.status() == psutil.STATUS_STOPPED
        return is_stopped and process.environ().get(JOB_VARIABLE) == job_id
    except psutil.Error:
        return False

"""The device and the threads that a process computes with."""

from __future__ import annotations

import os

from search_spaces.specs.evaluation import WorkerResources


def device_of(resources: WorkerResources) -> str:
    """The device of models and tensors: `cuda` where a worker asks for a GPU, else `cpu`."""
    return "cuda" if resources.gpus_per_worker > 0 else "cpu"


def mllm_gpus(resources: WorkerResources) -> int:
    """The number of GPUs that an evaluator's MLLM is divided over; 1 where it is not divided."""
    return max(1, int(resources.gpus_per_worker))


def use_threads(resources: WorkerResources) -> None:
    """Let this process compute with `cpus_per_worker` threads."""
    import torch  # seconds: the driver, too, imports this module

    threads = resources.cpus_per_worker
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)

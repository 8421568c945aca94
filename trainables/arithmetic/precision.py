"""The two ways in which models compute: exactly, for what is recorded, and fast, in training.

    exact: coding, stored features and latents, validation, evaluation
    fast:  forward and backward pass of a training step

By PyTorch's default a GPU rounds what convolutions multiply to 10 bits (TF32), and may choose
kernels that add in an order of their own each time. Neither concerns a CPU, whose results are
the same in both ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """While this lasts, models compute in fp32: no autocast, no TF32, repeatable kernels.

    Equal inputs of equal shape give equal bits again on the same GPU with the same libraries. Other
    GPUs and CPUs round in other places.

    Args:
        device: whose autocast is off; the meta device, on which costs are counted, has none.
    """
    with ExitStack() as stack:
        if device.type != "meta":
            stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(_on_gpus(tf32=False, deterministic=True))
        yield


@contextmanager
def fast() -> Iterator[None]:
    """While this lasts, GPUs that have TF32 use it for products of matrices and convolutions."""
    with _on_gpus(tf32=True, deterministic=False):
        yield


@contextmanager
def _on_gpus(tf32: bool, deterministic: bool) -> Iterator[None]:
    """Set PyTorch's switches, which hold for the whole process, and set them back afterwards."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = tf32
        # What is tried out for speed may be another kernel each time.
        cudnn.deterministic, cudnn.benchmark = deterministic, False
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before

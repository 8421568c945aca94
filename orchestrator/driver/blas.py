"""NumPy's threads in the driver."""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def compute_in_calling_thread() -> None:
    """Let NumPy compute in the thread that calls it, with no threads of its own.

    OpenBLAS ends its threads when the process forks, as Ray does to start a cluster. A product of
    matrices that another thread computes in that moment would wait for them for ever, and with it
    the sweep. The driver's arrays are small: one thread is also the faster way.
    """
    import numpy  # noqa: F401  only a library that is loaded can be limited

    threadpool_limits(1, user_api="blas")

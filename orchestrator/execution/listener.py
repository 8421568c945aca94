"""The events of jobs, as the runner reports them."""

from __future__ import annotations

from typing import Protocol


class JobListener(Protocol):
    """Is called, from several threads, with what happens to each job; `key` names the job."""

    def job_started(self, key: str) -> None:
        """A job runs."""
        ...

    def job_progressed(self, key: str, phase: str, step: float, steps: float) -> None:
        """A job has made `step` of `steps` in a phase."""
        ...

    def job_retried(self, key: str, reason: str) -> None:
        """A job failed and will run again."""
        ...

    def job_finished(self, key: str) -> None:
        """A job is done."""
        ...

    def job_failed(self, key: str, reason: str) -> None:
        """A job failed for good, or can never run."""
        ...

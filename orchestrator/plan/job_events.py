"""The events of jobs, as the runner reports them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

JobEventKind = Literal[
    "started", "progressed", "retried", "finished", "failed", "withdrawn", "cancelled"
]


@dataclass(frozen=True)
class JobEvent:
    """What happened to a job.

    Attributes:
        kind: `started`; `progressed`: it has made `step` of `steps` in a `phase`; `retried`: it
            failed for a `reason` and will run again; `finished`; `failed`: for good for a `reason`,
            or it can never run; `withdrawn`: after this job, and one before, failed for a `reason`,
            the `others` will not be started, as they would fail in the same way; `cancelled`: a
            person has cancelled it, or what it needs or is for, and it does not run any more.
        key: of the job.
        others: keys of jobs.
        metrics: of the step, while it trains: loss terms, `val_*`, `images_per_s`, `lr`.
        host: name of the machine that computes it; empty where several do.
    """

    kind: JobEventKind
    key: str
    reason: str = ""
    phase: str = ""
    step: float = 0
    steps: float = 0
    others: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    host: str = ""

    @property
    def failed(self) -> tuple[str, ...]:
        """Keys of the jobs that have failed with it for good."""
        return (self.key,) if self.kind == "failed" else self.others


JobListener = Callable[[JobEvent], None]
"""Called from several threads."""

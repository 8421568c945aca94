"""The jobs of a sweep as other processes get them: a process unpickles those that it asks for."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from itertools import pairwise

from orchestrator.plan.jobs import Job


class PickledJobs(Mapping[str, Job]):
    """Jobs by key; a copy in another process unpickles a job when it is looked up.

    Each job is pickled for itself, and only once for all processes. The bytes of all jobs are one
    buffer, which the processes of a machine share where Ray's object store holds it.

    Args:
        jobs: by key.
    """

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = dict(jobs)
        parts = [pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL) for job in jobs.values()]
        ends = [0]
        for part in parts:
            ends.append(ends[-1] + len(part))
        self._ranges = dict(zip(jobs, pairwise(ends), strict=True))
        """Key -> where the job's bytes begin and end."""
        self._bytes: pickle.PickleBuffer = pickle.PickleBuffer(b"".join(parts))

    def __getitem__(self, key: str) -> Job:
        """The job with a key; raises `KeyError` if there is none."""
        if key not in self._jobs:
            begin, end = self._ranges[key]
            # The bytes come from the driver of this sweep, like all that Ray passes on.
            self._jobs[key] = pickle.loads(self._bytes.raw()[begin:end])
        return self._jobs[key]

    def __iter__(self) -> Iterator[str]:
        """The keys."""
        return iter(self._ranges)

    def __len__(self) -> int:
        """How many jobs there are."""
        return len(self._ranges)

    def __getstate__(self) -> dict[str, object]:
        """The bytes without the jobs."""
        return {"_jobs": {}, "_ranges": self._ranges, "_bytes": self._bytes}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Take the bytes, which arrive as `bytes` where nothing is shared."""
        self.__dict__.update(state)
        self._bytes = pickle.PickleBuffer(state["_bytes"])  # type: ignore[arg-type]

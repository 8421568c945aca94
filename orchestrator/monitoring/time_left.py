"""How long a sweep will still take, from what its finished jobs took.

    finished jobs, by kind --seconds per planned cost--> seconds of each job that is left
    seconds, needs, lanes --simulation--> end of the last job

Of each kind (what a job makes, its scenario, its codec) the newest jobs count most: the first ones
also start processes. A kind of which nothing is known yet gets what the others take: for training
so many seconds for any job and so many per planned cost, for evaluations so many per planned cost
of these. There is no estimate before half of all jobs, by planned cost, are of kinds of which
something is known.

Jobs that ran beside passes over data, as the first ones do, may have taken longer than later ones
will on the same cores: they serve only until one has finished that did not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from itertools import islice
from typing import Final

from orchestrator.monitoring.durations import Durations, training_cost
from orchestrator.monitoring.job_states import TRAIN, FinishedJob, JobStates, RunningJob, clock_text
from orchestrator.plan.jobs import DATA, Job
from orchestrator.plan.simulation import Work, seconds_to_the_end

NEWEST: Final = 2
"""The newest jobs of a kind that count most, per lane: of jobs that start together, the longest
end last."""
KNOWN_SHARE: Final = 0.5
"""Of all planned costs, those of kinds of which seconds are known: with less, no estimate."""
MIN_STEPS_SHARE: Final = 0.1
"""Of the steps of a phase, before their speed says how long the phase lasts."""
KEEP_S: Final = 2.0
"""So long an estimate is counted down at least, before another one is made."""
MAX_BESIDE_PASSES: Final = 0.5
"""Of a job's time, beside passes over data: with more, it does not stand for later ones."""
SHARE: Final = 0.01
"""Of the time that estimating may take: some hundredths of a second for thousands of jobs."""


class TimeLeft:
    """Estimates when the last job of a sweep ends.

    Args:
        states: of the jobs.
        expected: key of a job -> seconds that it should take by what earlier sweeps took; used
            until a job of its kind has finished.
    """

    def __init__(self, states: JobStates, expected: Mapping[str, float] | None = None) -> None:
        self._states = states
        self._expected = dict(expected or {})
        self._clear, self._beside_passes = Durations(), Durations()
        self._running_clear, self._running_beside_passes = Durations(), Durations()
        self._counted = 0
        self._estimate: float | None = None
        self._made = -math.inf
        self._keep_s = KEEP_S

    def seconds(self) -> float | None:
        """Seconds until the last job ends; None while too little is known."""
        states = self._states
        with states.lock:
            now = states.clock()
            if now - self._made >= self._keep_s:
                began = time.thread_time()
                self._estimate, self._made = self._seconds(now), now
                self._keep_s = max(KEEP_S, (time.thread_time() - began) / SHARE)
            return None if self._estimate is None else max(0.0, self._estimate - now + self._made)

    def text(self) -> str:
        """The time left in words, with two spaces before it; empty while too little is known."""
        seconds = self.seconds()
        return "" if seconds is None else f"  about {clock_text(seconds)} left"

    def _seconds(self, now: float) -> float | None:
        states = self._states
        self._count_finished()
        self._project_running(now)
        over = states.finished.keys() | states.failed.keys() | states.cancelled
        jobs = [job for job in states.jobs.values() if job.key not in over]
        whole_seconds = {key: self._of_whole(job) for key, job in states.jobs.items()}
        costs = {key: job.cost for key, job in states.jobs.items()}
        cost_known = sum(costs[key] for key, known in whole_seconds.items() if known is not None)
        if cost_known == 0 or cost_known < KNOWN_SHARE * sum(costs.values()):
            return None
        pace = sum(known for known in whole_seconds.values() if known is not None) / cost_known
        left = []
        for job in jobs:
            running, known = states.running.get(job.key), whole_seconds[job.key]
            durations = self._standing_for(job)
            known = durations.of_unknown(job, pace) if known is None else known
            after = min(known, durations.after_training(job, pace))
            rest = known if running is None else _of_running(running, now, known, after)
            how = {"in_lane": job.kind not in DATA, "is_running": running is not None}
            left.append(Work(job.key, job.needs, rest, min(after, rest), job.cost, **how))
        return seconds_to_the_end(left, states.lanes)

    def _count_finished(self) -> None:
        """Add the jobs that have finished since the last call."""
        states = self._states
        memory = 4.0 + NEWEST * states.lanes
        for key in islice(states.finished, self._counted, None):
            job, took = states.jobs[key], states.finished[key]
            if not took.is_whole:
                continue
            durations = self._clear if _is_clear(job, took) else self._beside_passes
            durations.add(job, took, memory)
        self._counted = len(states.finished)

    def _project_running(self, now: float) -> None:
        """Note what running jobs will have taken, by what is seen of them."""
        clear, beside_passes = Durations(), Durations()
        for key, running in self._states.running.items():
            job, left = self._states.jobs[key], _left_in_phase(running, now)
            if running.trained is not None:
                trains_for = running.trained - running.began
            elif running.phase == TRAIN and left is not None:
                trains_for = now - running.began + left
            else:
                continue
            finished = self._clear if self._clear.has_any(job.kind) else self._beside_passes
            after = finished.after_training(job, trains_for / training_cost(job))
            seconds = max(now - running.began, trains_for + after)
            beside = self._states.beside_passes(running.began, now)
            took = FinishedJob(seconds, seconds - trains_for, True, beside)
            (clear if _is_clear(job, took) else beside_passes).add(job, took, math.inf)
        self._running_clear, self._running_beside_passes = clear, beside_passes

    def _of_whole(self, job: Job) -> float | None:
        """Seconds of a job from its start; None if nothing is known of its kind."""
        pace = self._clear.pace(job)
        if pace is not None:
            return job.cost * pace.per_cost
        if job.key in self._expected:
            return self._expected[job.key]
        pace = self._running_clear.pace(job)
        if pace is not None:
            return job.cost * pace.per_cost
        pace = self._beside_passes.pace(job) or self._running_beside_passes.pace(job)
        if pace is None:
            return None
        durations = self._standing_for(job)
        if durations is self._clear or durations is self._running_clear:
            return durations.of_unknown(job, pace.per_cost)
        return job.cost * pace.per_cost

    def _standing_for(self, job: Job) -> Durations:
        """What others of its `Job.kind` took: of those that say most about jobs to come."""
        by_rank = (self._clear, self._running_clear, self._beside_passes)
        any_known = (durations for durations in by_rank if durations.has_any(job.kind))
        return next(any_known, self._running_beside_passes)


def _is_clear(job: Job, took: FinishedJob) -> bool:
    """Whether a job's time stands for later ones."""
    return job.kind in DATA or took.beside_passes <= MAX_BESIDE_PASSES


def _left_in_phase(running: RunningJob, now: float) -> float | None:
    """Seconds left in a phase of which enough was seen."""
    seen = running.step - running.first_step
    if seen < MIN_STEPS_SHARE * running.steps:
        return None
    return running.left_in_phase(now)


def _of_running(running: RunningJob, now: float, whole: float, after: float) -> float:
    """Seconds that a running job still takes.

    Args:
        whole, after: seconds of such a job, in all and behind its training.
    """
    left = _left_in_phase(running, now)
    if running.phase == TRAIN and left is not None:
        return left + after
    if running.trained is not None:
        whole, began = after, running.trained
    else:
        began = running.began
    return max(whole - (now - began), left or 0.0)

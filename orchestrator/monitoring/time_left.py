"""How long a sweep will still take, from what its finished jobs took.

    finished jobs, by kind --seconds per planned cost--> seconds of each job that is left
    seconds, needs, lanes --simulation--> end of the last job

Of each kind (what a job makes, its scenario, its codec) the newest jobs count most: the first ones
also start processes. A kind of which nothing is known yet gets what the others take: so many
seconds for any job, and so many per planned cost. There is no estimate before half of all jobs, by
planned cost, are of kinds of which something is known.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from orchestrator.monitoring.job_states import TRAIN, JobStates, RunningJob, clock_text
from orchestrator.monitoring.simulation import Left, seconds_to_the_end
from orchestrator.plan.jobs import Job

NEWEST: Final = 2
"""The newest jobs of a kind that count most, per lane: of jobs that start together, the longest
end last."""
KNOWN_SHARE: Final = 0.5
"""Of all planned costs, those of kinds of which seconds are known: with less, no estimate."""
MIN_STEPS_SHARE: Final = 0.1
"""Of the steps of a phase, before their speed says how long the phase lasts."""
KEEP_S: Final = 2.0
"""So long an estimate is counted down at least, before another one is made."""
SHARE: Final = 0.01
"""Of the time that estimating may take: some hundredths of a second for thousands of jobs."""
Kind = tuple[str, ...]


def kinds_of(job: Job) -> tuple[Kind, ...]:
    """The kinds that a job belongs to, the narrowest first; the last one compares all scenarios."""
    point, codec = job.subject.point, job.subject.codec
    scenario = "" if point is None else point.scenario
    codec = codec if point is None else point.codec
    label = "" if codec is None else codec.label
    narrow = (job.kind, scenario, label, job.subject.variant)
    return (narrow, narrow[:3], narrow[:2], narrow[:1])


@dataclass
class Pace:
    """Of the jobs of a kind: sums that weigh the newest most."""

    cost: float = 0.0
    seconds: float = 0.0
    after_training: float = 0.0

    def add(self, cost: float, seconds: float, after_training: float, memory: float) -> None:
        """Add a job.

        Args:
            memory: the number of jobs after which it weighs a third.
        """
        older = 1.0 - 1.0 / memory
        self.cost = older * self.cost + cost
        self.seconds = older * self.seconds + seconds
        self.after_training = older * self.after_training + after_training


@dataclass
class Line:
    """The straight line through seconds over planned costs, by least squares."""

    count: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    cost_squared: float = 0.0
    product: float = 0.0

    def add(self, cost: float, seconds: float) -> None:
        """Add a job."""
        self.count += 1
        self.cost += cost
        self.seconds += seconds
        self.cost_squared += cost * cost
        self.product += cost * seconds

    def at(self, cost: float) -> float:
        """Seconds of a job; neither a job without cost nor further cost takes less than none."""
        spread = self.cost_squared - self.cost**2 / self.count
        mean_cost, mean_seconds = self.cost / self.count, self.seconds / self.count
        if spread <= 1e-9 * self.cost_squared:
            return mean_seconds * cost / mean_cost
        slope = max(0.0, (self.product - self.cost * mean_seconds) / spread)
        if mean_seconds < slope * mean_cost:
            return mean_seconds * cost / mean_cost
        return mean_seconds + slope * (cost - mean_cost)


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
        self._paces: dict[Kind, Pace] = defaultdict(Pace)
        self._lines: dict[str, Line] = defaultdict(Line)
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
        guesses = self._paces_of_running(now)
        over = states.finished.keys() | states.failed.keys() | states.cancelled
        jobs = [job for job in states.jobs.values() if job.key not in over]
        whole_seconds = {key: self._of_whole(job, guesses) for key, job in states.jobs.items()}
        costs = {key: job.cost for key, job in states.jobs.items()}
        cost_known = sum(costs[key] for key, known in whole_seconds.items() if known is not None)
        if cost_known == 0 or cost_known < KNOWN_SHARE * sum(costs.values()):
            return None
        pace = sum(known for known in whole_seconds.values() if known is not None) / cost_known
        left = []
        for job in jobs:
            running, known = states.running.get(job.key), whole_seconds[job.key]
            if known is None:
                line = self._lines.get(job.kind)
                known = pace * job.cost if line is None else line.at(job.cost)
            after = known * self._share_after_training(job)
            rest = known if running is None else _of_running(running, now, known, after)
            left.append(Left(job, rest, min(after, rest), running is not None))
        return seconds_to_the_end(left, states.lanes)

    def _count_finished(self) -> None:
        """Add the jobs that have finished since the last call."""
        states = self._states
        memory = 4.0 + NEWEST * states.lanes
        for key in islice(states.finished, self._counted, None):
            job, took = states.jobs[key], states.finished[key]
            if not took.is_whole:
                continue
            self._lines[job.kind].add(job.cost, took.seconds)
            for kind in kinds_of(job):
                self._paces[kind].add(job.cost, took.seconds, took.after_training, memory)
        self._counted = len(states.finished)

    def _paces_of_running(self, now: float) -> dict[Kind, Pace]:
        """What running jobs show of kinds of which none has finished."""
        guesses: dict[Kind, Pace] = defaultdict(Pace)
        for key, running in self._states.running.items():
            job, left = self._states.jobs[key], _left_in_phase(running, now)
            seconds, trains_for = now - running.began, 1.0 - self._share_after_training(job)
            if running.trained is not None:
                seconds = max(seconds, (running.trained - running.began) / trains_for)
            elif running.phase == TRAIN and left is not None:
                seconds = (seconds + left) / trains_for
            else:
                continue
            for kind in kinds_of(job):
                guesses[kind].add(job.cost, seconds, 0.0, math.inf)
        return guesses

    def _of_whole(self, job: Job, guesses: Mapping[Kind, Pace]) -> float | None:
        """Seconds of a job from its start; None if nothing is known of its kind."""
        kinds = kinds_of(job)[:-1]
        for kind in kinds:
            if kind in self._paces:
                return job.cost * self._paces[kind].seconds / self._paces[kind].cost
        if job.key in self._expected:
            return self._expected[job.key]
        for kind in kinds:
            if kind in guesses:
                return job.cost * guesses[kind].seconds / guesses[kind].cost
        return None

    def _share_after_training(self, job: Job) -> float:
        """The share of a job's seconds that lies behind its training, 0 to 0.9."""
        for kind in kinds_of(job):
            if kind in self._paces and self._paces[kind].seconds:
                return min(0.9, self._paces[kind].after_training / self._paces[kind].seconds)
        return 0.0


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

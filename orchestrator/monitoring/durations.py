"""What finished jobs took, by kind: seconds per planned cost, and a straight line over it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from orchestrator.monitoring.job_states import FinishedJob
from orchestrator.plan.jobs import Job

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

    @property
    def per_cost(self) -> float:
        """Seconds per planned cost."""
        return self.seconds / self.cost


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


@dataclass
class Durations:
    """What jobs took."""

    _paces: dict[Kind, Pace] = field(default_factory=lambda: defaultdict(Pace))
    _trainings: dict[str, Line] = field(default_factory=lambda: defaultdict(Line))
    _evaluations: dict[str, Pace] = field(default_factory=lambda: defaultdict(Pace))

    def add(self, job: Job, took: FinishedJob, memory: float) -> None:
        """Add a finished job.

        Args:
            memory: as of `Pace.add`.
        """
        after = took.seconds if _only_evaluates(job) else took.after_training
        if job.evaluations:
            self._evaluations[job.kind].add(_evaluation_cost(job), after, after, memory)
        if not _only_evaluates(job):
            self._trainings[job.kind].add(training_cost(job), took.seconds - after)
        for kind in kinds_of(job):
            self._paces[kind].add(job.cost, took.seconds, took.after_training, memory)

    def pace(self, job: Job) -> Pace | None:
        """Of the narrowest kind of a job that is known, which is narrower than its `Job.kind`."""
        return next((self._paces[k] for k in kinds_of(job)[:-1] if k in self._paces), None)

    def has_any(self, kind: str) -> bool:
        """Whether a job of a `Job.kind` is known."""
        return (kind,) in self._paces

    def of_unknown(self, job: Job, per_cost: float) -> float:
        """Seconds of a job of whose kind none is known.

        Args:
            per_cost: seconds per planned cost of other jobs.
        """
        cost, line = training_cost(job), self._trainings.get(job.kind)
        trains_for = cost * per_cost if line is None or _only_evaluates(job) else line.at(cost)
        return trains_for + self.after_training(job, per_cost)

    def after_training(self, job: Job, per_cost: float = 0.0) -> float:
        """Seconds of a job behind its training: of its kind, else by what it evaluates.

        Args:
            per_cost: seconds per planned cost of evaluations, as long as none is known.
        """
        pace = self.pace(job)
        if pace is not None:
            return job.cost * pace.after_training / pace.cost
        evaluations = self._evaluations.get(job.kind)
        if evaluations is not None and evaluations.cost:
            per_cost = evaluations.per_cost
        return per_cost * _evaluation_cost(job)


def _evaluation_cost(job: Job) -> float:
    """The planned cost of what a job evaluates."""
    return sum(job.costs[stage.key] for _, stage in job.evaluations)


def training_cost(job: Job) -> float:
    """The planned cost of a job without its evaluations."""
    return job.cost - _evaluation_cost(job)


def _only_evaluates(job: Job) -> bool:
    """Whether a job evaluates, and trains nothing before."""
    return bool(job.evaluations) and not job.costs.get(job.stage.key, 0.0)

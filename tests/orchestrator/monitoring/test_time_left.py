"""The time left, against sweeps that are simulated with the real schedule and noisy durations."""

import math
import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from orchestrator.monitoring import time_left
from orchestrator.monitoring.durations import Line, kinds_of
from orchestrator.monitoring.job_states import JobStates
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import DATA, Job, Plan
from orchestrator.plan.simulation import Work, seconds_to_the_end
from orchestrator.scheduling.schedule import Schedule
from search_spaces import load_space, operating_points
from tests.orchestrator.plan.demands import alike, one_node

STEPS = 100
START_S = 12.0
"""The first job of a lane also starts a process."""
PER_COST = {"codec": 0.8, "point": 2.0}
"""Seconds per planned cost; within factors of 0.85 to 1.2 that differ by the kind."""
EVALUATION_PER_COST = 2.5
"""Of an evaluation, which takes the same behind any training."""


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast the machine of the tests is changes no estimate."""
    monkeypatch.setattr(time_left, "SHARE", math.inf)


def jobs_of(*overrides: str) -> dict[str, Job]:
    space = load_space("demo", overrides)
    return dict(Plan(space, operating_points(space), {}, None).jobs)


@dataclass
class Running:
    """A running job: seconds that it trains, that it evaluates, and how many of them are over."""

    trains: float
    evaluates: float
    over: float = 0.0

    @property
    def is_over(self) -> bool:
        return self.over >= self.trains + self.evaluates


@dataclass
class Sweep:
    """A sweep whose jobs take time by their kinds, in lanes of the real schedule.

    Attributes:
        tick: seconds between two looks at the jobs.
        estimates: (seconds since the start, estimated seconds left or None), every tick.
        second_point: when first a point began of a kind of which one had finished.
        passes_ended: when the last pass over data did.
        beside_passes: so many times as long points take while passes run.
        pass_per_cost: seconds of a pass per planned cost.
    """

    jobs: dict[str, Job]
    lanes: int
    seed: int
    noise: float = 0.15
    tick: float = 1.0
    now: float = 0.0
    estimates: list[tuple[float, float | None]] = field(default_factory=list)
    second_point: float = float("inf")
    passes_ended: float = 0.0
    beside_passes: float = 1.0
    pass_per_cost: float = 1.0

    def run(self) -> None:
        rng = random.Random(self.seed)
        states = JobStates(clock=lambda: self.now)
        schedule = Schedule(self.jobs, alike(), one_node(self.lanes))
        states.plan(self.jobs, self.lanes)
        left, starts = TimeLeft(states), 0
        pace = {kinds_of(job)[0]: rng.uniform(0.85, 1.2) for job in self.jobs.values()}
        running: dict[str, Running] = {}
        while not schedule.over:
            started = [*iter(schedule.next_job, None), *schedule.next_pass()]
            for job in started:
                evaluates = sum(job.costs[stage.key] for _, stage in job.evaluations)
                per_cost = PER_COST.get(job.kind, self.pass_per_cost) * pace[kinds_of(job)[0]]
                seconds = (job.cost - evaluates) * per_cost * rng.lognormvariate(0, self.noise)
                if job.kind not in DATA and starts < self.lanes:
                    starts, seconds = starts + 1, seconds + START_S
                evaluates *= EVALUATION_PER_COST * rng.lognormvariate(0, self.noise)
                running[job.key] = Running(seconds, evaluates)
                states.record(JobEvent("started", job.key))
            self._report(states, schedule, running)
            self.estimates.append((self.now, left.seconds()))
            self._look_for_second_points(states, started)
            self._go_on(running)
            for key in [key for key, run in running.items() if run.is_over]:
                del running[key]
                schedule.finish(key)
                states.record(JobEvent("finished", key))

    def _go_on(self, running: dict[str, Running]) -> None:
        """Let a tick pass."""
        self.now += self.tick
        passes_run = any(self.jobs[key].kind in DATA for key in running)
        if passes_run:
            self.passes_ended = self.now
        for key, run in running.items():
            is_slow = passes_run and self.jobs[key].kind == "point"
            run.over += self.tick / self.beside_passes if is_slow else self.tick

    def _report(self, states: JobStates, schedule: Schedule, running: dict[str, Running]) -> None:
        for key, run in running.items():
            job = self.jobs[key]
            if job.kind in DATA or job.kind in ("scenes", "samples"):
                continue
            if run.over >= run.trains:
                schedule.stage_made(key)
                step = int(STEPS * (run.over - run.trains) / run.evaluates)
                states.record(JobEvent("progressed", key, phase="evaluate", step=step, steps=STEPS))
            elif job.costs.get(job.stage.key):
                step = int(STEPS * run.over / run.trains)
                states.record(JobEvent("progressed", key, phase="train", step=step, steps=STEPS))

    def _look_for_second_points(self, states: JobStates, started: list[Job]) -> None:
        seen = {kinds_of(self.jobs[key]) for key in states.finished}
        if any(job.kind == "point" and kinds_of(job) in seen for job in started):
            self.second_point = min(self.second_point, self.now)

    def errors(self) -> list[float]:
        """Errors of the estimates from the second point of a kind on, as shares of what was left.

        The last minute, in which a few seconds are a large share, is left out.
        """
        judged = [
            (t, seconds)
            for t, seconds in self.estimates
            if seconds is not None and self.second_point < t < self.now - 60
        ]
        assert self.tick * len(judged) > 0.5 * self.now, "too little was judged"
        return [seconds / (self.now - t) - 1 for t, seconds in judged]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lanes", [1, 2, 6])
def test_the_estimate_is_within_30_percent_from_the_second_point_of_each_kind_on(
    lanes: int, seed: int
) -> None:
    sweep = Sweep(jobs_of("seeds=[0, 1, 2]"), lanes, seed)
    sweep.run()
    assert max(map(abs, sweep.errors())) < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_many_jobs_in_many_lanes_are_nearly_always_estimated_within_30_percent(seed: int) -> None:
    """The longest of the jobs that start together end last: they must not count for all."""
    jobs = jobs_of(f"seeds={[*range(40)]}")
    assert len(jobs) > 600
    sweep = Sweep(jobs, 50, seed, noise=0.3, tick=5.0)
    sweep.run()
    errors = sweep.errors()
    assert sum(abs(error) < 0.3 for error in errors) > 0.95 * len(errors)


@pytest.mark.parametrize("seed", range(3))
def test_jobs_that_ran_beside_passes_over_data_count_only_until_others_have(seed: int) -> None:
    """As in the demo on two cores: 15:35 was said where 5:15 were left."""
    sweep = Sweep(jobs_of(), 2, seed, beside_passes=3.0, pass_per_cost=5.0)
    sweep.run()
    assert max(map(abs, sweep.errors())) < 0.3


def test_nothing_is_estimated_from_a_job_of_another_kind() -> None:
    """The world finished first, and its pace output 27 minutes where 3 were left."""
    sweep = Sweep(jobs_of(), 2, 0)
    sweep.run()
    world_ended = next(t for t, seconds in sweep.estimates if seconds is not None)
    first_kinds = [seconds for t, seconds in sweep.estimates if t < world_ended]
    assert len(first_kinds) > 3
    assert set(first_kinds) == {None}


def test_expected_seconds_of_earlier_sweeps_serve_until_a_job_of_the_kind_has_finished() -> None:
    jobs = jobs_of("scenarios=[d1]", "baselines=[]")
    now = 0.0
    states = JobStates(clock=lambda: now)
    states.plan(jobs, 1)
    left = TimeLeft(states, dict.fromkeys(jobs, 7.0))
    in_lanes = [job for job in jobs.values() if job.kind not in DATA]
    # One lane, whose jobs take 7 s each; the passes run beside them.
    assert left.seconds() == pytest.approx(7.0 * len(in_lanes), abs=14.0)
    codecs = [key for key, job in jobs.items() if job.kind == "codec"]
    before = left.seconds()
    states.record(JobEvent("started", codecs[0]))
    now = 70.0
    states.record(JobEvent("finished", codecs[0]))
    others = sum(jobs[key].cost for key in codecs[1:]) / jobs[codecs[0]].cost
    after = left.seconds()
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(70 * others - 7 * len(codecs), abs=1.0)


def test_a_kind_of_which_nothing_is_known_costs_what_any_job_costs_and_its_planned_cost() -> None:
    """Where starting takes most of the time, a job of ten times the cost takes not ten times it."""
    rng = random.Random(0)
    costs = [rng.uniform(1, 10) for _ in range(50)]
    for overhead, per_cost in ((60.0, 2.0), (60.0, 0.0), (0.0, 2.0)):
        line = Line()
        for cost in costs:
            line.add(cost, overhead + per_cost * cost)
        slope, intercept = np.polyfit(costs, [overhead + per_cost * cost for cost in costs], 1)
        assert line.at(40.0) == pytest.approx(slope * 40.0 + intercept, rel=1e-3)
        assert line.at(40.0) == pytest.approx(overhead + per_cost * 40.0, rel=1e-3)


@pytest.mark.parametrize(
    ("jobs", "cost", "expected"),
    [
        ([(2.0, 6.0)], 4.0, 12.0),
        ([(2.0, 6.0), (2.0, 10.0)], 4.0, 16.0),
        # Dearer jobs took less: all take the same.
        ([(1.0, 10.0), (3.0, 8.0)], 9.0, 9.0),
        # A job without cost would take less than none.
        ([(1.0, 1.0), (3.0, 9.0)], 4.0, 10.0),
    ],
)
def test_a_line_through_few_jobs_never_falls_and_never_starts_below_zero(
    jobs: list[tuple[float, float]], cost: float, expected: float
) -> None:
    line = Line()
    for job in jobs:
        line.add(*job)
    assert line.at(cost) == pytest.approx(expected)


def test_lanes_and_the_serial_tail_count() -> None:
    """Ten jobs of 6 s in 5 lanes, and one of 20 s that starts with them and holds up a last one."""
    small = [Work(str(n), (), 6.0, cost=1.0) for n in range(10)]
    long = Work("long", (), 20.0, after=5.0, cost=9.0)
    last = Work("last", ("long",), 4.0, cost=1.0)
    # The last one reads the stage of the long one, which is made 5 s before that is over.
    assert seconds_to_the_end([*small, long, last], 5) == pytest.approx(20.0)
    assert seconds_to_the_end([*small, long], 1) == pytest.approx(80.0)
    running = Work("running", (), 3.0, is_running=True)
    # Running jobs keep their lanes.
    assert seconds_to_the_end([running, long], 1) == pytest.approx(23.0)
    # A pass over data takes no lane.
    beside = Work("beside", (), 15.0, in_lane=False)
    assert seconds_to_the_end([running, long, beside], 1) == pytest.approx(23.0)


def test_a_training_that_waits_for_new_workers_is_not_trained() -> None:
    """It lost its machine after a tenth of its steps."""
    jobs = jobs_of()
    key = next(key for key, job in jobs.items() if job.kind == "point")
    now = 0.0
    states = JobStates(clock=lambda: now)
    states.plan(jobs, 1)
    states.record(JobEvent("started", key))
    for now, phase, step, steps in (  # noqa: B007  the clock reads it
        (1.0, "train", 1, 1000),
        (100.0, "train", 100, 1000),
        (101.0, "waiting for workers", 0, 0),
        (150.0, "train", 101, 1000),
    ):
        states.record(JobEvent("progressed", key, phase=phase, step=step, steps=steps))
        assert states.running[key].trained is None
    now = 990.0
    states.record(JobEvent("progressed", key, phase="evaluate", step=0, steps=100))
    assert states.running[key].trained == 990.0


def test_a_codec_that_is_taken_as_it_is_is_estimated_too() -> None:
    codec = (
        "{arch: mbt2018-mean, N: 16, M: 32, lambdas: [0.02, 0.05], "
        "weights: [/a, /b], train: {steps: 0}}"
    )
    jobs = jobs_of(f"codecs=[{codec}]")
    first, second = [job for job in jobs.values() if job.kind == "codec"]
    assert first.costs[first.key] == 0
    now = 0.0
    states = JobStates(clock=lambda: now)
    states.plan({job.key: job for job in (first, second)}, 1)
    left = TimeLeft(states)
    states.record(JobEvent("started", first.key))
    now = 10.0
    states.record(JobEvent("finished", first.key))
    assert left.seconds() == pytest.approx(10.0)

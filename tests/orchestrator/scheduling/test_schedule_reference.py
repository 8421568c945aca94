"""The schedule answers as one that walks over all jobs at every question, as they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.plan.jobs import DATA, Job
from orchestrator.plan.room import Ask
from orchestrator.scheduling.schedule import Schedule
from search_spaces.specs.stage import Subject, make_stage
from tests.orchestrator.plan.demands import alike, one_node

STAGE = make_stage("codec", {}, {}, Subject())
ACTOR = Ask(gpu=1, cpu=0.05)
KINDS = ("codec", "point", "features", "latents")


class NaiveSchedule:
    """Jobs as lists and sets; nothing is kept that follows from what became of each.

    `jobs` are in an order in which each stands behind those that it needs.
    """

    def __init__(self, jobs: Sequence[Job], ask: Ask, capacity: Ask) -> None:
        self.jobs, self.ask, self.capacity = list(jobs), ask, capacity
        self.made: set[str] = set()
        self.done: set[str] = set()
        self.running: set[str] = set()
        self.failed: dict[str, str] = {}
        self.cancelled: set[str] = set()
        self.ending: set[str] = set()
        self.preferred: set[str] = set()
        self.gpus_of_passes = 0.0

    def open(self) -> list[Job]:
        over = {*self.running, *self.done, *self.failed, *self.cancelled}
        return [job for job in self.jobs if job.key not in over]

    def ready(self) -> list[Job]:
        return [job for job in self.open() if self.made.issuperset(job.needs)]

    def busy(self) -> int:
        return sum(job.kind not in DATA for job in self.jobs if job.key in self.running)

    def free(self) -> int:
        gpu = max(0.0, self.capacity.gpu - self.gpus_of_passes)
        lanes = int(self.capacity.cpu // self.ask.cpu)
        if self.ask.gpu:
            lanes = min(lanes, int(gpu // self.ask.gpu))
        lane_jobs = sum(job.kind not in DATA for job in self.jobs)
        return max(0, min(lanes - self.busy(), lane_jobs))

    def free_gpus(self) -> int:
        """Where a lane has lost its CPU, it has no GPU."""
        busy = min(self.busy(), int(self.capacity.cpu))
        return max(0, int(self.capacity.gpu - self.ask.gpu * busy))

    def chain(self, job: Job) -> float:
        behind = (other for other in self.jobs if job.key in other.needs)
        return job.cost + max(map(self.chain, behind), default=0.0)

    def peek(self) -> str | None:
        ready = [job for job in self.ready() if job.kind not in DATA]
        if not ready or not self.free():
            return None
        return max(ready, key=lambda job: (job.key in self.preferred, self.chain(job))).key

    def next_pass(self) -> list[str]:
        ready = [job.key for job in self.ready() if job.kind in DATA]
        coming = [job for job in self.open() if job.kind in DATA and job.key not in ready]
        is_urgent = bool(self.preferred & set(ready))
        if coming and not is_urgent and (not self.free() or self.peek() is not None):
            return []
        self.running.update(ready)
        return ready

    def give_up(self, key: str, reason: str) -> list[str]:
        self.running.discard(key)
        self.ending.discard(key)
        self.failed[key] = reason
        return self.drop_hopeless(self.jobs)

    def drop_hopeless(self, jobs: Sequence[Job]) -> list[str]:
        lost = []
        for job in jobs:
            culprits = [n for n in job.needs if n in self.failed and n not in self.made]
            if culprits and job in self.open():
                cause = self.failed[culprits[0]]
                because = f"because {culprits[0]} failed"
                self.failed[job.key] = cause if cause.startswith("because ") else because
                lost.append(job.key)
        return lost

    def add(self, jobs: Sequence[Job], again: set[str]) -> list[str]:
        self.jobs += jobs
        self.cancelled -= again | self.needed_by({job.key for job in jobs} | again)
        return self.drop_hopeless(self.jobs)

    def needed_by(self, keys: set[str]) -> set[str]:
        needs = {need for job in self.jobs if job.key in keys for need in job.needs}
        return needs | (self.needed_by(needs) if needs else set())

    def behind(self, keys: set[str]) -> set[str]:
        behind = {job.key for job in self.jobs if keys & set(job.needs)}
        return behind | (self.behind(behind) if behind else set())

    def cancel(self, keys: set[str], wanted: set[str]) -> tuple[set[str], set[str]]:
        ending = keys & self.running
        self.ending |= ending
        dropped = {job.key for job in self.open() if job.key in keys}
        self.cancelled |= dropped
        for job in self.jobs:
            stopped = (self.cancelled | self.ending) - self.made
            is_behind = job.key in self.behind(keys - self.made)
            if is_behind and job in self.open() and stopped & set(job.needs):
                self.cancelled.add(job.key)
                dropped.add(job.key)
        while useless := [job.key for job in self.open() if self.is_useless(job, wanted)]:
            self.cancelled.update(useless)
            dropped.update(useless)
        return dropped, ending

    def is_useless(self, job: Job, wanted: set[str]) -> bool:
        dependents = {other.key for other in self.jobs if job.key in other.needs}
        return job.key not in wanted and bool(dependents) and dependents <= self.cancelled

    def end(self, key: str) -> None:
        self.running.discard(key)
        if key in self.ending:
            self.ending.discard(key)
            if not any(key in job.needs for job in self.open()):
                self.cancelled.add(key)

    def withdraw(self, kind: str | None, reason: str) -> set[str]:
        withdrawn = set()
        for job in self.jobs:
            is_lost = any(n in self.failed and n not in self.made for n in job.needs)
            if (kind in (None, job.kind) or is_lost) and job in self.open():
                self.failed[job.key] = reason
                withdrawn.add(job.key)
        return withdrawn


@st.composite
def job_lists(draw: st.DrawFn, known: Sequence[Job] = (), most: int = 14) -> list[Job]:
    """Jobs that need each other, or jobs that are known."""
    jobs = list(known)
    for number in range(len(known), len(known) + draw(st.integers(1, most))):
        needs = draw(st.lists(st.sampled_from([j.key for j in jobs]), max_size=3)) if jobs else []
        kind = draw(st.sampled_from(KINDS))
        # Whole costs, so that chains that are equally long are so in any order of adding.
        cost = float(draw(st.integers(0, 5)))
        jobs.append(Job(f"j{number}", kind, f"j{number}", STAGE, 0, cost, tuple(needs)))
    return jobs[len(known) :]


def compare(schedule: Schedule, naive: NaiveSchedule) -> None:
    """All questions that change nothing."""
    peeked = schedule.peek()
    lane_jobs = [job for job in naive.open() if job.kind not in DATA]
    ready = [job for job in naive.ready() if job.kind not in DATA]
    training = [
        job for job in naive.jobs if job.kind not in DATA and job.key in naive.running - naive.made
    ]
    assert (peeked and peeked.key) == naive.peek()
    assert schedule.free_lanes() == naive.free()
    assert schedule.open_lane_jobs() == len(lane_jobs)
    could_run = naive.busy() + len(ready)
    assert schedule.processes_that_could_run() == [(naive.ask, could_run)] * (could_run > 0)
    assert schedule.actors_beside_lanes(ACTOR) == naive.free_gpus()
    evaluators = schedule.evaluators_beside_training(Ask(cpu=1))
    assert evaluators == max(0, int(naive.capacity.cpu) - len(training))
    assert (schedule.running, schedule.done) == (naive.running, naive.done)
    assert schedule.failed == naive.failed
    assert (schedule.cancelled, schedule.ending) == (naive.cancelled, naive.ending)
    assert schedule.over == (not naive.open() and not naive.running)


STEPS = (
    *("job", "job", "pass", "finish", "finish", "made", "retry", "fail", "withdraw", "room"),
    *("add", "cancel", "prioritise"),
)


@settings(max_examples=200)
@given(st.data(), job_lists(), st.integers(1, 4), st.integers(0, 3))
def test_every_answer_is_that_of_a_walk_over_all_jobs(
    data: st.DataObject, jobs: list[Job], cpus: int, gpus: int
) -> None:
    ask, capacity = Ask(float(gpus > 0), 1), Ask(float(gpus), float(cpus))
    demand = alike(1, float(gpus > 0))
    schedule = Schedule({job.key: job for job in jobs}, demand, one_node(cpus, gpus))
    naive = NaiveSchedule(jobs, ask, capacity)
    compare(schedule, naive)
    for _ in range(data.draw(st.integers(1, 40))):
        apply(data, data.draw(st.sampled_from(STEPS)), schedule, naive)
        compare(schedule, naive)


def apply(data: st.DataObject, step: str, schedule: Schedule, naive: NaiveSchedule) -> None:
    """Do the same to both."""
    if step == "job":
        job, key = schedule.next_job(), naive.peek()
        naive.running |= {key} if key else set()
        assert (job and job.key) == key
    elif step == "pass":
        assert [job.key for job in schedule.next_pass()] == naive.next_pass()
    elif step == "withdraw":
        kind = data.draw(st.sampled_from((None, *KINDS)))
        withdrawn = schedule.withdraw(lambda job: kind in (None, job.kind), "full")
        assert {job.key for job in withdrawn} == naive.withdraw(kind, "full")
    elif step == "room":
        reserved = data.draw(st.integers(0, 2))
        naive.capacity = replace(naive.capacity, cpu=float(data.draw(st.integers(0, 5))))
        schedule.cluster = one_node(naive.capacity.cpu, naive.capacity.gpu)
        schedule.reserve(ACTOR, reserved)
        naive.gpus_of_passes = float(reserved)
    elif step in ("add", "cancel", "prioritise"):
        change(data, step, schedule, naive)
    elif naive.running:
        key = data.draw(st.sampled_from(sorted(naive.running)))
        end(step, key, schedule, naive)


def change(data: st.DataObject, step: str, schedule: Schedule, naive: NaiveSchedule) -> None:
    """Do to both what a person asks for."""
    if step == "add":
        jobs = data.draw(job_lists(naive.jobs, 3))
        again = (
            data.draw(st.sets(st.sampled_from(sorted(naive.cancelled))))
            if naive.cancelled
            else set()
        )
        cancelled = set(naive.cancelled)
        came_of = schedule.add(
            {job.key: job for job in (*jobs, *naive.jobs) if job in jobs or job.key in again}
        )
        assert {job.key for job in came_of.lost} == set(naive.add(jobs, again))
        assert came_of.reopened == cancelled - naive.cancelled
        return
    some = st.sets(st.sampled_from([job.key for job in naive.jobs]), max_size=3)
    keys = data.draw(some)
    if step == "prioritise":
        schedule.prioritise(keys)
        naive.preferred |= keys | naive.needed_by(keys)
        return
    wanted = data.draw(some)
    cancelled = schedule.cancel(keys, wanted)
    dropped, ending = naive.cancel(keys, wanted)
    assert {job.key for job in cancelled.dropped} == dropped
    assert {job.key for job in cancelled.ending} == ending


def end(step: str, key: str, schedule: Schedule, naive: NaiveSchedule) -> None:
    """Change a running job in both."""
    if step == "made":
        schedule.stage_made(key)
        naive.made.add(key)
    elif step == "fail":
        assert {job.key for job in schedule.give_up(key, "bad")} == set(naive.give_up(key, "bad"))
    elif step == "retry":
        schedule.retry(key)
        naive.end(key)
    else:
        schedule.finish(key)
        naive.running.discard(key)
        naive.ending.discard(key)
        naive.done.add(key)
        naive.made.add(key)


class Uniterable(dict[str, Job]):
    """Jobs that can be looked up by key alone."""

    def __iter__(self) -> NoReturn:
        raise AssertionError("a walk over all jobs")

    values = items = keys = __iter__  # type: ignore[assignment]


def test_what_tune_asks_at_every_step_walks_over_no_jobs() -> None:
    """At 3,000 jobs a walk takes milliseconds, and Tune asks many times a second."""
    jobs = [Job(f"c{n}", "codec", "", STAGE, 0, 1.0) for n in range(4)]
    jobs += [Job(f"l{n}", "latents", "", STAGE, 0, 1.0, (f"c{n}",)) for n in range(4)]
    schedule = Schedule({job.key: job for job in jobs}, alike(), one_node(2))
    schedule.jobs = Uniterable(schedule.jobs)
    while not schedule.over:
        started = [job for job in (schedule.next_job(), *schedule.next_pass()) if job is not None]
        assert started
        could_run = sum(count for _, count in schedule.processes_that_could_run())
        assert schedule.free_lanes() + schedule.open_lane_jobs() < could_run + 9
        assert schedule.actors_beside_lanes(ACTOR, and_ready=True) == 0
        for job in started:
            schedule.finish(job.key)
    assert len(schedule.done) == 8

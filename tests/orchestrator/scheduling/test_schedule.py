import random
import sys
from types import FrameType
from typing import Any

import pytest

from orchestrator.plan.jobs import DATA, Job, Plan
from orchestrator.plan.resources import Demand
from orchestrator.plan.room import Ask
from orchestrator.scheduling.schedule import Schedule, ScheduleClosedError
from search_spaces import load_space, operating_points
from search_spaces.specs.stage import Subject, make_stage
from tests.orchestrator.plan.demands import alike, one_node

ACTOR = Ask(gpu=1, cpu=0.05)

IMAGES = ("training images", "test images", "test episodes")


def plan(*overrides: str) -> Plan:
    space = load_space("smoke", overrides)
    return Plan(space, operating_points(space), {}, None)


def named(schedule: Schedule, label: str) -> Job:
    return next(job for job in schedule.jobs.values() if job.label == label)


def take(schedule: Schedule) -> list[str]:
    """Start whatever may start now."""
    started = []
    while (job := schedule.next_job()) is not None:
        started.append(job.label)
    return started + [job.label for job in schedule.next_pass()]


def with_running_points() -> Schedule:
    """A schedule with room for all, of which all that points need is done and d1 runs."""
    schedule = Schedule(plan().jobs, alike(), one_node(200))
    for job in list(schedule.jobs.values()):
        if job.wave == 0:
            schedule.finish(job.key)
    take(schedule)
    return schedule


def finish(schedule: Schedule, *labels: str) -> None:
    for label in labels:
        schedule.finish(named(schedule, label).key)


@pytest.mark.parametrize(
    ("cpus", "workers", "lanes"),
    [(1, 1, 1), (2, 1, 2), (2, 2, 1), (7, 1, 7), (7, 2, 3), (200, 1, None), (200, 2, None)],
)
def test_every_job_runs_once_after_its_inputs_and_never_beyond_the_capacity(
    cpus: int, workers: int, lanes: int | None
) -> None:
    jobs = plan("seeds=[0, 1, 2]").jobs
    schedule = Schedule(jobs, alike(workers), one_node(cpus))
    most = 0
    rng = random.Random(cpus)
    running: list[Job] = []
    order: list[str] = []
    while not schedule.over:
        while (job := schedule.next_job()) is not None:
            running.append(job)
        running += schedule.next_pass()
        assert running, "a deadlock"
        in_lanes = sum(job.kind not in DATA for job in running)
        most = max(most, in_lanes)
        assert in_lanes * workers <= cpus
        for job in running:
            assert set(job.needs) <= set(order)
        job = running.pop(rng.randrange(len(running)))
        schedule.finish(job.key)
        order.append(job.key)
    assert sorted(order) == sorted(jobs)
    if lanes is not None:
        assert most == lanes, "a lane was never used"


def test_d2_waits_for_its_own_d1_alone_and_not_for_its_evaluation() -> None:
    only = ("scenarios=[d1, d2]", "baselines=[]", "tasks=[vqa]")
    schedule = Schedule(plan(*only).jobs, alike(), one_node(2))
    assert take(schedule) == ["training images", "test images"]
    finish(schedule, "training images", "test images")
    codecs = take(schedule)
    assert sorted(codecs) == ["hyperprior codec lambda=0.002", "hyperprior codec lambda=0.02"]
    finish(schedule, codecs[0])
    # The latents of one codec: a lane is idle, so the pass does not wait for the other codec.
    passed = take(schedule)
    assert "teacher features" in passed
    assert any("latents" in label for label in passed)
    finish(schedule, *passed)
    (d1,) = take(schedule)
    schedule.stage_made(named(schedule, d1).key)
    finish(schedule, codecs[1])
    assert d1.replace("d1", "d2") in take(schedule)


def test_one_pass_takes_all_that_is_ready_when_the_lanes_are_busy() -> None:
    schedule = Schedule(plan().jobs, alike(), one_node(2))
    take(schedule)
    finish(schedule, *IMAGES)
    take(schedule)
    finish(schedule, "hyperprior codec lambda=0.02")
    # The lane is taken by a baseline, and the other codec's latents are still to come.
    assert not [label for label in take(schedule) if "latents" in label or "features" in label]
    finish(schedule, "hyperprior codec lambda=0.002")
    assert [label for label in take(schedule) if "hyperprior latents" in label] == [
        "hyperprior latents lambda=0.002",
        "hyperprior latents lambda=0.02",
    ]


def test_what_needs_a_failed_job_is_missing_because_of_it_and_the_rest_goes_on() -> None:
    schedule = Schedule(plan().jobs, alike(), one_node(200))
    take(schedule)
    finish(schedule, *IMAGES)
    take(schedule)
    finish(schedule, "hyperprior codec lambda=0.02")
    lost = schedule.give_up(named(schedule, "hyperprior codec lambda=0.002").key, "it diverged")
    assert {job.label for job in lost} == {
        "hyperprior latents lambda=0.002",
        "hyperprior reconstruction lambda=0.002 seed=0",
        "hyperprior d1 lambda=0.002 seed=0",
        "hyperprior d2 lambda=0.002 seed=0",
        "hyperprior d3 lambda=0.002 seed=0",
        "hyperprior post_processing lambda=0.002 seed=0",
    }
    for job in lost:
        assert schedule.failed[job.key] == "because hyperprior codec lambda=0.002 failed"
    while not schedule.over:
        take(schedule)
        for key in list(schedule.running):
            schedule.finish(key)
    assert len(schedule.failed) == 7


def test_a_point_whose_evaluation_failed_still_serves_those_that_need_its_weights() -> None:
    schedule = with_running_points()
    d1 = named(schedule, "hyperprior d1 lambda=0.02 seed=0")
    schedule.stage_made(d1.key)
    assert schedule.give_up(d1.key, "the MLLM failed") == []
    assert "hyperprior d2 lambda=0.02 seed=0" in take(schedule)


def test_a_point_of_which_only_evaluations_are_left_holds_nothing_up() -> None:
    jobs = plan().jobs
    d1 = next(job for job in jobs.values() if job.label == "hyperprior d1 lambda=0.02 seed=0")
    schedule = Schedule(jobs, alike(), one_node(200), ["of another sweep", d1.key])
    for job in list(schedule.jobs.values()):
        if job.wave == 0:
            schedule.finish(job.key)
    started = take(schedule)
    assert d1.label in started, "its evaluations are still to be made"
    assert "hyperprior d2 lambda=0.02 seed=0" in started
    assert "hyperprior d2 lambda=0.002 seed=0" not in started


def test_the_longest_chain_starts_first() -> None:
    schedule = Schedule(plan("codecs.0.lambdas=[0.02]").jobs, alike(), one_node(1))
    order = []
    while not schedule.over:
        job = schedule.next_job()
        passed = schedule.next_pass()
        for started in ([job] if job else []) + passed:
            order.append(started.label)
            schedule.finish(started.key)
    # A base codec before the uncompressed bound, which nothing waits for.
    assert order.index("hyperprior codec lambda=0.02") < order.index("uncompressed")
    assert order.index("hyperprior d1 lambda=0.02 seed=0") < order.index(
        "hyperprior reconstruction lambda=0.02 seed=0"
    )


def test_gpus_of_passes_are_kept_from_trials() -> None:
    schedule = Schedule(plan().jobs, alike(gpu=1), one_node(8, 3))
    schedule.reserve(ACTOR, 1)
    assert schedule.free_lanes() == 2
    schedule.reserve(ACTOR, 0)
    assert schedule.free_lanes() == 3


def test_passes_may_have_the_gpus_that_no_lane_uses_or_is_ready_to_use() -> None:
    schedule = Schedule(plan().jobs, alike(gpu=1), one_node(200, 9))
    finish(schedule, *IMAGES)
    codecs = [job for job in schedule.jobs.values() if job.kind == "codec"]
    assert schedule.actors_beside_lanes(ACTOR) == 9
    ready = 9 - schedule.actors_beside_lanes(ACTOR, and_ready=True)
    assert ready >= len(codecs)
    assert schedule.next_job() is not None
    assert schedule.actors_beside_lanes(ACTOR) == 8
    assert schedule.actors_beside_lanes(ACTOR, and_ready=True) == 9 - ready, "it was ready before"


def test_variants_share_the_jobs_they_do_not_touch() -> None:
    fewer = ["scenarios=[d1, d2]", "baselines=[reconstruction]", "codecs.0.lambdas=[0.02]"]
    varied = plan(
        *fewer, "variants={k1: {teacher.block: 1}, k2: {}, slow: {d2.gamma: 7}}", "d2.steps=5"
    )
    assert sorted(job.label for job in varied.jobs.values()) == [
        "hyperprior codec lambda=0.02",
        "hyperprior d1 k1 lambda=0.02 seed=0",
        "hyperprior d1 k2+slow lambda=0.02 seed=0",
        "hyperprior d2 k1 lambda=0.02 seed=0",
        "hyperprior d2 k2 lambda=0.02 seed=0",
        "hyperprior d2 slow lambda=0.02 seed=0",
        "hyperprior latents lambda=0.02",
        "hyperprior reconstruction lambda=0.02 seed=0",
        "teacher features",
        "test episodes",
        "test images",
        "text embeddings of the classes of training images",
        "training images",
    ]
    plain = plan(*fewer, "d2.steps=5", "d2.gamma=7")
    assert set(plain.jobs) < set(varied.jobs)
    for job in varied.jobs.values():
        if job.subject.variant and job.subject.point is not None:
            block = varied.space.of(job.subject.variant).teacher.block
            assert block == (1 if "k1" in job.label else 2)


def test_a_d1_that_is_only_a_start_is_labelled_with_the_variants_it_serves() -> None:
    settings = ["scenarios=[d2]", "baselines=[]", "codecs.0.lambdas=[0.02]"]
    varied = plan(*settings, "variants={k1: {teacher.block: 1}, k2: {}, slow: {d2.gamma: 7}}")
    starts = sorted(job.label for job in varied.jobs.values() if " d1 " in job.label)
    assert starts == [
        "hyperprior d1 k1 lambda=0.02 seed=0",
        "hyperprior d1 k2+slow lambda=0.02 seed=0",
    ]
    features = plan(*settings, "variants={a: {surrogate.token_layer: -1}, b: {}, c: {d2.steps: 1}}")
    names = sorted(job.label for job in features.jobs.values() if job.kind == "features")
    assert names == ["teacher features (a)", "teacher features (b+c)"]


def test_a_reason_cannot_steer_a_terminal() -> None:
    schedule = Schedule(plan().jobs, alike(), one_node(2))
    job = schedule.next_job()
    assert job is not None
    schedule.give_up(job.key, "no file \x1b]0;x\x07.png")
    assert schedule.failed[job.key] == r"no file \x1b]0;x\x07.png"


STAGE = make_stage("codec", {}, {}, Subject())
SMALL, LARGE, CPUS = (Ask(1, 1), 1), (Ask(1, 1), 4), (Ask(cpu=1), 1)


def schedule_of(demands: dict[str, Demand], gpus: int, cpus: int = 64) -> Schedule:
    """Jobs by name; those that come first have the longer chain."""
    jobs = {
        name: Job(name, "point", name, STAGE, 0, float(-place))
        for place, name in enumerate(demands)
    }
    return Schedule(jobs, lambda job: demands[job.key], one_node(cpus, gpus))


def test_a_job_that_asks_for_much_keeps_its_turn_and_one_without_a_gpu_passes_it() -> None:
    small, large, cpu = Demand(SMALL, SMALL), Demand(LARGE, LARGE), Demand(CPUS, CPUS)
    schedule = schedule_of({"first": small, "large": large, "second": small, "cpu": cpu}, gpus=4)
    assert take(schedule) == ["first", "cpu"]
    schedule.finish("first")
    assert take(schedule) == ["large"]
    assert schedule.free_lanes() > 0, "of jobs without a GPU"
    schedule.finish("large")
    assert take(schedule) == ["second"]


def test_a_job_asks_for_what_its_evaluation_takes_as_soon_as_it_is_trained() -> None:
    two_gpus = Ask(2, 1), 1
    schedule = schedule_of(
        {"trained": Demand(LARGE, two_gpus), "next": Demand(SMALL, two_gpus)}, gpus=5
    )
    assert take(schedule) == ["trained", "next"]
    assert schedule.evaluators_beside_training(two_gpus[0]) == 0
    assert schedule.actors_beside_lanes(ACTOR) == 0
    schedule.stage_made("trained")
    assert schedule.evaluators_beside_training(two_gpus[0]) == 2
    assert schedule.actors_beside_lanes(ACTOR) == 2
    assert schedule.processes_that_could_run() == [(SMALL[0], 1), two_gpus]
    schedule.finish("trained")
    assert schedule.actors_beside_lanes(ACTOR) == 4


def test_a_job_that_is_trained_already_starts_with_its_evaluation() -> None:
    schedule = schedule_of({"old": Demand(LARGE, CPUS), "new": Demand(LARGE, CPUS)}, gpus=3)
    assert take(schedule) == []
    schedule.stage_made("old")
    assert take(schedule) == ["old"]


def test_gpus_in_use_are_those_of_lanes_with_a_job_and_of_passes() -> None:
    half = Ask(0.5, 1)
    schedule = schedule_of({name: Demand((half, 1), (half, 1)) for name in ("a", "b")}, gpus=4)
    assert schedule.gpus_in_use() == 0
    assert take(schedule) == ["a", "b"]
    assert schedule.gpus_in_use() == 1.0
    schedule.reserve(half, 3)
    assert schedule.gpus_in_use() == 2.5
    finish(schedule, "a", "b")
    assert schedule.gpus_in_use() == 1.5


D1, D2 = "hyperprior d1 lambda=0.02 seed=0", "hyperprior d2 lambda=0.02 seed=0"


def run_to_the_end(schedule: Schedule) -> list[str]:
    """Run what is left, one job after the other; returns the labels in the order of starting."""
    order: list[str] = []
    while not schedule.over:
        order += take(schedule)
        assert schedule.running, "a deadlock"
        for key in list(schedule.running):
            schedule.finish(key)
    return order


def test_jobs_added_to_a_running_schedule_run_once_after_what_they_need() -> None:
    small, large = plan("codecs.0.lambdas=[0.02]").jobs, plan().jobs
    schedule = Schedule(small, alike(), one_node(2))
    first = take(schedule)
    finish(schedule, *first)
    new = {key: job for key, job in large.items() if key not in small}
    assert schedule.add(new).lost == ()
    order = first + run_to_the_end(schedule)
    assert sorted(order) == sorted(job.label for job in large.values())
    assert order.index("hyperprior codec lambda=0.002") < order.index(D2.replace("0.02", "0.002"))


def test_nothing_is_added_once_every_job_was_over() -> None:
    small, large = plan("codecs.0.lambdas=[0.02]").jobs, plan().jobs
    schedule = Schedule(small, alike(), one_node(2))
    assert not schedule.close_if_over()
    run_to_the_end(schedule)
    assert schedule.close_if_over()
    with pytest.raises(ScheduleClosedError), schedule.open_for_changes():
        schedule.add(large)


def test_what_is_added_behind_a_failed_job_is_lost_at_once() -> None:
    only = ("scenarios=[d1]", "baselines=[]", "tasks=[vqa]")
    small, large = plan(*only).jobs, plan(*only, "scenarios=[d1, d2]").jobs
    schedule = Schedule(small, alike(), one_node(9))
    for job in small.values():
        if job.label != D1:
            schedule.finish(job.key)
    take(schedule)
    schedule.give_up(named(schedule, D1).key, "it diverged")
    lost = schedule.add({key: job for key, job in large.items() if key not in small}).lost
    assert [job.label for job in lost] == [D2]
    assert schedule.failed[lost[0].key] == f"because {D1} failed"


def test_a_cancelled_point_takes_with_it_what_needs_it_and_what_only_it_needs() -> None:
    schedule = Schedule(plan().jobs, alike(), one_node(2))
    points = {job.key for job in schedule.jobs.values() if job.kind == "point"}
    cancelled = schedule.cancel([named(schedule, D1).key], points)
    assert cancelled.ending == []
    # d2 and d3 start from d1; the latents of this codec and its d1 alone are read by them.
    labels = {job.label for job in cancelled.dropped}
    assert {D1, D2, D2.replace("d2", "d3")} <= labels
    assert "hyperprior codec lambda=0.02" not in labels, "its reconstruction is wanted"
    order = run_to_the_end(schedule)
    assert labels.isdisjoint(order)
    assert sorted([*order, *labels]) == sorted(job.label for job in schedule.jobs.values())
    assert schedule.failed == {}


def test_a_cancelled_codec_point_leaves_no_codec_to_be_trained_for_nobody() -> None:
    only = ("scenarios=[]", "baselines=[reconstruction, uncompressed]")
    schedule = Schedule(plan(*only).jobs, alike(), one_node(2))
    points = {job.key for job in schedule.jobs.values() if job.kind == "point"}
    key = named(schedule, "hyperprior reconstruction lambda=0.02 seed=0").key
    dropped = [job.label for job in schedule.cancel([key], points).dropped]
    assert "hyperprior codec lambda=0.02" in dropped
    assert "hyperprior codec lambda=0.002" not in dropped


def test_a_running_point_that_is_cancelled_runs_until_its_trial_has_ended() -> None:
    schedule = with_running_points()
    key = named(schedule, D1).key
    cancelled = schedule.cancel([key], set())
    assert [job.key for job in cancelled.ending] == [key]
    assert schedule.ending == {key}
    assert key in schedule.running
    schedule.retry(key)
    assert (key in schedule.running, key in schedule.cancelled) == (False, True)
    assert not schedule.ending
    assert D1 not in run_to_the_end(schedule)


def test_a_point_that_finished_before_it_could_be_ended_is_done() -> None:
    schedule = with_running_points()
    key = named(schedule, D1).key
    schedule.cancel([key], set())
    schedule.finish(key)
    assert key in schedule.done
    assert key not in schedule.cancelled


def test_a_cancelled_point_that_an_added_one_needs_is_done_again() -> None:
    only = ("scenarios=[d1]", "baselines=[]", "tasks=[vqa]")
    small, large = plan(*only).jobs, plan(*only, "scenarios=[d1, d2]").jobs
    schedule = Schedule(small, alike(), one_node(2))
    schedule.cancel([named(schedule, D1).key], set())
    schedule.add({key: job for key, job in large.items() if key not in small})
    order = run_to_the_end(schedule)
    assert order.index(D1) < order.index(D2)


def test_a_cancelled_point_that_is_added_again_is_done_with_what_it_needs() -> None:
    schedule = Schedule(plan("scenarios=[d1, d2]", "baselines=[]").jobs, alike(), one_node(2))
    schedule.cancel([named(schedule, D1).key], set())
    assert {D1, D2} <= {schedule.jobs[key].label for key in schedule.cancelled}
    job = named(schedule, D2)
    came_of = schedule.add({job.key: job})
    assert {D1, D2} <= {schedule.jobs[key].label for key in came_of.reopened}
    assert came_of.lost == ()
    order = run_to_the_end(schedule)
    assert order.index(D1) < order.index(D2)


@pytest.mark.parametrize("label", [D2, "hyperprior d3 lambda=0.002 seed=0"])
def test_a_prioritised_point_and_all_that_it_needs_are_started_before_others(label: str) -> None:
    schedule = Schedule(plan().jobs, alike(), one_node(1))
    key = named(schedule, label).key
    schedule.prioritise([key])
    order = run_to_the_end(schedule)
    needed, pending = {key}, [key]
    while pending:
        needed |= (new := set(schedule.jobs[pending.pop()].needs))
        pending += new
    in_lanes = [text for text in order if named(schedule, text).kind not in DATA]
    first = in_lanes[: in_lanes.index(label) + 1]
    assert {named(schedule, text).key for text in first} <= needed


def lines_per_job(seeds: int) -> float:
    """Lines of Python that starting and finishing a job takes, in a sweep with so many seeds."""
    jobs = plan(f"seeds={list(range(seeds))}", "baselines=[]").jobs
    schedule, lines = Schedule(jobs, alike(), one_node(8)), 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += event == "line"  # also of each turn of a comprehension
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        while not schedule.over:
            started = take(schedule)
            assert started
            for key in list(schedule.running):
                schedule.finish(key)
    finally:
        sys.settrace(before)
    return lines / len(jobs)


def test_the_time_of_a_job_does_not_grow_with_the_number_of_jobs() -> None:
    few, many = lines_per_job(10), lines_per_job(100)
    assert many < 1.5 * few

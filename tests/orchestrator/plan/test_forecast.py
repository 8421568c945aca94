"""Estimates rest on what earlier stages took, scaled by what is planned."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from orchestrator.plan.estimates import Estimates
from orchestrator.plan.forecast import (
    BESIDE,
    TRAINED,
    Forecast,
    activity,
    forecast,
    seconds_of_jobs,
)
from orchestrator.plan.history import History
from orchestrator.plan.jobs import Job
from orchestrator.plan.past_sweeps import BesideStages, PastSweeps
from orchestrator.plan.simulation import Work, seconds_to_the_end
from orchestrator.storage.store import Store
from search_spaces import Stage
from tests.orchestrator.plan.finished import finish, plan_of, space_of

SIZE = 1000
EVALUATIONS = len(space_of().measurements)
"""Stages that measure a point."""
NEW_D1_S = 2 * (0.2 * 8 * 8 + 7 * EVALUATIONS)
"""Seconds of d1 of both rates with a second seed."""


def seconds(job: Job, stage: Stage) -> float:
    """d1 takes 0.2 s an image, an evaluation 7 s, all else 2 s."""
    if stage.kind == "evaluation":
        return 7.0
    return 0.2 * 8 * 8 if job.label.startswith("hyperprior d1") else 2.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    finish(store, space_of(), seconds, lambda stage: SIZE)
    return store


def forecast_of(store: Store, *settings: str, name: str = "second") -> Forecast:
    plan = plan_of(space_of(*settings), store)
    return forecast(
        plan,
        name,
        PastSweeps(store),
        History(store),
        lambda job, stage: 5.0,
        lambda n: 7.0 * n,
    )


def test_more_steps_take_as_much_longer_and_weights_stay_as_large(store: Store) -> None:
    plan, estimates = plan_of(space_of("d1.steps=24"), store), Estimates(History(store))
    jobs = [job for job in plan.jobs.values() if job.label.startswith("hyperprior d1")]
    assert len(jobs) == 2
    for job in jobs:
        estimate = estimates.of(job.stage, job.costs[job.key], grows=False)
        assert estimate.seconds == pytest.approx(0.2 * 24 * 8)
        assert estimate.size == SIZE
        assert estimate.rests_on == 2, "both rates"
        for _, evaluation in job.evaluations:
            assert estimates.of(evaluation, job.costs[evaluation.key], False).seconds == 7


def test_shards_grow_with_the_images(store: Store) -> None:
    plan, estimates = plan_of(space_of("data.train=144"), store), Estimates(History(store))
    (features,) = (job for job in plan.jobs.values() if job.kind == "features")
    estimate = estimates.of(features.stage, features.costs[features.key], grows=True)
    # 144 + 16 images where 64 + 16 took 2 s
    assert estimate.seconds == pytest.approx(2.0 * 160 / 80)
    assert estimate.size == pytest.approx(SIZE * 160 / 80)


def test_another_kind_rests_on_planned_costs(store: Store) -> None:
    plan = plan_of(space_of("data.train=144"), Store(store.uri + "/none"))
    estimates = Estimates(History(Store(store.uri + "/none")))
    for job in plan.jobs.values():
        estimate = estimates.of(job.stage, 3.5, grows=False)
        assert (estimate.seconds, estimate.size, estimate.rests_on) == (3.5, None, 0)


def test_a_scenario_that_was_never_trained_rests_on_planned_costs(tmp_path: Path) -> None:
    """Points of other scenarios say nothing: the untrained ones took no time at all."""
    store = Store(str(tmp_path))
    finish(store, space_of("scenarios=[]", "baselines=[reconstruction]"), seconds)
    plan, estimates = plan_of(space_of(), store), Estimates(History(store))
    points = [j for j in plan.jobs.values() if j.kind == "point" and j.costs.get(j.key)]
    assert points
    for job in points:
        estimate = estimates.of(job.stage, job.costs[job.key], grows=False)
        assert (estimate.seconds, estimate.rests_on) == (job.costs[job.key], 0)
        assert job.costs[job.key] > 0


def test_only_what_is_left_counts(store: Store) -> None:
    left = forecast_of(store, "seeds=[0,1]", "scenarios=[d1]", "baselines=[]")
    assert left.work_s == pytest.approx(NEW_D1_S)
    assert left.measured == 2 + 2 * EVALUATIONS
    assert left.planned == 0
    assert left.sizes[TRAINED] == 2 * SIZE
    assert left.sizes["evaluation"] == 2 * EVALUATIONS * SIZE
    assert left.sizes[BESIDE] == 7 * 4, "a new sweep writes the points that it reuses, too"
    done = forecast_of(store)
    assert (done.work_s, done.wall_s, done.measured, done.planned) == (0, 0, 0, 0)


def test_lanes_time_without_computing_and_bytes_besides_stages_are_those_of_the_last_sweep(
    store: Store,
) -> None:
    def write(name: str, created: str, lanes: int, wall_s: float) -> None:
        timing = {"lanes": lanes, "wall_s": wall_s, "work_by_kind_s": {"point": 60, "world": 30}}
        points = {str(number): {} for number in range(5)}
        text = json.dumps({"created": created, "timing": timing, "points": points})
        store.write(f"{name}/sweep.json", text.encode().ljust(2000))
        store.write(f"{name}/examples/a.png", bytes(100))

    write("first", "2026-01-01T10:00:00", 3, 50.0)
    write("latest", "2026-01-02T10:00:00", 2, 105.0)
    store.write("mlruns/a/b", bytes(4500))
    store.write("mlflow.db", bytes(500))
    left = forecast_of(store, "seeds=[0,1]", "scenarios=[d1]", "baselines=[]")
    assert left.past is not None
    assert left.past.name == "latest"
    assert left.lanes == 3, "the latest may have had few jobs"
    assert NEW_D1_S / 3 < left.wall_s - (105 - 90 / 2) < NEW_D1_S / 2 + 7
    # 2000 bytes of each sweep, twice; the rest of 9,200 bytes is of ten points.
    assert left.sizes[BESIDE] == pytest.approx(2 * 2000 + 4 * (9200 - 8000) / 10)
    of_name = forecast_of(store, "seeds=[0,1]", "scenarios=[d1]", "baselines=[]", name="first")
    assert of_name.past is not None
    assert of_name.past.name == "first"
    assert left.wall_s - of_name.wall_s == pytest.approx((105 - 90 / 2) - (50 - 90 / 3))
    assert of_name.sizes[BESIDE] == pytest.approx(2 * 120), "two points are not complete"


def test_gpu_hours_are_those_of_all_workers(store: Store) -> None:
    settings = ("seeds=[0,1]", "scenarios=[d1]", "baselines=[]")
    gpus = ("resources.workers_per_point=2", "resources.gpus_per_worker=1")
    left = forecast_of(store, *settings, *gpus)
    assert left.gpu_hours == pytest.approx(2 * NEW_D1_S / 3600)
    assert forecast_of(store, *settings).gpu_hours == 0


def test_jobs_like_earlier_ones_are_expected_to_take_as_long(store: Store) -> None:
    plan = plan_of(space_of("seeds=[0, 1]", "d1.steps=16"), store)
    expected = seconds_of_jobs(plan, History(store))
    d1 = [job for job in plan.jobs.values() if job.label.startswith("hyperprior d1")]
    assert len(d1) == 4
    for job in d1:
        assert expected[job.key] == pytest.approx(0.2 * 16 * 8 + 7 * EVALUATIONS)
    empty = Store(f"{store.uri}/none")
    assert seconds_of_jobs(plan_of(space_of(), empty), History(empty)) == {}


def test_jobs_are_told_apart_by_what_they_do(store: Store) -> None:
    space = space_of("codecs.0.train.lr=0.002", "evaluation.beams=2")
    plan, whole = plan_of(space, store), plan_of(space, None)
    does = {job.label: activity(plan, job) for job in whole.jobs.values()}
    assert does["teacher features"] == "reuse"
    assert does["hyperprior codec lambda=0.02"] == "train"
    assert does["hyperprior latents lambda=0.02"] == "prepare"
    assert does["hyperprior d2 lambda=0.02 seed=0"] == "train"
    assert does["hyperprior reconstruction lambda=0.02 seed=0"] == "measure"
    assert does["uncompressed"] == "measure"
    space = space_of("evaluation.beams=2")
    plan = plan_of(space, store)
    whole = plan_of(space, None)
    assert {activity(plan, job) for job in whole.jobs.values()} == {"measure", "reuse"}


def brute_force(seconds: list[float], before: list[set[int]], lanes: int) -> float:
    """The shortest time of all orders, by starting each piece as early as its order allows."""
    best = float("inf")
    for order in itertools.permutations(range(len(seconds))):
        free, ends = [0.0] * lanes, dict[int, float]()
        for piece in order:
            if not before[piece] <= ends.keys():
                break
            lane = free.index(min(free))
            start = max([free[lane], *(ends[need] for need in before[piece])])
            ends[piece] = free[lane] = start + seconds[piece]
        else:
            best = min(best, max(ends.values()))
    return best


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize(
    ("lengths", "before"),
    [
        ([3, 3, 3, 3, 3], [set(), set(), set(), set(), set()]),
        ([1, 2, 4, 8], [set(), {0}, {1}, {2}]),
        ([5, 1, 1, 1, 6], [set(), set(), {1}, {2}, {1}]),
        ([2, 3, 5, 1, 4, 2], [set(), {0}, {0}, {1, 2}, set(), {4}]),
    ],
)
def test_the_time_of_the_simulation_is_within_the_bound_of_list_schedules(
    lengths: list[float], before: list[set[int]], lanes: int
) -> None:
    work = [
        Work(str(key), tuple(map(str, needed)), seconds, cost=seconds)
        for key, (seconds, needed) in enumerate(zip(lengths, before, strict=True))
    ]
    span = seconds_to_the_end(work, lanes)
    best = brute_force(lengths, before, lanes)
    # Graham's bound; and no schedule is shorter than the shortest.
    assert best <= span <= (2 - 1 / lanes) * best
    if lanes == 1:
        assert span == sum(lengths)


def test_sweeps_that_have_no_point_yet_or_a_damaged_file_tell_nothing(store: Store) -> None:
    store.write("running/stages.json", bytes(5000))
    store.write("killed/sweep.json", b'{"points": ')
    assert PastSweeps(store).latest("running") is None
    assert PastSweeps(store).beside_stages() is None
    store.write("done/sweep.json", json.dumps({"points": {"a": {}}}).encode().ljust(300))
    store.write("done/examples/a.png", bytes(40))
    assert PastSweeps(store).beside_stages() == BesideStages(per_sweep=300, per_point=40)

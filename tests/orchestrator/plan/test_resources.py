"""What jobs ask for by their kind."""

from __future__ import annotations

import pytest

from orchestrator.plan.jobs import Job, Plan
from orchestrator.plan.resources import (
    asks_by_kind,
    demand_of,
    evaluation_ask,
    is_evaluated_in_trial,
    kind_of,
    kinds_by_ask,
    shortages_of,
    trial_resources,
)
from orchestrator.plan.room import Ask, Cluster
from search_spaces import Space, load_space, operating_points

BY_KIND = (
    "resources.workers_per_point=1",
    "resources.gpus_per_worker=1",
    "resources.by_kind={codec: {workers_per_point: 2, memory_gb_per_worker: 4}, "
    "d2: {workers_per_point: 4, accelerator: H100}, features: {gpus_per_worker: 0.5}, "
    "evaluation: {gpus_per_worker: 0.25, workers_per_point: 3}}",
)


def jobs_of(space: Space) -> list[Job]:
    return list(Plan(space, operating_points(space), {}, None).jobs.values())


def job_of(space: Space, kind: str) -> Job:
    return next(job for job in jobs_of(space) if kind_of(job) == kind)


@pytest.mark.parametrize(
    ("kind", "ask", "processes"),
    [
        ("", Ask(cpu=1), 1),  # the data set: no model, so no GPU
        ("codec", Ask(1, 1, 4 * 2**30), 2),
        ("d1", Ask(1, 1), 1),
        ("d2", Ask(1, 1, accelerator="H100"), 4),
        ("features", Ask(0.5, 1), 1),
    ],
)
def test_each_kind_asks_for_what_its_settings_say(kind: str, ask: Ask, processes: int) -> None:
    space = load_space("smoke", BY_KIND)
    assert demand_of(space, job_of(space, kind)).making == (ask, processes)


def test_a_point_asks_for_what_its_evaluation_takes_once_it_is_trained() -> None:
    space = load_space("smoke", BY_KIND)
    assert demand_of(space, job_of(space, "d2")).evaluating == (Ask(0.25, 1), 3)
    assert evaluation_ask(space) == Ask(0.25, 1)


def test_an_evaluator_with_two_gpus_needs_a_node_that_has_two() -> None:
    divided = "resources.by_kind={evaluation: {gpus_per_worker: 2}}"
    space = load_space("smoke", ["resources.workers_per_point=1", divided])
    assert demand_of(space, job_of(space, "d1")).evaluating == (Ask(2, 1), 1)
    asks = kinds_by_ask(space, jobs_of(space))
    single, double = {"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 2.0}
    (line,) = shortages_of(asks, Cluster.of([single, single]))
    assert line.startswith("resources: evaluation: 1 x (1 CPU and 2 GPU)")
    assert shortages_of(asks, Cluster.of([single, double])) == []


@pytest.mark.parametrize(
    ("settings", "in_trial"),
    [
        (("resources.workers_per_point=0",), True),
        (("resources.workers_per_point=1",), False),
        (("resources.workers_per_point=0", "resources.by_kind.d1.workers_per_point=2"), False),
    ],
)
def test_a_trial_evaluates_where_evaluation_asks_for_the_same(
    settings: tuple[str, ...], in_trial: bool
) -> None:
    space = load_space("smoke", settings)
    assert is_evaluated_in_trial(space, job_of(space, "d1")) == in_trial


def test_processes_that_wait_for_workers_are_spread_by_their_memory() -> None:
    local = load_space("smoke", ["resources.workers_per_point=0"])
    workers = load_space("smoke", ["resources.workers_per_point=2"])
    assert "memory" not in trial_resources(local, job_of(local, "d1"))
    asked = trial_resources(workers, job_of(workers, "d1"))
    assert asked["CPU"] == 0
    assert 2**29 < asked["memory"] < 2**30


def test_a_cluster_that_one_kind_never_fits_is_named_with_that_kind() -> None:
    space = load_space("smoke", BY_KIND)
    h100 = {"CPU": 32.0, "GPU": 3.0, "accelerator_type:H100": 1.0}
    others = {"CPU": 32.0, "GPU": 8.0}
    asks = kinds_by_ask(space, jobs_of(space))
    (line,) = shortages_of(asks, Cluster.of([h100, others]))
    assert line.startswith("resources: d2: 4 x (1 CPU and 1 H100) for each (workers_per_point = 4")
    assert "room for 3 of these" in line
    assert shortages_of(asks, Cluster.of([{**h100, "GPU": 4.0}, others])) == []


def test_what_is_evaluated_in_its_trial_asks_for_no_evaluators() -> None:
    space = load_space("smoke", ["resources.workers_per_point=0"])
    assert "evaluation" not in asks_by_kind(space, jobs_of(space))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("resources.gpus_per_worker=2", "a worker computes on one GPU at most"),
        ("resources.by_kind.d1.gpus_per_worker=2", "by_kind.d1.gpus_per_worker = 2"),
        ("resources.by_kind.evaluation.gpus_per_worker=1.5", "must be whole ones"),
        ("resources.by_kind.evaluation.gpus_per_worker=2", "d1 is trained in the trial's own"),
        ("resources.by_kind.codec.accelerator=H100", "gpus_per_worker is 0"),
        ("resources.by_kind.evaluation.cpus_per_worker=2", "d1 is trained in the trial's own"),
        ("resources.by_kind.d9.cpus_per_worker=2", "valid: codec, features, evaluation"),
    ],
)
def test_mistakes_name_the_setting(setting: str, words: str) -> None:
    with pytest.raises(ValueError, match="resources") as caught:
        load_space("smoke", [setting])
    assert words in str(caught.value)

"""What a trial asks Ray for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.tune.execution.tune_controller import _get_max_pending_trials
from ray.tune.search import SearchGenerator

from orchestrator.execution import cluster
from orchestrator.execution.trials.trial import RESOURCES, WAIT
from orchestrator.execution.trials.tune import _JobSearcher
from orchestrator.plan.jobs import DATA, Plan
from search_spaces import load_space, operating_points


def test_a_process_that_waits_asks_for_what_jobs_in_lanes_do_and_for_no_gpu_of_a_pass() -> None:
    space = load_space(
        "smoke",
        [
            "resources.workers_per_point=1",
            "resources.by_kind.features={workers_per_point: 0, gpus_per_worker: 1}",
        ],
    )
    jobs = Plan(space, operating_points(space), {}, None).jobs
    passes_first = dict(sorted(jobs.items(), key=lambda entry: entry[1].kind != "features"))
    assert next(iter(passes_first.values())).kind in DATA
    runner: Any = SimpleNamespace(
        schedule=SimpleNamespace(close_if_over=lambda: False, jobs=passes_first),
        trials_to_end=tuple,
        next_trial=lambda trial_id: WAIT,
        settings=SimpleNamespace(space=space),
    )
    trial = _JobSearcher(runner, lambda trial_id: None).suggest("1")
    assert isinstance(trial, dict)
    assert trial[RESOURCES].keys() == {"CPU"}


def test_trials_that_wait_for_nodes_are_not_capped_by_what_the_cluster_has_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a search algorithm Tune would keep one trial waiting, and so would an autoscaler add one
    node at a time."""
    searcher = SearchGenerator(_JobSearcher(cast("Any", None), lambda trial_id: None))
    monkeypatch.delenv("TUNE_MAX_PENDING_TRIALS_PG", raising=False)
    assert _get_max_pending_trials(searcher) == 1
    cluster.set_environment(verbose=False)
    assert _get_max_pending_trials(searcher) == cluster.MOST_BUNDLES

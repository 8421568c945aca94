"""What a trial asks Ray for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

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

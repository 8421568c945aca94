"""What a trial of Ray Tune does: run one job, or keep its process warm until there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchestrator.execution.cluster import set_environment
from orchestrator.execution.devices import use_threads
from orchestrator.execution.failures import host_noted
from orchestrator.execution.job_run import Backend, run_job
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.trials.added_jobs import settings_of
from orchestrator.execution.trials.waiting import wait_for_end
from orchestrator.plan.jobs import Job
from orchestrator.plan.resources import resources_of
from search_spaces import Space

JOB: Final = "job"
"""Name of a trial's parameter: a job's key, or `WAIT`."""
RESOURCES: Final = "resources"
"""Name of a trial's parameter: what its process asks Ray for."""
WAIT: Final = "wait"
"""Instead of a job's key: keep the process warm. Also the metric that such a trial reports."""


def run_trial(config: Mapping[str, str], settings: Settings) -> None:
    """Run the job that the trial's parameter names."""
    set_environment()
    from ray import tune  # reads its environment when it is imported

    if config[JOB] == WAIT:
        warm_up(settings.space)
        tune.report({WAIT: 1})
        wait_for_end(tune.get_context().get_trial_id())
        return
    key = config[JOB]
    settings = settings_of(settings, key)
    job = settings.jobs[key]
    with host_noted():
        run_job(settings, key, lambda: backend_of(settings, job), lambda m: tune.report(dict(m)))


def backend_of(settings: Settings, job: Job) -> Backend:
    """The back end that the resources of the job's kind ask for."""
    # Both import torch, and the second one Ray Train: a trial that makes the world needs neither.
    if resources_of(settings.space, job).workers_per_point:
        from orchestrator.execution.backends.train import TrainBackend

        return TrainBackend(settings)
    from orchestrator.execution.backends.local import LocalBackend

    return LocalBackend(settings)


def warm_up(space: Space) -> None:
    """Import what the next job will need: ten seconds and more of a core."""
    import trainables.evaluation
    import trainables.training.train

    assert trainables.evaluation
    assert trainables.training.train
    use_threads(space.resources)

"""The trials of a search with Ray Tune: algorithm, scheduler, and the record of each trial.

Import it after `cluster.running` has set the environment that Ray Tune reads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter, SearchAlgorithm, Searcher
from ray.tune.search.sample import Domain

from orchestrator.execution import cluster
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.trials.killed import errors_fail_trials
from orchestrator.execution.trials.placement_groups import orphans_freed
from orchestrator.execution.trials.search_trial import (
    jobs_of,
    rounded,
    searched_points,
    train_trial,
    training_of,
    trial_key,
)
from orchestrator.execution.trials.tune import Unpickled, error_of, tune_directory
from orchestrator.plan.jobs import Job
from orchestrator.plan.resources import resources_of, training_group, trial_resources
from orchestrator.recording.request import Request
from orchestrator.storage import provenance
from orchestrator.tracking.mlflow_runs import TrialRecord
from search_spaces import Space
from search_spaces.specs.search import Range, SearchSpec
from search_spaces.specs.training import Optimiser

Note = Callable[[str], None]
ASHA_REDUCTION = 3
"""ASHA lets the best third of the trials go on from each rung."""


def tune_search(
    request: Request, fingerprints: Mapping[str, str], fit_nodes: frozenset[str], note: Note
) -> list[TrialRecord]:
    """Train the trials of the space's search; blocks until all are over.

    Args:
        fingerprints: `provenance.fingerprints` of the space.
        fit_nodes: of `Settings`.
        note: called with a line about each trial that is over.
    """
    space, store = request.space, request.store
    spec = space.search
    assert spec is not None
    settings = Settings(space, store.uri, {}, provenance.code(), fit_nodes)
    points = searched_points(request.points)
    labels = frozenset(point.label for point in points)
    (job, *_) = jobs_of(space, fingerprints, labels, {})

    def key_of(chosen: Mapping[str, object]) -> str:
        return trial_key(jobs_of(space, fingerprints, labels, chosen))

    trainings = [training_of(space, point) for point in points]
    ends = list(accumulate(training.steps for training in trainings))
    listener = TrialListener(key_of, ends, spec.trials, note)

    def bridgesweep_search(config: Mapping[str, object]) -> None:
        cluster.set_environment()
        from ray import tune

        chosen = rounded(config)
        train_trial(settings, fingerprints, labels, chosen, lambda row: tune.report(row))

    resources = tune.PlacementGroupFactory([trial_resources(space, job)])
    asked = resources_of(space, job)
    with tune_directory() as directory, orphans_freed(), errors_fail_trials():
        tuner = tune.Tuner(
            tune.with_resources(bridgesweep_search, resources),
            param_space={path: _domain(bounds) for path, bounds in spec.over.items()},
            tune_config=tune.TuneConfig(
                metric="val_loss",
                mode="min",
                num_samples=spec.trials,
                search_alg=_algorithm(spec, _lanes(space, job, spec.trials)),
                scheduler=_asha(trainings) if spec.algorithm == "asha" else None,
                # A process that waits for workers cannot be stopped for the next trial, only ended.
                reuse_actors=not asked.gpus_per_worker and not asked.workers_per_point,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=directory,
                verbose=1 if request.verbose else 0,
                callbacks=[listener],
                failure_config=tune.FailureConfig(max_failures=space.resources.max_failures),
            ),
        )
        tuner.fit()
    return list(listener.records.values())


def _lanes(space: Space, job: Job, trials: int) -> int:
    """How many trials have room on the cluster at a time, each with all its workers."""
    ask, workers = training_group(space, job)
    return max(1, cluster.nodes().room_for(ask, limit=trials * workers) // workers)


class TrialListener(Unpickled, Callback):
    """Keeps a record of each trial and notes a line when it is over.

    Args:
        key_of: of a trial's settings.
        ends: steps of a trial at the end of each of its trainings.
        total: number of trials.

    Attributes:
        records: by Tune's trial id, in the order in which trials started.
    """

    def __init__(
        self,
        key_of: Callable[[Mapping[str, object]], str],
        ends: Sequence[int],
        total: int,
        note: Note,
    ) -> None:
        self._key_of, self._ends, self._total, self._note = key_of, ends, total, note
        self.records: dict[str, TrialRecord] = {}

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        """Open a record; a trial that is tried again keeps its own."""
        if trial.trial_id not in self.records:
            chosen = rounded(trial.config)
            self.records[trial.trial_id] = TrialRecord(chosen, self._key_of(chosen))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, float],
        **info: object,
    ) -> None:
        """Extend the curve; the report behind the last step has the loss of the kept weights."""
        record = self.records[trial.trial_id]
        step, loss = int(result["step"]), float(result["val_loss"])
        if step > self._ends[-1]:
            record.status, record.val_loss = "finished", loss
            return
        # A mean over more points than before compares with none before.
        is_comparable = bool(record.curve) and self._place(record.curve[-1][0]) == self._place(step)
        lowest = record.val_loss if is_comparable and record.val_loss is not None else loss
        record.val_loss = min(loss, lowest)
        record.curve.append((step, loss))

    def _place(self, step: int) -> int:
        """Of the training that a step belongs to."""
        return bisect_left(self._ends, step)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        """Close the record of a trial that finished or was stopped."""
        record = self.records[trial.trial_id]
        self._close(record, "finished" if record.status == "finished" else "stopped")

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        """Close the record of a trial that failed."""
        record, lines = self.records[trial.trial_id], error_of(trial).strip().splitlines()
        record.reason = f"({lines[-1]})" if lines else ""
        self._close(record, "failed")

    def _close(self, record: TrialRecord, status: str) -> None:
        record.status = status
        over = sum(listed.status != "running" for listed in self.records.values())
        loss = "" if record.val_loss is None else f" val_loss {record.val_loss:.5g}"
        after = f" after {record.curve[-1][0]} steps" if status == "stopped" else ""
        settings = ", ".join(f"{path} = {value}" for path, value in record.settings.items())
        line = f"{over}/{self._total} {status}{after}{loss}: {settings} {record.reason}"
        self._note(line.rstrip())


def _domain(bounds: Range) -> Domain:
    domain: Domain
    if bounds.uniform is not None:
        domain = tune.uniform(*bounds.uniform)
    elif bounds.log_uniform is not None:
        domain = tune.loguniform(*bounds.log_uniform)
    elif bounds.integers is not None:
        domain = tune.randint(bounds.integers[0], bounds.integers[1] + 1)
    else:
        domain = tune.choice(list(bounds.ends))
    return domain


def _algorithm(spec: SearchSpec, lanes: int) -> SearchAlgorithm | Searcher:
    if spec.algorithm != "optuna":
        return BasicVariantGenerator(random_state=spec.seed, max_concurrent=lanes)
    from ray.tune.search.optuna import OptunaSearch  # an optional dependency

    return ConcurrencyLimiter(OptunaSearch(seed=spec.seed), lanes)


def _asha(trainings: Sequence[Optimiser]) -> ASHAScheduler:
    """ASHA over the steps of all trainings of a trial, one after the other."""
    first = trainings[0]
    return ASHAScheduler(
        time_attr="step",
        # One more than all: the last report of a finished trial must still be kept.
        max_t=sum(training.steps for training in trainings) + 1,
        grace_period=min(first.validate_every, first.steps),
        reduction_factor=ASHA_REDUCTION,
    )

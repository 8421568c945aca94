"""The trials of a search with Ray Tune: algorithm, scheduler, and the record of each trial.

Import it after `cluster.running` has set the environment that Ray Tune reads.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter, SearchAlgorithm, Searcher
from ray.tune.search.sample import Domain

from orchestrator.driver.request import Request
from orchestrator.execution import cluster
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.trials.search_trial import job_of, rounded, searched_point, train_trial
from orchestrator.execution.trials.tune import Unpickled, error_of
from orchestrator.plan.resources import LANE_SHARE, ask_of
from orchestrator.storage import provenance
from orchestrator.tracking.mlflow_runs import TrialRecord
from search_spaces import Space
from search_spaces.scenarios import scenario_of
from search_spaces.specs.search import Range, SearchSpec
from search_spaces.specs.training import Optimiser

Note = Callable[[str], None]
ASHA_REDUCTION = 3
"""ASHA lets the best third of the trials go on from each rung."""


def tune_search(request: Request, fingerprints: Mapping[str, str], note: Note) -> list[TrialRecord]:
    """Train the trials of the space's search; blocks until all are over.

    Args:
        fingerprints: `provenance.fingerprints` of the space.
        note: called with a line about each trial that is over.
    """
    space, store = request.space, request.store
    spec = space.search
    assert spec is not None
    settings = Settings(space, store.uri, {}, provenance.code())
    ask = ask_of(space.resources.of(searched_point(space).scenario))
    lanes = cluster.nodes().room_for(ask, limit=spec.trials)
    directory = store.new("tmp/tune")
    listener = TrialListener(space, spec.trials, fingerprints, note)

    def bridgesweep_search(config: Mapping[str, object]) -> None:
        cluster.set_environment()
        from ray import tune

        train_trial(settings, fingerprints, rounded(config), lambda row: tune.report(row))

    resources = tune.PlacementGroupFactory([ask.ray_resources(LANE_SHARE)])
    tuner = tune.Tuner(
        tune.with_resources(bridgesweep_search, resources),
        param_space={path: _domain(bounds) for path, bounds in spec.over.items()},
        tune_config=tune.TuneConfig(
            metric="val_loss",
            mode="min",
            num_samples=spec.trials,
            search_alg=_algorithm(spec, lanes),
            scheduler=_asha(space) if spec.algorithm == "asha" else None,
            reuse_actors=not ask.gpu,
        ),
        run_config=tune.RunConfig(
            name=directory.name,
            storage_path=str(directory.parent),
            verbose=1 if request.verbose else 0,
            callbacks=[listener],
            failure_config=tune.FailureConfig(max_failures=space.resources.max_failures),
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    for record in listener.records.values():
        store.remove_work(record.key)
    return list(listener.records.values())


class TrialListener(Unpickled, Callback):
    """Keeps a record of each trial and notes a line when it is over.

    Attributes:
        records: by Tune's trial id, in the order in which trials started.
    """

    def __init__(
        self, space: Space, total: int, fingerprints: Mapping[str, str], note: Note
    ) -> None:
        self._space, self._total, self._fingerprints, self._note = space, total, fingerprints, note
        self._steps = _training(space).steps
        self.records: dict[str, TrialRecord] = {}

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        """Open a record; a trial that is tried again keeps its own."""
        if trial.trial_id not in self.records:
            chosen = rounded(trial.config)
            key = job_of(self._space, self._fingerprints, chosen).key
            self.records[trial.trial_id] = TrialRecord(chosen, key)

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
        if step > self._steps:
            record.status, record.val_loss = "finished", loss
        else:
            record.curve.append((step, loss))
            record.val_loss = min(loss, loss if record.val_loss is None else record.val_loss)

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


def _training(space: Space) -> Optimiser:
    point = searched_point(space)
    training = scenario_of(point.scenario).training(space, point)
    assert training is not None
    return training


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


def _asha(space: Space) -> ASHAScheduler:
    training = _training(space)
    return ASHAScheduler(
        time_attr="step",
        # One more than all: the last report of a finished trial must still be kept.
        max_t=training.steps + 1,
        grace_period=min(training.validate_every, training.steps),
        reduction_factor=ASHA_REDUCTION,
    )

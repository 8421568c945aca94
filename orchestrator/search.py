"""Searching for an operating point's settings with Ray Tune, after the sweep that made its inputs.

    algorithm --settings--> trial: train the point --val_loss, step by step--> ASHA may stop it
        --> <sweep>/search.json, MLflow children of kind `trial`, the best as `--set` lines

A trial is the point's own training under other settings, so it has a key and a stage like any
other; nothing is evaluated. What a finished search found is not searched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from orchestrator.driver.run import open_tracker, ray_running
from orchestrator.driver.view import Lines, libraries_to
from orchestrator.execution.worker import Settings
from orchestrator.plan.jobs import Job, Plan
from orchestrator.plan.resources import trial_ask, trial_resources
from orchestrator.plan.schedule import Schedule
from orchestrator.storage import provenance
from orchestrator.storage.lock import only_driver
from orchestrator.tracking.mlflow_runs import AwayError
from search_spaces import OperatingPoint, Space, operating_points
from search_spaces.specs.search import Range

if TYPE_CHECKING:
    from orchestrator.driver.run import Request

REDUCTION = 3
"""ASHA lets the best third of the trials go on from each rung."""
Report = Callable[[dict[str, float]], None]


@dataclass
class Trial:
    """One set of settings and what came of it.

    `status` is `finished`, `stopped` (by ASHA, early) or `failed`; `val_loss` the lowest so far.
    """

    settings: dict[str, Any]
    key: str
    status: str = "running"
    val_loss: float | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)
    """(step, validation loss)."""
    reason: str = ""


def search(request: Request) -> bool:
    """Search, keep and say what was found; True if at least one trial was trained to its end.

    Raises:
        SweepHeldError: another driver runs the sweep.
    """
    space, store = request.space, request.store
    assert space.search is not None
    prints = provenance.fingerprints(space)
    point = searched(space)
    plan = Plan(space, [point], prints, store)
    wanted = {"point": plan.key(point), "search": space.search.model_dump(mode="json")}
    identity = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
    place = f"{request.name}/search.json"
    kept = json.loads(store.read(place) or b"{}")
    if kept.get("search") != identity:
        view = Lines()
        with contextlib.ExitStack() as stack:
            stack.enter_context(only_driver(store, request.name))
            if not request.verbose:
                log = store.local("logs", f"{request.name}-driver.log")
                stack.enter_context(libraries_to(log))
            stack.enter_context(ray_running(request.verbose))
            view.note(f"search: {space.search.trials} trials by {space.search.algorithm}")
            trials = _tune(request, prints, view)
        store.sweep_up()  # what stopped trials had begun to write
        base = json.loads((store.fetch(plan.stages.point(point).path) / "info.json").read_text())
        kept = {
            "search": identity,
            "point": point.fields,
            "algorithm": space.search.algorithm,
            "as_it_stands": base["val_loss"],
            "trials": [vars(trial) for trial in trials],
            **_best(trials),
        }
        if all(trial.status != "failed" for trial in trials):
            store.write(place, json.dumps(kept, indent=1, allow_nan=False).encode())
    _log(request, kept)
    _tell(request, point, kept)
    return "best" in kept


def searched(space: Space) -> OperatingPoint:
    """The point that is searched: the only one that is trained."""
    return next(p for p in operating_points(space) if p.scenario in space.trained)


def train_trial(
    settings: Settings, prints: Mapping[str, str], chosen: Mapping[str, Any], report: Report
) -> None:
    """Train the point under the chosen settings; in a trial's process.

    Args:
        settings: of the sweep that made the point's inputs.
        prints: `provenance.fingerprints` of its space.
        chosen: dotted path -> value.
        report: told `step` and `val_loss` at every validation, and once more at the end, one step
            later, with the loss of the weights that were kept.
    """
    from orchestrator.execution.backends import Local

    job = job_of(settings.space, prints, chosen)
    own = replace(settings, space=settings.space.changed(chosen), jobs={job.key: job})
    store = own.store

    def progress(metrics: Mapping[str, Any]) -> None:
        if "val_loss" in metrics:
            report({"step": metrics["step"], "val_loss": metrics["val_loss"]})

    with store.work(job.key) as work:
        if not store.has(job.stage.path):
            Local(own).train(job, work, progress)
    store.done_with(job.key)
    info = json.loads((store.fetch(job.stage.path) / "info.json").read_text(encoding="utf-8"))
    report({"step": info["steps"] + 1, "val_loss": info["val_loss"]})


def job_of(space: Space, prints: Mapping[str, str], chosen: Mapping[str, Any]) -> Job:
    """The job that trains the searched point under the chosen settings, without evaluation."""
    changed = space.changed(chosen)
    point = searched(changed)
    plan = Plan(changed, [point], prints, None)
    return replace(plan.jobs[plan.key(point)], evaluations=())


def _tune(request: Request, prints: dict[str, str], view: Lines) -> list[Trial]:
    from ray import tune

    from orchestrator.execution import cluster

    space, store = request.space, request.store
    assert space.search is not None
    settings = Settings(space, store.uri, {}, provenance.code())
    capacity, problem = cluster.capacity(space)
    assert not problem, problem  # the sweep before would have said so
    job = job_of(space, prints, {})
    lanes = Schedule({job.key: job}, trial_ask(space), capacity)
    lanes.jobs |= {str(number): job for number in range(space.search.trials)}
    directory = store.new("tmp/tune")
    listener, trials = _listener(request, prints, view)

    def bridgesweep_search(config: Mapping[str, Any]) -> None:
        cluster.set_environment()
        from ray import tune

        train_trial(settings, prints, plain(config), lambda metrics: tune.report(metrics))

    resources = tune.PlacementGroupFactory([trial_resources(space)])
    tuner = tune.Tuner(
        tune.with_resources(bridgesweep_search, resources),
        param_space=None if space.search.algorithm == "optuna" else _domains(space.search.over),
        tune_config=tune.TuneConfig(
            metric="val_loss",
            mode="min",
            num_samples=space.search.trials,
            search_alg=_algorithm(space, lanes.free_lanes()),
            scheduler=_scheduler(space) if space.search.algorithm == "asha" else None,
            reuse_actors=space.resources.gpus_per_worker == 0,
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
    for trial in trials:
        store.done_with(trial.key)
    return trials


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a person would write them: four digits."""
    return {
        path: float(f"{value:.4g}") if isinstance(value, float) else value
        for path, value in config.items()
    }


def _domains(over: Mapping[str, Range]) -> dict[str, Any]:
    from ray import tune

    def domain(where: Range) -> Any:
        if where.uniform is not None:
            return tune.uniform(*where.uniform)
        if where.log_uniform is not None:
            return tune.loguniform(*where.log_uniform)
        if where.integers is not None:
            return tune.randint(where.integers[0], where.integers[1] + 1)
        return tune.choice(list(where.ends))

    return {path: domain(where) for path, where in over.items()}


def _algorithm(space: Space, lanes: int) -> Any:
    assert space.search is not None
    if space.search.algorithm != "optuna":
        from ray.tune.search import BasicVariantGenerator

        return BasicVariantGenerator(random_state=space.search.seed, max_concurrent=lanes)
    from optuna import distributions as of
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    def distribution(where: Range) -> Any:
        if where.integers is not None:
            return of.IntDistribution(*where.integers)
        if where.choice is not None:
            return of.CategoricalDistribution(where.choice)
        low, high = where.ends
        return of.FloatDistribution(low, high, log=where.log_uniform is not None)

    found = {path: distribution(where) for path, where in space.search.over.items()}
    searcher = OptunaSearch(found, metric="val_loss", mode="min", seed=space.search.seed)
    return ConcurrencyLimiter(searcher, lanes)


def _scheduler(space: Space) -> Any:
    from ray.tune.schedulers import ASHAScheduler

    training = space.training(searched(space).scenario)
    assert training is not None
    return ASHAScheduler(
        time_attr="step",
        # One more than all: a trial that got through must still be kept.
        max_t=training.steps + 1,
        grace_period=min(training.validate_every, training.steps),
        reduction_factor=REDUCTION,
    )


def _listener(request: Request, prints: Mapping[str, str], view: Lines) -> tuple[Any, list[Trial]]:
    """What Tune tells, and the trials that it fills."""
    from ray.tune import Callback

    space = request.space
    assert space.search is not None
    total = space.search.trials
    training = space.training(searched(space).scenario)
    assert training is not None
    steps = training.steps
    known: dict[str, Trial] = {}
    record: list[Trial] = []

    def over(trial: Trial) -> None:
        done = sum(one.status != "running" for one in record)
        loss = "" if trial.val_loss is None else f" val_loss {trial.val_loss:.5g}"
        after = f" after {trial.curve[-1][0]} steps" if trial.status == "stopped" else ""
        said = ", ".join(f"{path} = {value}" for path, value in trial.settings.items())
        view.note(f"{done}/{total} {trial.status}{after}{loss}: {said} {trial.reason}".rstrip())

    class Listen(Callback):
        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            if trial.trial_id not in known:
                chosen = plain(trial.config)
                known[trial.trial_id] = Trial(chosen, job_of(space, prints, chosen).key)
                record.append(known[trial.trial_id])

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any
        ) -> None:
            one, step, loss = known[trial.trial_id], int(result["step"]), float(result["val_loss"])
            if step > steps:
                one.status, one.val_loss = "finished", loss
            else:
                one.curve.append((step, loss))
                one.val_loss = min(loss, loss if one.val_loss is None else one.val_loss)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            one = known[trial.trial_id]
            one.status = "finished" if one.status == "finished" else "stopped"
            over(one)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            from orchestrator.execution.tune import error_of

            one = known[trial.trial_id]
            lines = error_of(trial).strip().splitlines()
            one.status, one.reason = "failed", f"({lines[-1]})" if lines else ""
            over(one)

        def __reduce__(self) -> tuple[Any, ...]:
            """Tune pickles what listens to it, to restore experiments; ours are never restored."""
            return (str, ("a listener is not pickled",))

    return Listen(), record


def _best(trials: list[Trial]) -> dict[str, Any]:
    whole = [trial for trial in trials if trial.status == "finished" and trial.val_loss is not None]
    if not whole:
        return {}
    best = min(whole, key=lambda trial: trial.val_loss or 0.0)
    lines = [f"--set {shlex.quote(f'{p}={json.dumps(v)}')}" for p, v in best.settings.items()]
    return {"best": vars(best), "set": lines}


def _log(request: Request, found: Mapping[str, Any]) -> None:
    try:
        tracker = open_tracker(request)
        for trial in found["trials"]:
            tracker.trial(trial)
    except AwayError as error:
        print(f"MLflow is away ({error}); the same command logs the trials when it is back")


def _tell(request: Request, point: OperatingPoint, found: Mapping[str, Any]) -> None:
    trials = found["trials"]
    counts = {status: sum(t["status"] == status for t in trials) for status in _STATUSES}
    said = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    print(f"\nsearch of {point.label} by {found['algorithm']}: {len(trials)} trials ({said})")
    print(f"validation loss as the settings stand: {found['as_it_stands']:.5g}")
    if "best" not in found:
        print("no trial got through")
        return
    print(f"best: {found['best']['val_loss']:.5g} with")
    for line in found["set"]:
        print(f"  {line}")
    print(f"search  {request.store.uri}/{request.name}/search.json", flush=True)


_STATUSES = ("finished", "stopped", "failed")

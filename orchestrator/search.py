"""Searching for operating points' settings with Ray Tune, after the sweep that made their inputs.

    algorithm --settings--> trial: train the points --mean val_loss, by step--> ASHA may stop it
        --> <sweep>/search.json, MLflow children of kind `trial`, the best as `--set` lines

A trial is the points' own trainings under other settings (execution/trials/search_trial.py). A
finished search is not repeated.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter

from orchestrator.driver.line_view import LineView
from orchestrator.driver.request import Request
from orchestrator.driver.view import libraries_to
from orchestrator.execution import cluster
from orchestrator.execution.trials.search_trial import info_of, jobs_of, searched_points
from orchestrator.monitoring.job_states import JobStates
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.plan.jobs import Job
from orchestrator.storage import provenance
from orchestrator.storage.lease import only_driver
from orchestrator.storage.outage import patiently
from orchestrator.storage.references import wait_for_deletion
from orchestrator.storage.store import JsonObject, Store
from orchestrator.tracking.mlflow_client import AwayError, RefusedError
from orchestrator.tracking.mlflow_runs import TrialRecord
from orchestrator.tracking.open_tracker import open_tracker


def search(request: Request) -> bool:
    """Search, keep and print the result; True if at least one trial was trained to its end.

    Where the request names no point that is trained, there is nothing to search.

    Raises:
        SweepHeldError: another driver runs the sweep.
        OpenClusterError: the cluster asks for no token.
    """
    space, store = request.space, request.store
    assert space.search is not None
    fingerprints = provenance.fingerprints(space, store.local(provenance.CHECKSUMS))
    points = searched_points(request.points)
    if not points:
        print("search: none of the points that were asked for is trained: nothing to search")
        return True
    labels = frozenset(point.label for point in points)
    jobs = jobs_of(space, fingerprints, labels, {})
    identity = {
        "points": [job.key for job in jobs],
        "search": space.search.model_dump(mode="json"),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = f"{request.name}/search.json"
    result: JsonObject = json.loads(store.read(path) or b"{}")
    if result.get("search") != digest:
        trials = _run_trials(request, fingerprints)
        store.remove_leftovers()  # what stopped trials had begun to write
        result = {
            "search": digest,
            "points": [point.fields for point in points],
            "algorithm": space.search.algorithm,
            "as_it_stands": _mean(store, jobs),
            "trials": [asdict(trial) for trial in trials],
            **_best(trials),
        }
        if "best" in result:
            best = jobs_of(space, fingerprints, labels, result["best"]["settings"])
            result["by_point"] = _by_point(store, jobs, best)
        if all(trial.status != "failed" for trial in trials):
            store.write(path, json.dumps(result, indent=1, allow_nan=False).encode())
    _log(request, result)
    _print(request, result)
    return "best" in result


def _mean(store: Store, jobs: Sequence[Job]) -> float:
    """The mean validation loss of trained points."""
    return sum(info_of(store, job)["val_loss"] for job in jobs) / len(jobs)


def _by_point(store: Store, before: Sequence[Job], best: Sequence[Job]) -> list[JsonObject]:
    """The validation loss of each point with the space's settings, and with the best ones."""
    return [
        {
            "point": job.label,
            "as_it_stands": info_of(store, job)["val_loss"],
            "best": info_of(store, found)["val_loss"],
        }
        for job, found in zip(before, best, strict=True)
    ]


def _run_trials(request: Request, fingerprints: Mapping[str, str]) -> list[TrialRecord]:
    spec = request.space.search
    assert spec is not None
    states = JobStates()
    view = LineView(states, TimeLeft(states))
    with contextlib.ExitStack() as stack:
        stack.enter_context(only_driver(request.store, request.name))
        wait_for_deletion(request.store)
        if not request.verbose:
            log = request.store.local("logs", f"{request.name}-driver.log")
            stack.enter_context(libraries_to(log))
        stack.enter_context(cluster.running(request.verbose, request.insecure))
        # Only now: importing Ray takes seconds, and Ray then reads the environment.
        from orchestrator.driver.search_tuner import tune_search

        view.note(f"search: {spec.trials} trials by {spec.algorithm}")
        return tune_search(request, fingerprints, view)


def _best(trials: Sequence[TrialRecord]) -> JsonObject:
    """The finished trial with the lowest loss, and its settings as arguments of the command."""
    finished = [t for t in trials if t.status == "finished" and t.val_loss is not None]
    if not finished:
        return {}
    best = min(finished, key=attrgetter("val_loss"))
    lines = [f"--set {shlex.quote(f'{p}={json.dumps(v)}')}" for p, v in best.settings.items()]
    return {"best": asdict(best), "set": lines}


def _log(request: Request, result: JsonObject) -> None:
    try:
        tracker = open_tracker(
            request.store, request.tracking_uri, request.name, request.experiment, request.owner
        )
        for trial in result["trials"]:
            tracker.log_trial(TrialRecord(**trial))
        if tracker.copy is not None:
            patiently(tracker.copy.save)
        for refusal in tracker.refusals:
            print(f"MLflow refuses something ({refusal})")
    except AwayError as error:
        print(f"MLflow is away ({error}); the same command logs the trials when it is back")
    except RefusedError as error:
        print(f"MLflow refuses the trials ({error})")


def _print(request: Request, result: JsonObject) -> None:
    trials = result["trials"]
    counts = Counter(trial["status"] for trial in trials)
    statuses = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    points = searched_points(request.points)
    subject = points[0].label if len(points) == 1 else f"{len(points)} points"
    print(f"\nsearch of {subject} by {result['algorithm']}: {len(trials)} trials ({statuses})")
    mean = "validation loss" if len(points) == 1 else "mean validation loss"
    print(f"{mean} with the space's settings: {result['as_it_stands']:.5g}")
    if "best" not in result:
        print("no trial was trained to its end")
        return
    print(f"best: {result['best']['val_loss']:.5g} with")
    for line in result["set"]:
        print(f"  {line}")
    for point in result["by_point"] if len(points) > 1 else ():
        print(f"{point['point']}: {point['as_it_stands']:.5g} -> {point['best']:.5g}")
    print(f"search  {request.store.uri}/{request.name}/search.json", flush=True)

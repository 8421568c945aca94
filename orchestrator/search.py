"""Searching for operating points' settings with Ray Tune, at the end of the sweep that made their
inputs.

    algorithm --settings--> trial: train the points --mean val_loss, by step--> ASHA may stop it
        --> <sweep>/search.json, MLflow children of kind `trial`, the best as `--set` lines

A trial is the points' own trainings under other settings (execution/trials/search_trial.py). A
finished search is not repeated.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import Final

from orchestrator.driver.jobs_on_ray import check_cluster
from orchestrator.execution import cluster
from orchestrator.execution.looking import looking
from orchestrator.execution.trials.search_trial import info_of, jobs_of, searched_points
from orchestrator.monitoring.head import head_watched
from orchestrator.monitoring.monitor import Monitor
from orchestrator.plan.jobs import Job
from orchestrator.plan.resources import kinds_by_ask
from orchestrator.recording.request import Request, SearchResult
from orchestrator.storage import provenance
from orchestrator.storage.outage import patiently
from orchestrator.storage.store import JsonObject, Store
from orchestrator.tracking.mlflow_client import AwayError, RefusedError, storage_answering
from orchestrator.tracking.mlflow_runs import TrialRecord
from orchestrator.tracking.open_tracker import open_tracker

_NOT_KEPT: Final = "trials failed, so this is not kept: the same command searches again"


def search(request: Request, monitor: Monitor) -> SearchResult:
    """Search, keep the result, and log its trials.

    Where the request names no point that is trained, there is nothing to search.

    Args:
        monitor: of the sweep, which holds its lease.

    Raises:
        ClusterUnfitError: as of `run_on_ray`.
        OpenClusterError, TokenRefusedError: as of `cluster.running`.
    """
    space, store = request.space, request.store
    assert space.search is not None
    fingerprints = provenance.fingerprints(space, store.local(provenance.CHECKSUMS))
    points = searched_points(request.points)
    if not points:
        text = "search: none of the points that were asked for is trained: nothing to search"
        return SearchResult(True, text)
    labels = frozenset(point.label for point in points)
    jobs = jobs_of(space, fingerprints, labels, {})
    identity = {
        "points": [job.key for job in jobs],
        "search": space.search.model_dump(mode="json"),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = f"{request.name}/search.json"
    result: JsonObject = json.loads(store.read(path) or b"{}")
    is_kept = result.get("search") == digest
    if not is_kept:
        trials = _run_trials(request, fingerprints, jobs, monitor)
        # Only now their processes have ended: checkpoints of stopped trials, and what they had
        # begun to write.
        for trial in trials:
            for job in jobs_of(space, fingerprints, labels, trial.settings):
                store.remove_work(job.key)
        store.remove_leftovers()
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
        is_kept = all(trial.status != "failed" for trial in trials)
        if is_kept:
            store.write(path, json.dumps(result, indent=1, allow_nan=False).encode())
    _log(request, result, monitor)
    file = f"search  {store.uri}/{path}" if is_kept else _NOT_KEPT
    return SearchResult("best" in result, "\n".join((*_lines(request, result), file)))


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


def _run_trials(
    request: Request, fingerprints: Mapping[str, str], jobs: Sequence[Job], monitor: Monitor
) -> list[TrialRecord]:
    spec = request.space.search
    assert spec is not None
    with cluster.running(request.verbose, request.insecure, request.command) as head:
        # Only now: importing Ray takes seconds, and Ray then reads the environment.
        from orchestrator.driver.search_tuner import tune_search
        from orchestrator.execution.driver_keys import removed_at_the_end
        from orchestrator.execution.fit_nodes import CHECKED
        from orchestrator.execution.node_check import LOOK_S, NewNodes

        kinds = kinds_by_ask(request.space, jobs)
        fit_nodes = check_cluster(request, kinds, fingerprints, monitor, head)
        monitor.note(f"search: {spec.trials} trials by {spec.algorithm}")
        new_nodes = NewNodes(
            lambda: (request.space, fingerprints), request.store, monitor.note, fit_nodes
        )
        with (
            removed_at_the_end(CHECKED),
            looking(new_nodes.look, LOOK_S, "new nodes"),
            head_watched(head, monitor.end_without_head),
        ):
            return tune_search(request, fingerprints, fit_nodes, monitor.note)


def _best(trials: Sequence[TrialRecord]) -> JsonObject:
    """The finished trial with the lowest loss, and its settings as arguments of the command."""
    finished = [t for t in trials if t.status == "finished" and t.val_loss is not None]
    if not finished:
        return {}
    best = min(finished, key=attrgetter("val_loss"))
    lines = [f"--set {shlex.quote(f'{p}={json.dumps(v)}')}" for p, v in best.settings.items()]
    return {"best": asdict(best), "set": lines}


def _log(request: Request, result: JsonObject, monitor: Monitor) -> None:
    try:
        tracker = open_tracker(
            request.store, request.tracking_uri, request.name, request.experiment, request.owner
        )
        for trial in result["trials"]:
            tracker.log_trial(TrialRecord(**trial))
        if tracker.copy is not None:
            with storage_answering():
                patiently(tracker.copy.save)
        for refusal in tracker.refusals:
            monitor.note(f"MLflow refuses something ({refusal})")
    except AwayError as error:
        monitor.note(f"MLflow is away ({error}); the same command logs the trials when it is back")
    except RefusedError as error:
        monitor.note(f"MLflow refuses the trials ({error})")


def _lines(request: Request, result: JsonObject) -> Iterator[str]:
    trials = result["trials"]
    counts = Counter(trial["status"] for trial in trials)
    statuses = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    points = searched_points(request.points)
    subject = points[0].label if len(points) == 1 else f"{len(points)} points"
    yield f"search of {subject} by {result['algorithm']}: {len(trials)} trials ({statuses})"
    mean = "validation loss" if len(points) == 1 else "mean validation loss"
    yield f"{mean} with the space's settings: {result['as_it_stands']:.5g}"
    if "best" not in result:
        yield "no trial was trained to its end"
        return
    yield f"best: {result['best']['val_loss']:.5g} with"
    yield from (f"  {line}" for line in result["set"])
    for point in result["by_point"] if len(points) > 1 else ():
        yield f"{point['point']}: {point['as_it_stands']:.5g} -> {point['best']:.5g}"

"""A sweep read back from MLflow: the parent run is the sweep, its children the operating points.

What a child holds, besides what is only for people: tags `bridgesweep.kind` (`point`),
`bridgesweep.point_key`, `.status`, `.mllm`, `.dataset`, `.split`, `.variant`; parameters
`codec, lmbda, scenario, seed`; metrics `bpp`, `bpp_estimated`, `psnr` and, per task,
`<task>/<metric>`, `<task>/<metric>/low`, `<task>/<metric>/high`, `<task>/n_samples`, `<task>/bpp`.
With several MLLMs (comma-separated in the tag) the last part of the MLLM's name and a slash stand
in front of the task.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pandas as pd

from analysis.points import (
    MANIFEST,
    OPTIONAL,
    SAMPLES,
    AnalysisError,
    Sweep,
    check_points,
    metric_from_mlflow,
    read_manifest,
    read_samples,
    without_secrets,
)

EXPERIMENT: Final = "bridgesweep"
_PAGE: Final = 1000
_TIMEOUT_S: Final = 5.0
_NONE: Final = ("", "None")


def read_mlflow(uri: str) -> Sweep:
    """Read `[mlflow:]<tracking-uri>[#<experiment>[/<sweep>]]`; see `points.read_sweep`.

    Raises:
        AnalysisError: the server does not answer, there is no such experiment or sweep, the
            experiment is empty, or several sweeps are there and none is named.
    """
    tracking, _, wanted = uri.removeprefix("mlflow:").partition("#")
    experiment, _, name = wanted.partition("/")
    experiment = experiment or EXPERIMENT
    safe = without_secrets(tracking)
    _check_there(tracking, safe)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        client = MlflowClient(tracking_uri=tracking)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = sorted(e.name for e in client.search_experiments())
            raise AnalysisError(
                f"{safe}: no experiment {experiment!r}; there are {', '.join(names)}"
            )
        parent = _parent(client, found.experiment_id, name, f"{safe}#{experiment}")
        children = list(
            _runs(
                client,
                found.experiment_id,
                f"tags.`mlflow.parentRunId` = '{parent.info.run_id}' "
                "and tags.`bridgesweep.kind` = 'point'",
            )
        )
        # Points of settings that the sweep has since left behind.
        children = [c for c in children if c.data.tags.get("bridgesweep.status") != "stale"]
        manifest = _artifact(client, parent.info.run_id, MANIFEST, tracking)
        samples = _artifact(client, parent.info.run_id, SAMPLES, tracking)
    except (MlflowException, OSError) as error:
        reason = without_secrets(str(error)).splitlines()[0]
        raise AnalysisError(f"{safe}: MLflow: {reason}") from None
    sweep = parent.data.tags["bridgesweep.sweep"]
    source = f"{safe}#{experiment}/{sweep}"
    complete = [c for c in children if c.data.tags.get("bridgesweep.status") == "complete"]
    rows = [row for child in complete for row in _points(child, sweep)]
    if not rows:
        raise AnalysisError(f"{source}: no complete points among its {len(children)} runs")
    columns = ("bpp_estimated", "psnr", "lmbda", "quality", "value_low", "value_high")
    points = pd.DataFrame(rows).astype(dict.fromkeys(columns, "float64"))
    points = points.drop(columns=[n for n in OPTIONAL if n != "variant" and points[n].isna().all()])
    return Sweep(
        check_points(points, source),
        None if samples is None else read_samples(samples, f"{source} {SAMPLES}"),
        _described(children, complete)
        if manifest is None
        else read_manifest(manifest, f"{source} {MANIFEST}"),
    )


def _check_there(tracking: str, safe: str) -> None:
    """Fail soon where MLflow would retry for minutes, and never make a new database file."""
    parts = urlsplit(tracking)
    if parts.scheme in ("http", "https"):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname or "", port), _TIMEOUT_S).close()
        except OSError as error:
            raise AnalysisError(f"{safe}: the MLflow server does not answer ({error})") from None
    elif parts.scheme == "sqlite":
        path = tracking.removeprefix("sqlite:///").partition("?")[0]
        if not Path(path).is_file():
            raise AnalysisError(f"{safe}: no such database file")


def _parent(client: Any, experiment_id: str, name: str, source: str) -> Any:
    """The sweep's run; of several with the same name the newest."""
    query = "tags.`bridgesweep.kind` = 'sweep'"
    runs = list(_runs(client, experiment_id, query))
    by_name: dict[str, Any] = {}
    for run in runs:  # newest first
        by_name.setdefault(run.data.tags.get("bridgesweep.sweep", ""), run)
    if not by_name:
        raise AnalysisError(f"{source}: holds no sweep")
    names = ", ".join(sorted(by_name))
    if name:
        if name not in by_name:
            raise AnalysisError(f"{source}: no sweep {name!r}; there are {names}")
        return by_name[name]
    if len(by_name) > 1:
        raise AnalysisError(f"{source}: holds several sweeps; name one after a slash: {names}")
    return next(iter(by_name.values()))


def _runs(client: Any, experiment_id: str, query: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            query,
            max_results=_PAGE,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _artifact(client: Any, run_id: str, name: str, tracking: str) -> bytes | None:
    """The bytes of a run's artifact; None where it has none of that name."""
    if name not in {file.path for file in client.list_artifacts(run_id)}:
        return None
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder:
        path = download_artifacts(
            run_id=run_id, artifact_path=name, dst_path=folder, tracking_uri=tracking
        )
        return Path(path).read_bytes()


def _points(run: Any, sweep: str) -> Iterator[dict[str, Any]]:
    """The rate-accuracy points of a child run."""
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    mllms = [m for m in tags.get("bridgesweep.mllm", "").split(",") if m]
    short = {mllm.rpartition("/")[2]: mllm for mllm in mllms}
    common = {
        "sweep": sweep,
        "point_key": tags.get("bridgesweep.point_key"),
        "codec": _param(params, "codec"),
        "lmbda": _param(params, "lmbda"),
        "quality": _param(params, "quality"),
        "scenario": params.get("scenario"),
        "seed": int(params.get("seed", 0)),
        "variant": tags.get("bridgesweep.variant", ""),
        "dataset": tags.get("bridgesweep.dataset"),
        "split": tags.get("bridgesweep.split"),
        "bpp_estimated": metrics.get("bpp_estimated"),
        "psnr": metrics.get("psnr"),
        "distill_pooled": metrics.get("distill_pooled"),
        "distill_tokens": metrics.get("distill_tokens"),
        "run_id": run.info.run_id,
    }
    tasks = [k.removesuffix("/n_samples") for k in metrics if k.endswith("/n_samples")]
    for task in tasks:
        mllm, _, name = task.rpartition("/")
        benchmark, _, name = name.rpartition(".")
        for key, value in metrics.items():
            metric = key.removeprefix(f"{task}/")
            if key == metric or "/" in metric or metric in ("n_samples", "bpp"):
                continue
            yield common | {
                "mllm": short.get(mllm, mllm) if mllm else tags.get("bridgesweep.mllm"),
                "task": name,
                "dataset": benchmark or common["dataset"],
                "metric": metric_from_mlflow(metric),
                "value": value,
                "value_low": metrics.get(f"{key}/low"),
                "value_high": metrics.get(f"{key}/high"),
                "n_samples": int(metrics[f"{task}/n_samples"]),
                "bpp": metrics.get(f"{task}/bpp", metrics.get("bpp")),
            }


def _described(children: list[Any], complete: list[Any]) -> dict[str, Any]:
    """A manifest as far as the children tell, where the parent has none (yet)."""
    done = {run.info.run_id for run in complete}

    def point(run: Any) -> dict[str, Any]:
        params = run.data.params
        rate = _param(params, "lmbda")
        return {
            "point_key": run.data.tags.get("bridgesweep.point_key", run.info.run_id),
            "codec": _param(params, "codec"),
            "lmbda": None if rate is None else float(rate),
            "scenario": params.get("scenario", "?"),
            "seed": int(params.get("seed", 0)),
            "variant": run.data.tags.get("bridgesweep.variant", ""),
        }

    return {
        "expected": [point(run) for run in children],
        "missing": [
            point(run)
            | {
                "reason": run.data.tags.get(
                    "bridgesweep.reason", run.data.tags.get("bridgesweep.status", "unfinished")
                )
            }
            for run in children
            if run.info.run_id not in done
        ],
    }


def _param(params: dict[str, str], name: str) -> str | None:
    value = params.get(name)
    return None if value is None or value in _NONE else value

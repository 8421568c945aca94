"""A sweep read back from MLflow: the parent run is the sweep, its children the operating points.

Fields of a child run that are read: tags `bridgesweep.kind` (`point`),
`bridgesweep.point_key`, `.status`, `.mllm`, `.dataset`, `.split`, `.variant`; parameters
`codec, lmbda, scenario, seed`; metrics `bpp`, `bpp_estimated`, `psnr` and, per task,
`<task>/<metric>`, `<task>/<metric>/low`, `<task>/<metric>/high`, `<task>/n_samples`, `<task>/bpp`.
With several MLLMs (comma-separated in the tag) the last part of the MLLM's name and a slash
precede the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pandas as pd

from analysis.io.mlflow_store import Run, RunStore, open_store
from analysis.io.names import metric_from_mlflow
from analysis.io.schema import OPTIONAL, AnalysisError, check_points
from analysis.io.sweep import MANIFEST, SAMPLES, Sweep, read_manifest, read_samples
from search_spaces.settings.secrets import without_secrets

EXPERIMENT: Final = "bridgesweep"
_NONE: Final = ("", "None")


def read_mlflow(uri: str) -> Sweep:
    """Read `[mlflow:]<tracking-uri>[#<experiment>[/<sweep>]]`; see `points.read_sweep`.

    Args:
        uri: the sweep is given by its name or, where several have that name, by the id of its run.

    Raises:
        AnalysisError: the server does not answer, there is no such experiment or sweep, the
            experiment is empty, or several sweeps are there and none is given, or a name of
            several.
    """
    tracking, _, wanted = uri.removeprefix("mlflow:").partition("#")
    safe = without_secrets(tracking)
    if not tracking:
        raise AnalysisError(f"{uri!r}: names no store, as mlflow:sqlite:///mlflow.db would")
    store = open_store(tracking)
    experiments = store.experiments()
    # The name of an experiment may have slashes, that of a sweep has none.
    is_whole = wanted in experiments or "/" not in wanted
    experiment, _, name = (wanted, "", "") if is_whole else wanted.rpartition("/")
    experiment = experiment or EXPERIMENT
    if experiment not in experiments:
        raise AnalysisError(
            f"{safe}: no experiment {experiment!r}; there are {', '.join(sorted(experiments))}"
        )
    number = experiments[experiment]
    parent = _parent(store, number, name, f"{safe}#{experiment}")
    children = store.runs(number, "point", parent.run_id)
    # Points of settings that the sweep has since left behind.
    children = [c for c in children if c.tags.get("bridgesweep.status") != "stale"]
    manifest = store.artifact(parent.run_id, MANIFEST)
    samples = store.artifact(parent.run_id, SAMPLES)
    sweep = parent.tags["bridgesweep.sweep"]
    source = f"{safe}#{experiment}/{sweep}"
    complete = [c for c in children if c.tags.get("bridgesweep.status") == "complete"]
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


def _parent(store: RunStore, experiment: str, name: str, source: str) -> Run:
    """The run of a sweep.

    Args:
        name: the sweep's, or the id of its run; empty for the only one.
    """
    by_name: dict[str, list[Run]] = {}
    for run in store.runs(experiment, "sweep"):  # newest first
        by_name.setdefault(run.tags.get("bridgesweep.sweep", ""), []).append(run)
        by_name[run.run_id] = [run]
    if not by_name:
        raise AnalysisError(f"{source}: an empty experiment, it holds no sweep")
    names = sorted({run.tags.get("bridgesweep.sweep", "") for (run, *_) in by_name.values()})
    if name and name not in by_name:
        raise AnalysisError(f"{source}: no sweep {name!r}; there are {', '.join(names)}")
    if not name and len(names) > 1:
        raise AnalysisError(
            f"{source}: holds several sweeps; name one after a slash: {', '.join(names)}"
        )
    namesakes = by_name[name or names[0]]
    if len(namesakes) > 1:
        choices = "; ".join(_as_choice(run) for run in namesakes)
        raise AnalysisError(
            f"{source}: {len(namesakes)} sweeps {name or names[0]!r}; give the id of one's run "
            f"after the slash instead of the name: {choices}"
        )
    return namesakes[0]


def _as_choice(run: Run) -> str:
    """The id of a sweep's run, with what tells it from its namesakes."""
    tags = run.tags
    facts = (tags.get("mlflow.user", ""), run.began, tags.get("bridgesweep.status", "unfinished"))
    return f"{run.run_id} ({', '.join(fact for fact in facts if fact)})"


def _points(run: Run, sweep: str) -> Iterator[dict[str, Any]]:
    """The rate-accuracy points of a child run."""
    tags, params, metrics = run.tags, run.params, run.metrics
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
        "run_id": run.run_id,
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


def _described(children: list[Run], complete: list[Run]) -> dict[str, Any]:
    """A manifest made from the child runs, where the parent run has none yet."""
    done = {run.run_id for run in complete}

    def point(run: Run) -> dict[str, Any]:
        params = run.params
        rate = _param(params, "lmbda")
        return {
            "point_key": run.tags.get("bridgesweep.point_key", run.run_id),
            "codec": _param(params, "codec"),
            "lmbda": None if rate is None else float(rate),
            "scenario": params.get("scenario", "?"),
            "seed": int(params.get("seed", 0)),
            "variant": run.tags.get("bridgesweep.variant", ""),
        }

    expected = {run.run_id: point(run) for run in children}
    return {
        "expected": list(expected.values()),
        "points": {
            expected[run.run_id]["point_key"]: {"spec": dict(run.params), "run_id": run.run_id}
            for run in complete
        },
        "missing": [
            expected[run.run_id] | {"reason": _reason(run)}
            for run in children
            if run.run_id not in done
        ],
    }


def _reason(run: Run) -> str:
    """Why a point is missing."""
    status = run.tags.get("bridgesweep.status", "unfinished")
    return run.tags.get("bridgesweep.reason", status)


def _param(params: Mapping[str, str], name: str) -> str | None:
    value = params.get(name)
    return None if value is None or value in _NONE else value

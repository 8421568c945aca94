"""From finished evaluations in the storage to the points file and what stands beside it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.plan.jobs import Plan
from orchestrator.storage.store import Store
from orchestrator.validation.inputs import safe_uri
from search_spaces import OperatingPoint, Space, point_stage
from search_spaces.scenarios import looks, scenario_of

if TYPE_CHECKING:
    import pandas as pd

SPLIT = "test"


@dataclass(frozen=True)
class Measured:
    """An operating point with all that was measured on it.

    Attributes:
        rows: rate-accuracy points, columns of the points file without sweep and run_id.
        samples: (mllm, task, metric, sample_id, value, ...) with the point's key.
        examples: what `sweep.json` says of them; see `trainables.evaluation.examples`, and
            `dataset` and `mllm` beside. Their files by paths below the sweep's directory.
        files: those files: path below the sweep's directory -> where it lies on this machine.
        curve: rows of the training curve.
        manifests: of the point's stage and its evaluations; whence provenance.
    """

    key: str
    point: OperatingPoint
    spec: dict[str, Any]
    rows: list[dict[str, Any]]
    samples: pd.DataFrame
    examples: list[dict[str, Any]]
    files: dict[str, Path]
    curve: list[dict[str, float]]
    info: dict[str, Any]
    manifests: list[dict[str, Any]]

    @property
    def provenance(self) -> dict[str, Any]:
        """Code, packages, hardware and checksums of everything the point was made from."""
        trained = self.manifests[0]
        return {
            "code": trained["code"],
            "hardware": trained["hardware"],
            "created": trained["created"],
            "stages": {m["stage"]: _digest(m) for m in self.manifests},
            "inputs": trained["inputs"],
        }

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of work: training and evaluation."""
        return {
            "train": self.manifests[0]["seconds"],
            "evaluate": sum(m["seconds"] for m in self.manifests[1:]),
        }


def measured(plan: Plan, store: Store, point: OperatingPoint) -> Measured:
    """Read a complete operating point from the storage."""
    import pandas as pd

    from analysis.sampling.intervals import bootstrap_mean

    stage = point_stage(plan.stages, point)
    directory = store.fetch(stage.path)
    manifests = [store.manifest(stage.path)]
    rows: list[dict[str, Any]] = []
    samples: list[pd.DataFrame] = []
    examples: list[dict[str, Any]] = []
    files: dict[str, Path] = {}
    for number, (measurement, evaluation) in enumerate(plan.evaluations(point)):
        made = store.fetch(evaluation.path)
        manifests.append(store.manifest(evaluation.path))
        frame = pd.read_parquet(made / "samples.parquet")
        summary = json.loads((made / "summary.json").read_text(encoding="utf-8"))
        benchmark = measurement.benchmark
        about = {
            "point_key": stage.key,
            **point.fields,
            "mllm": measurement.label,
            "dataset": plan.space.data.label if benchmark is None else benchmark.label,
            "split": SPLIT if benchmark is None else benchmark.shown_split,
        }
        for task, said in summary.items():
            means = frame[frame["task"] == task].groupby("metric", sort=False)["value"]
            found = {
                metric: (said["metrics"][metric], *bootstrap_mean(values.to_numpy()))
                for metric, values in means
            }
            for metric, its in said["set_metrics"].items():
                found[metric] = its["value"], its["low"], its["high"]
            for metric, (value, low, high) in found.items():
                rows.append(
                    {
                        **about,
                        "task": task,
                        "metric": metric,
                        "value": value,
                        "value_low": low,
                        "value_high": high,
                        "n_samples": int(said["n_samples"]),
                        "bpp": said["bpp"],
                        "bpp_estimated": said["bpp_estimated"],
                        "psnr": said["psnr"],
                        "distill_pooled": said["pooled"],
                        "distill_tokens": said["tokens"],
                    }
                )
        # A stage of an evaluation does not depend on the names that a space gives.
        frame["mllm"] = about["mllm"]
        frame.insert(1, "dataset", about["dataset"])
        frame.insert(0, "point_key", stage.key)
        samples.append(frame)
        prefix = f"{number}-" if len(plan.evaluations(point)) > 1 else ""
        of = {"dataset": about["dataset"], "mllm": about["mllm"]}
        for one, where in _examples(made / "examples", f"examples/{stage.key}/{prefix}"):
            examples.append({**of, **one})
            files |= where
    curve_file = directory / "curve.jsonl"
    lines = curve_file.read_text(encoding="utf-8").splitlines() if curve_file.exists() else []
    return Measured(
        stage.key,
        point,
        point_spec(plan.space, point),
        rows,
        pd.concat(samples, ignore_index=True),
        examples,
        files,
        [json.loads(line) for line in lines],
        json.loads((directory / "info.json").read_text(encoding="utf-8")),
        manifests,
    )


def _examples(directory: Path, pages: str) -> Iterator[tuple[dict[str, Any], dict[str, Path]]]:
    """An evaluation's examples as `sweep.json` has them, and their files: path -> where it lies.

    Args:
        directory: of the evaluation's examples.
        pages: how the paths of drawn pages begin below the sweep's directory.
    """
    for one in json.loads((directory / "examples.json").read_text(encoding="utf-8")):
        files = {pages + one["page"]: directory / one["page"]}
        images = []
        for image in one["images"]:
            # Named by their content, so what several points share is one file of the sweep.
            there = {part: image[part] for part in ("input", "decoded") if image[part]}
            files |= {f"examples/{name}": directory / name for name in there.values()}
            images.append(image | {part: f"examples/{name}" for part, name in there.items()})
        yield one | {"page": pages + one["page"], "images": images}, files


def point_spec(space: Space, point: OperatingPoint) -> dict[str, Any]:
    """Everything that was set for a point, as JSON data."""
    space = space.of(point.variant)
    spec: dict[str, Any] = dict(point.fields)
    spec["dataset"] = space.data.label
    spec["data"] = space.data.model_dump(mode="json")
    spec["benchmarks"] = [one.model_dump(mode="json") for one in space.benchmarks]
    spec["mllms"] = [mllm.model_dump(mode="json") for mllm in space.mllms]
    spec["tasks"] = list(space.tasks)
    spec["evaluation"] = space.evaluation.model_dump(mode="json")
    spec["teacher"] = space.teacher.model_dump(mode="json")
    if point.codec is not None:
        spec["base_codec"] = point.codec.model_dump(mode="json", exclude={"lambdas"})
    return spec | scenario_of(point.scenario).record(space, point)


def write_sweep(
    plan: Plan,
    store: Store,
    name: str,
    found: Mapping[str, Measured],
    missing: Mapping[str, tuple[str, str]],
    run_ids: Mapping[str, str],
    tracking_uri: str,
    parent_run_id: str | None,
    timing: Mapping[str, Any],
) -> str:
    """Write the points file, the samples, the examples and `sweep.json`.

    Args:
        found: complete points by key.
        missing: key -> (reason, path of the log).

    Returns:
        The sweep's directory or URI.
    """
    import pandas as pd

    from analysis.io.read import write_points

    directory = f"{store.uri}/{name}"
    rows = point_rows(name, found, run_ids)
    if rows:
        write_points(pd.DataFrame(rows), directory)
        buffer = io.BytesIO()
        frames = [one.samples for one in found.values()]
        pd.concat(frames, ignore_index=True).to_parquet(buffer, index=False)
        store.write(f"{name}/samples.parquet", buffer.getvalue())
    files = {path: file for one in found.values() for path, file in one.files.items()}
    for path, file in files.items():
        store.put_file(file, f"{name}/{path}")
    points: dict[str, Any] = {}
    for key, one in found.items():
        points[key] = {
            "spec": one.spec,
            "provenance": one.provenance,
            "seconds": one.seconds,
            "info": one.info,
            "run_id": run_ids.get(key),
            "examples": one.examples,
        }
    expected = expected_points(plan, found)
    content = {
        "schema": 1,
        "sweep": name,
        "space": plan.space.model_dump(mode="json"),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "expected": list(expected.values()),
        "missing": [
            {**expected[key], "reason": reason, "log": log}
            for key, (reason, log) in missing.items()
        ],
        "points": points,
        "tracking_uri": safe_uri(tracking_uri),
        "parent_run_id": parent_run_id,
        "tasks": task_descriptions(plan.space),
        "scenarios": scenario_looks(plan.space),
        "timing": dict(timing),
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    store.write(f"{name}/sweep.json", text.encode())
    return directory


def point_rows(
    name: str, found: Mapping[str, Measured], run_ids: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The rows of the points file.

    Args:
        name: the sweep's.
        found: complete points by key.
        run_ids: of their runs in MLflow, by key, as far as there are any.
    """
    return [
        {"sweep": name, **row, "run_id": run_ids.get(key)}
        for key, one in found.items()
        for row in one.rows
    ]


def expected_points(plan: Plan, found: Mapping[str, Measured]) -> dict[str, dict[str, Any]]:
    """What identifies every wanted point, and every found one beside them, by key."""
    wanted = {plan.key(p): p for p in (*plan.points, *(one.point for one in found.values()))}
    return {key: {"point_key": key, **point.fields} for key, point in wanted.items()}


def scenario_looks(space: Space) -> dict[str, Any]:
    """How figures show the scenarios of a space and of its variants, as JSON data."""
    asked = {name for variant in space.variants or ("",) for name in space.of(variant).asked}
    return {
        name: look.model_dump(mode="json", exclude_defaults=True)
        for name, look in looks().items()
        if name in asked
    }


def task_descriptions(space: Space) -> dict[str, Any]:
    """Per task its primary metric, chance level, and the metrics' units and ranges."""
    from trainables.tasks import TASKS

    return {
        name: {
            "primary": TASKS.get(name).primary,
            "chance": TASKS.get(name).chance,
            "metrics": {
                metric.name: {
                    "unit": metric.unit,
                    "low": metric.low,
                    "high": metric.high,
                    "higher_is_better": metric.higher_is_better,
                }
                for metric in TASKS.get(name).metrics
            },
        }
        for name in dict.fromkeys(task for one in space.measurements for task in one.tasks)
    }


def _digest(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Checksums of a stage's files, without pictures that nothing is made from."""
    files = manifest["files"].items()
    return {name: file["sha256"] for name, file in files if not name.startswith("examples/")}

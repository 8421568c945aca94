"""A sweep as the orchestrator leaves it, made from simulated test samples."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.io.read import write_points
from analysis.io.scenarios import Scenarios
from analysis.sampling.intervals import bootstrap_mean
from tests.analysis.pictures import blurred, entry, scene

LAMBDAS = (0.0005, 0.0015, 0.004, 0.012)
BPP = {0.0005: 0.09, 0.0015: 0.17, 0.004: 0.31, 0.012: 0.62}
TASKS = {
    "captioning": ("exact_match", 0.0, 0.82),
    "vqa": ("accuracy", 0.33, 0.94),
    "rec": ("accuracy@0.5", 0.0, 0.9),
    "fewshot": ("accuracy", 0.2, 0.86),
}
GAIN = {"reconstruction": 1.0, "post_processing": 1.35, "d1": 1.4, "d2": 1.8, "d3": 2.6}
"""By how much a scenario stretches the rate: exactly the saving to be found again."""
MLLM = "shipped:llava-scenes"


def make_sweep(
    directory: Path,
    missing: dict[tuple[str, float], str] | None = None,
    n: int = 200,
    seed: int = 0,
    codecs: tuple[str, ...] = ("hyperprior",),
    examples: bool = True,
) -> Path:
    """Write points, samples, manifest and example images of a sweep into the directory."""
    rng = np.random.default_rng(seed)
    missing = missing or {}
    ease = {task: rng.uniform(0, 1, n) for task in TASKS}
    rows: list[dict[str, Any]] = []
    samples: list[pd.DataFrame] = []
    expected: list[dict[str, Any]] = []
    gone: list[dict[str, Any]] = []
    described: dict[str, Any] = {}
    wanted: list[tuple[str | None, float | None, str]] = [(None, None, "uncompressed")]
    wanted += [(c, la, s) for c in codecs for la in LAMBDAS for s in GAIN]
    for i, (codec, lmbda, scenario) in enumerate(wanted):
        key = f"{scenario}-{codec}-{lmbda}".replace("None-None", "x")
        point = {"point_key": key, "codec": codec, "lmbda": lmbda, "scenario": scenario, "seed": 0}
        expected.append(point)
        if lmbda is not None and (scenario, lmbda) in missing:
            reason = missing[scenario, lmbda]
            gone.append({**point, "reason": reason, "log": f"logs/{key}.txt"})
            continue
        bpp = 24.0 if lmbda is None else BPP[lmbda] * (1 + 0.4 * codecs.index(codec or codecs[0]))
        bits = bpp * np.exp(rng.normal(0, 0.05, n)) if lmbda is not None else np.full(n, bpp)
        for task, (primary, chance, top) in TASKS.items():
            effective = bits.mean() * GAIN.get(scenario, 1e3)
            p = chance + (top - chance) * (1 - np.exp(-(effective / 0.13)))
            right = ((0.85 * ease[task] + 0.15 * rng.uniform(0, 1, n)) < p).astype(float)
            ids = [f"{task}-{j:05d}" for j in range(n)]
            metrics = {primary: right}
            if task == "captioning":
                metrics["cider"] = 6 * right + rng.uniform(0, 2, n)
            for metric, values in metrics.items():
                low, high = bootstrap_mean(values, n_resamples=500)
                rows.append(
                    {
                        "sweep": "demo",
                        **point,
                        "mllm": MLLM,
                        "task": task,
                        "dataset": "scenes",
                        "split": "test",
                        "metric": metric,
                        "value": values.mean(),
                        "value_low": low,
                        "value_high": high,
                        "n_samples": n,
                        "bpp": bits.mean(),
                        "bpp_estimated": bits.mean() * 0.96,
                        "psnr": _psnr(scenario, bpp),
                        "run_id": f"{i:032x}",
                    }
                )
                samples.append(
                    pd.DataFrame(
                        {
                            "point_key": key,
                            "mllm": MLLM,
                            "dataset": "scenes",
                            "task": task,
                            "metric": metric,
                            "sample_id": ids,
                            "value": values,
                            "bpp": bits,
                            "answer": "a",
                            "reference": "b",
                            "prompt": "q",
                        }
                    )
                )
        shown = []
        for j in range(2 if examples else 0):
            blocks = 4 + LAMBDAS.index(lmbda) if lmbda is not None else 0
            decoded = blurred(j, blocks, 160, 96) if blocks and scenario != "d3" else None
            samples_of = [f"{task}-{j:05d}" for task in TASKS]
            given = scene(j, 160, 96)
            shown.append(entry(directory, MLLM, f"test-{j}", given, decoded, samples_of, bpp))
        described[key] = {
            "spec": {"scenario": scenario, "steps": 300, "lr": 0.001},
            "provenance": {"commit": "0123abc", "dirty": False, "packages": {"torch": "2.15"}},
            "seconds": {"train": 41.5 + i, "evaluate": 9.2},
            "run_id": f"{i:032x}",
            "examples": shown,
        }
    directory.mkdir(parents=True, exist_ok=True)
    write_points(pd.DataFrame(rows), str(directory))
    pd.concat(samples).to_parquet(directory / "samples.parquet")
    units = {"unit": "fraction", "low": 0, "high": 1, "higher_is_better": True}
    manifest = {
        "schema": 1,
        "sweep": "demo",
        "space": {"name": "demo", "codecs": list(codecs), "seeds": [0]},
        "scenarios": scenario_block(GAIN),
        "created": "2026-11-22T18:00:00+00:00",
        "expected": expected,
        "missing": gone,
        "points": described,
        "tracking_uri": "sqlite:///mlflow.db",
        "parent_run_id": "f" * 32,
        "tasks": {
            task: {
                "primary": primary,
                "chance": chance,
                "metrics": {
                    primary: units,
                    **({"cider": {**units, "unit": "CIDEr", "high": 10}} if "cap" in task else {}),
                },
            }
            for task, (primary, chance, _) in TASKS.items()
        },
        "timing": {"wall_s": 560.0, "work_s": 900.0},
    }
    (directory / "sweep.json").write_text(json.dumps(manifest), encoding="utf-8")
    return directory


def scenario_block(names: Iterable[str]) -> dict[str, Any]:
    """What `sweep.json` says of scenarios: the looks of the installed ones."""
    looks = Scenarios().looks
    described = (name for name in ("uncompressed", *names) if name in looks)
    return {name: looks[name].model_dump(mode="json") for name in described}


def _psnr(scenario: str, bpp: float) -> float | None:
    if scenario in ("uncompressed", "post_processing"):
        return None
    drop = {"d2": 0.6, "d3": 12.0}.get(scenario, 0.0)
    return 27 + 3 * float(np.log2(bpp / 0.3)) - drop

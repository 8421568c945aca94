"""How long does it take until 1,000 runs of a local MLflow are a table of points?

    python -m tests.benchmarks.mlflow_read [--runs 1000] [--store FILE]

Logs a sweep through MLflow's own client into a new SQLite file (or takes the one that --store
names, if it is there): each run with 40 metrics, 60 parameters and the tags that the orchestrator
sets. Then reads it in fresh processes, so that every import counts, and once more in each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASKS = ("captioning", "vqa", "rec", "fewshot")
METRICS = ("accuracy", "exact_match")
PARAMETERS = 60
READ = """
import sys, time
start = time.perf_counter()
from analysis.io.read import read_sweep
points = read_sweep(sys.argv[1]).points
first = time.perf_counter()
read_sweep(sys.argv[1])
print(len(points), first - start, time.perf_counter() - first)
"""


def log(uri: str, runs: int) -> None:
    """A parent run and its children, as the orchestrator logs them."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("bridgesweep")
    tags = {"bridgesweep.kind": "sweep", "bridgesweep.sweep": "large"}
    parent = client.create_run(experiment, tags=tags).info.run_id
    for i in range(runs):
        values = {"bpp": 0.1 + i / runs, "bpp_estimated": 0.1 + i / runs, "psnr": 30.0}
        values |= {"distill_pooled": 0.2, "distill_tokens": 0.3, "train/loss": 0.5}
        values |= {"seconds/train": 10.0, "seconds/evaluate": 5.0}
        for task in TASKS:
            values |= {f"{task}/n_samples": 500.0, f"{task}/bpp": 0.1 + i / runs}
            for metric in METRICS:
                ends = {"": 0.5, "/low": 0.4, "/high": 0.6}
                values |= {f"{task}/{metric}{end}": value for end, value in ends.items()}
        assert len(values) == 40
        params = {"codec": "elic", "lmbda": 0.001 * (1 + i % 8), "scenario": f"d{1 + i // 8 % 3}"}
        params |= {"seed": i // 24}
        params |= {f"train.setting_{n}": n for n in range(PARAMETERS - len(params))}
        run = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
        about = {"kind": "point", "point_key": f"{i:016x}", "status": "complete"}
        about |= {"mllm": "org/mllm", "dataset": "scenes", "split": "test", "commit": "0123abcd"}
        client.log_batch(
            run,
            [Metric(name, value, 0, 0) for name, value in values.items()],
            [Param(name, str(value)) for name, value in params.items()],
            [RunTag(f"bridgesweep.{name}", value) for name, value in about.items()],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--store", type=Path, help="an SQLite file to make, or to read again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = (options.store or Path(folder) / "mlflow.db").resolve()
        uri = f"sqlite:///{store}"
        if not store.exists():
            start = time.perf_counter()
            log(uri, options.runs)
            print(f"logged {options.runs} runs in {time.perf_counter() - start:.0f} s")
        for _ in range(3):
            command = [sys.executable, "-c", READ, uri]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows, first, again = done.stdout.split()
            print(
                f"{rows} points: {float(first):.2f} s in a fresh process, then {float(again):.2f} s"
            )


if __name__ == "__main__":
    main()

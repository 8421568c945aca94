"""Does a sweep survive `kill -9`? Kills its driver, trials and workers at random moments.

    python -m tests.benchmarks.kill_resume [--kills 10] [--seed 0] [sweep options, e.g. --set ...]

Sweeps the smoke space with two seeds twice, once undisturbed and once with kills, starting it
again whenever it ended early, and compares: the points, their values, and the runs in MLflow.
`worker` kills an actor of Ray Data; every third start trains with Ray Train, which shares the
points of local mode, and there `train` kills one of its workers first. Exit code 0 if nothing
differs.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

KEYS = ["point_key", "mllm", "task", "metric"]
PATTERNS = {
    "trial": ("ray::ImplicitFunc", "ray::bridgesweep"),
    "worker": ("ray::MapWorker",),
    "train": ("ray::RayTrainWorker", "ray::_RayTrainWorker"),
}


def sweep(storage: Path, options: list[str]) -> list[str]:
    base = [sys.executable, "-m", "orchestrator.sweep", "smoke", "--set", "seeds=[0, 1]"]
    return [*base, "--storage", str(storage), *options]


def processes(driver: psutil.Process, patterns: tuple[str, ...]) -> list[psutil.Process]:
    matching = []
    for child in driver.children(recursive=True):
        try:
            title = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if title.startswith(patterns):
            matching.append(child)
    return matching


def kill_one(
    driver: psutil.Process, target: str, rng: random.Random, wait_s: float
) -> tuple[str, str] | None:
    """Kill -9 one process of a kind; (kind, its title), or None if the driver ended before."""
    until = time.monotonic() + wait_s
    while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
        victims = [driver] if target == "driver" else processes(driver, PATTERNS[target])
        if not victims and time.monotonic() > until:
            target, victims = "trial", processes(driver, PATTERNS["trial"])
        if victims:
            victim = rng.choice(victims)
            try:
                title = " ".join(victim.cmdline())[:60]
                victim.kill()
            except psutil.Error:
                continue
            return target, "the driver" if target == "driver" else title
        time.sleep(0.2)
    return None


def runs_per_key(storage: Path) -> collections.Counter[str]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    experiment = client.get_experiment_by_name("bridgesweep")
    assert experiment is not None
    runs = client.search_runs(
        [experiment.experiment_id], "tags.`bridgesweep.kind` = 'point'", max_results=10_000
    )
    return collections.Counter(run.data.tags["bridgesweep.point_key"] for run in runs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", type=Path, help="default: a temporary directory")
    arguments, options = parser.parse_known_args()
    rng = random.Random(arguments.seed)
    base = arguments.storage or Path(tempfile.mkdtemp(prefix="kill-resume-"))
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    base.mkdir(parents=True, exist_ok=True)
    log = (base / "output.log").open("a")

    def start(storage: Path, more: list[str]) -> subprocess.Popen[bytes]:
        command = sweep(storage, [*options, *more])
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    began = time.monotonic()
    print(f"output in {base}/output.log\nundisturbed: ", end="", flush=True)
    code = start(base / "calm", []).wait()
    calm_s = time.monotonic() - began
    print(f"exit {code} after {calm_s:.0f} s\n\nkill  start  after s  target  process", flush=True)

    storage, kills, starts, codes = base / "killed", 0, 0, []
    while True:
        starts += 1
        train = kills < arguments.kills and starts % 3 == 0
        more = ["--set", "resources.workers_per_point=1"] if train else []
        child, started = start(storage, more), time.monotonic()
        driver = psutil.Process(child.pid)
        targets = ["train"] if train else []
        while kills < arguments.kills and child.poll() is None:
            pause = rng.uniform(5, max(10.0, calm_s / 3))
            try:
                child.wait(pause)
                break
            except subprocess.TimeoutExpired:
                pass
            target = targets.pop() if targets else rng.choice(["driver", "trial", "worker"])
            hit = kill_one(driver, target, rng, wait_s=90 if target == "train" else 20)
            if hit is None:
                break
            kills += 1
            seconds = time.monotonic() - started
            print(f"{kills:>4}  {starts:>5}  {seconds:>7.0f}  {hit[0]:<6}  {hit[1]}")
            sys.stdout.flush()
        code = child.wait()
        codes.append(code)
        if code == 0 or starts > 3 * arguments.kills + 3:
            break
        if kills >= arguments.kills and code not in (-9, 1):
            break
    calm = pd.read_parquet(base / "calm" / "smoke" / "points.parquet")
    killed = pd.read_parquet(storage / "smoke" / "points.parquet")
    both = calm.merge(killed, on=KEYS, how="outer", suffixes=("", "_killed"))
    difference = float((both["value"] - both["value_killed"]).abs().max(skipna=False))
    rate = float((both["bpp"] - both["bpp_killed"]).abs().max(skipna=False))
    runs = runs_per_key(storage)
    twice = [key for key, count in runs.items() if count > 1]
    print(f"\nexit codes of the {starts} starts: {codes}")
    print(f"rate-accuracy points: {len(calm)} undisturbed, {len(killed)} after {kills} kills")
    print(f"operating points: {calm.point_key.nunique()} and {killed.point_key.nunique()}")
    print(f"largest difference: {difference:g} in value, {rate:g} in bpp")
    print(f"MLflow: {len(runs)} point runs, {len(twice)} duplicated")
    same = len(calm) == len(killed) == len(both) and difference == rate == 0
    complete = set(runs) == set(killed.point_key) and not twice and codes[-1] == 0
    print("PASS" if same and complete and kills == arguments.kills else "FAIL")
    return 0 if same and complete and kills == arguments.kills else 1


if __name__ == "__main__":
    sys.exit(main())

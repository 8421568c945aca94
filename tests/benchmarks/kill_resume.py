"""Does a sweep survive `kill -9`? Kills its driver, trials and workers at random moments.

    python -m tests.benchmarks.kill_resume [--kills 10] [--seed 0] [sweep options, e.g. --set ...]

Sweeps the smoke space with two seeds, once undisturbed and then again and again with kills, each
time until it is complete, starting it again whenever it ended early. Compares with the undisturbed
one: the points, their values, the runs in MLflow, and what is left behind. `worker` kills an actor
of Ray Data; every third start trains with Ray Train, which shares the points of local mode, and
there `train` kills one of its workers first. Exit code 0 if nothing differs.
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
from dataclasses import dataclass
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


@dataclass
class Kills:
    """How many processes are to be killed, and how many were.

    Attributes:
        pause_s: at most, between two of them.
    """

    wanted: int
    pause_s: float
    rng: random.Random
    done: int = 0

    @property
    def are_over(self) -> bool:
        return self.done >= self.wanted

    def disturb(self, child: subprocess.Popen[bytes], start: int, train: bool) -> int:
        """Kill processes of a start until it ends; returns its exit code."""
        driver, started = psutil.Process(child.pid), time.monotonic()
        targets = ["train"] if train else []
        while not self.are_over and child.poll() is None:
            try:
                child.wait(self.rng.uniform(5, self.pause_s))
                break
            except subprocess.TimeoutExpired:
                pass
            target = targets.pop() if targets else self.rng.choice(["driver", "trial", "worker"])
            hit = kill_one(driver, target, self.rng, wait_s=90 if target == "train" else 20)
            if hit is None:
                break
            self.done += 1
            seconds = time.monotonic() - started
            print(f"{self.done:>4}  {start:>5}  {seconds:>7.0f}  {hit[0]:<6}  {hit[1]}", flush=True)
        return child.wait()


def differences(calm: Path, killed: Path) -> list[str]:
    """What differs from the undisturbed sweep, a line each."""
    before = pd.read_parquet(calm / "smoke" / "points.parquet")
    after = pd.read_parquet(killed / "smoke" / "points.parquet")
    both = before.merge(after, on=KEYS, how="outer", suffixes=("", "_killed"), indicator=True)
    runs = runs_per_key(killed)
    found = {
        "lost": (both["_merge"] == "left_only").sum(),
        "more": (both["_merge"] == "right_only").sum(),
        "doubled": len(after) - len(after.drop_duplicates(KEYS)),
        "other values": (both["value"] != both["value_killed"]).sum(),
        "other rates": (both["bpp"] != both["bpp_killed"]).sum(),
        "points without a run in MLflow": len(set(after.point_key) - set(runs)),
        "points with several runs": sum(count > 1 for count in runs.values()),
    }
    left = [name for name in ("train", "work", "tmp") for _ in (killed / name).glob("*")]
    found |= {f"left in {name}": left.count(name) for name in ("train", "work", "tmp")}
    return [f"{count} {what}" for what, count in found.items() if count]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", type=Path, help="default: a temporary directory")
    arguments, options = parser.parse_known_args()
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

    kills = Kills(arguments.kills, max(10.0, calm_s / 3), random.Random(arguments.seed))
    starts = sweeps = 0
    bad: list[str] = []
    while not kills.are_over:
        storage, codes = base / f"killed-{sweeps}", list[int]()
        while not codes or codes[-1] != 0:
            starts += 1
            train = not kills.are_over and starts % 3 == 0
            more = ["--set", "resources.workers_per_point=1"] if train else []
            codes.append(kills.disturb(start(storage, more), starts, train))
            if kills.are_over and len(codes) > 2 and codes[-2:] == [1, 1]:
                break
        lines = differences(base / "calm", storage)
        print(f"sweep {sweeps}: exit codes {codes}; {'; '.join(lines) or 'equal'}", flush=True)
        bad += lines + ([] if codes[-1] == 0 else [f"exit code {codes[-1]}"])
        sweeps += 1
    print(f"\n{kills.done} kills, {starts} starts of {sweeps} sweeps")
    print("FAIL" if bad else "PASS")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a sweep of many points costs its driver, with jobs that compute nothing.

    python -m tests.benchmarks.thousand_points [--points 100 1000 3000] [--lanes 16] [--sleep 0]

Sweeps the smoke space with 10 lambdas and many seeds on a Ray of fake CPUs, with the real plan,
schedule, Tune, storage, MLflow (SQLite) and view; then runs the same command again. Per number of
points it prints CPU seconds of the driver's process, by thread, from the first job to the last
(`ms/job`: per finished job), its memory, what a worker unpickles, calls per point of the storage
(driver and workers) and of MLflow's client, the time by the clock over the ideal of so many sleeps
in so many lanes, and the rerun. CPU seconds depend little on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

LAMBDAS: Final = 10
POINTS_PER_SEED: Final = 4 * LAMBDAS
"""d1, d2, d3 and post_processing at each lambda; the baselines have one seed."""
EVERY_S: Final = 2.0
MIB: Final = 2**20
REPLIES: Final = "replies.json"


class Meter:
    """CPU seconds and memory of this process, by thread, and when its parts began and ended."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._threads: dict[int, tuple[str, float]] = {}
        self.memory: list[tuple[float, float]] = []
        """(`time.monotonic`, MiB)."""
        self.marks: dict[str, tuple[float, float]] = {}
        """Name -> (`time.monotonic`, CPU seconds of the process)."""
        self.threads_at: dict[str, dict[str, float]] = {}
        threading.Thread(target=self._watch, name="meter", daemon=True).start()

    def mark(self, name: str) -> None:
        self.look()
        self.marks[name] = time.monotonic(), time.process_time()
        self.threads_at[name] = self.by_thread()

    def look(self) -> None:
        self.memory.append((time.monotonic(), self._process.memory_info().rss / MIB))
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        for listed in self._process.threads():
            name = names.get(listed.id)
            if name is None:
                try:
                    name = Path(f"/proc/self/task/{listed.id}/comm").read_text().strip()
                except OSError:
                    continue
            self._threads[listed.id] = (name, listed.user_time + listed.system_time)

    def by_thread(self) -> dict[str, float]:
        seconds: Counter[str] = Counter()
        for name, used in list(self._threads.values()):
            seconds[_group(name)] += used
        return dict(seconds)

    def between(self, first: str, last: str) -> tuple[float, float, dict[str, float]]:
        """Seconds of the clock and of the CPU, and the latter by thread."""
        (began, cpu_before), (ended, cpu_after) = self.marks[first], self.marks[last]
        before, after = self.threads_at[first], self.threads_at[last]
        used = {name: after[name] - before.get(name, 0.0) for name in after}
        return ended - began, cpu_after - cpu_before, used

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(EVERY_S)


def _group(name: str) -> str:
    return name if name in ("MainThread", "mlflow", "meter", "ray-data-pass") else "others"


def marked(meter: Meter, module: Any, name: str, label: str) -> None:
    """Let the meter mark the beginning and the end of a function's calls."""
    function = getattr(module, name)

    def call(*arguments: Any, **options: Any) -> Any:
        meter.mark(f"{label}+")
        try:
            return function(*arguments, **options)
        finally:
            meter.mark(f"{label}-")

    setattr(module, name, call)


def count_calls(kind: type, calls: Counter[str]) -> None:
    """Count the calls of a class's public methods, but not those within another one."""
    depth = threading.local()

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            level = getattr(depth, "level", 0)
            calls[name] += level == 0
            depth.level = level + 1
            try:
                return method(*arguments, **options)
            finally:
                depth.level = level

        return call

    for name, method in list(vars(kind).items()):
        if callable(method) and not name.startswith("_"):
            setattr(kind, name, counted(name, method))


def unpickled_bytes(settings: Any) -> int:
    """Bytes that a process unpickles of the settings before it has its job."""
    import pickle

    shared: list[pickle.PickleBuffer] = []
    return len(pickle.dumps(settings, protocol=5, buffer_callback=shared.append))


def sweep(points: int, storage: Path, directory: Path, profile: str | None) -> None:
    """Run the sweep in this process; writes what was measured as JSON to the directory."""
    from mlflow import MlflowClient

    from orchestrator import sweep as command
    from orchestrator.driver import run
    from orchestrator.driver.point_log import PointLog
    from orchestrator.execution.trials import tune
    from tests.benchmarks import instant_jobs

    meter, mlflow_calls = Meter(), Counter[str]()
    count_calls(MlflowClient, mlflow_calls)
    instant_jobs.count_storage_calls()
    instant_jobs.install(directory)
    result: dict[str, Any] = {"bytes": 0, "jobs": 0}
    tune_jobs = tune.tune_jobs

    def tune_and_measure(runner: Any, verbose: bool) -> None:
        result["bytes"] = unpickled_bytes(runner.settings)
        run_jobs = profiled(tune_jobs, profile) if profile else tune_jobs
        run_jobs(runner, verbose)
        result["jobs"] = len(runner.schedule.done)
        result["failed"] = len(runner.schedule.failed)

    tune.tune_jobs = tune_and_measure
    marked(meter, tune, "tune_jobs", "jobs")
    marked(meter, run, "run_on_ray", "ray")
    marked(meter, run, "_missing_points", "missing")
    marked(meter, PointLog, "close", "close")
    marked(meter, run, "write_sweep", "files")
    marked(meter, run, "_run_alone", "all")
    code = command.main(arguments_of(points, storage))
    meter.mark("end")
    result |= {
        "code": code,
        "memory": meter.memory,
        "marks": meter.marks,
        "threads": meter.between("jobs+", "jobs-")[2] if "jobs-" in meter.marks else {},
        "threads_all": meter.between("all+", "all-")[2],
        "storage_calls": instant_jobs.storage_calls,
        "mlflow_calls": mlflow_calls,
    }
    (directory / REPLIES).write_text(json.dumps(result), encoding="utf-8")


def profiled(function: Callable[..., None], file: str) -> Callable[..., None]:
    """The function under cProfile, which writes its statistics to a file."""
    import cProfile

    def call(*arguments: Any) -> None:
        profiler = cProfile.Profile(time.process_time)
        try:
            profiler.runcall(function, *arguments)
        finally:
            profiler.dump_stats(file)

    return call


def arguments_of(points: int, storage: Path) -> list[str]:
    """The command line of the sweep."""
    seeds = list(range(max(1, round((points - LAMBDAS - 1) / POINTS_PER_SEED))))
    lambdas = [round(0.002 * (number + 1), 4) for number in range(LAMBDAS)]
    settings = (f"seeds={seeds}", f"codecs.0.lambdas={lambdas}")
    options = [option for setting in settings for option in ("--set", setting)]
    return ["smoke", "--storage", str(storage), "--insecure", *options]


def run_child(points: int, storage: Path, lanes: int, options: list[str]) -> dict[str, Any]:
    """Run the sweep in a process with a Ray of fake CPUs; returns what was measured."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "tests.benchmarks.thousand_points", "--child", scratch]
        command += ["--points", str(points), "--storage", str(storage), "--lanes", str(lanes)]
        with (storage / "output.log").open("a") as log:
            subprocess.run([*command, *options], stdout=log, stderr=log, check=True)
        directory = Path(scratch)
        result: dict[str, Any] = json.loads((directory / REPLIES).read_text(encoding="utf-8"))
        calls: Counter[str] = Counter()
        for file in directory.glob("calls-*.json"):
            calls.update(json.loads(file.read_text(encoding="utf-8")))
        result["worker_calls"] = calls
    return result


def child(options: argparse.Namespace) -> None:
    from ray.cluster_utils import Cluster

    from tests.benchmarks.instant_jobs import DIRECTORY, SLEEP

    os.environ |= {DIRECTORY: options.child, SLEEP: str(options.sleep)}
    cpus = options.lanes / options.nodes
    node = {"num_cpus": cpus, "object_store_memory": 200 * MIB, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    for _ in range(options.nodes - 1):
        cluster.add_node(num_cpus=cpus, object_store_memory=100 * MIB)
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        (points,) = options.points
        sweep(points, options.storage, Path(options.child), options.profile)
    finally:
        cluster.shutdown()


def report(points: int, first: dict[str, Any], again: dict[str, Any], ideal_s: float) -> None:
    """Print what was measured of a sweep and of its rerun."""

    def cpu(result: dict[str, Any], begin: str, end: str) -> float:
        return float(result["marks"][end][1] - result["marks"][begin][1])

    jobs, marks = first["jobs"], first["marks"]
    threads = {n: round(1000 * s / jobs, 1) for n, s in first["threads"].items() if s > 0.01}
    began, ended = marks["jobs+"][0], marks["jobs-"][0]
    memory = [mib for when, mib in first["memory"] if began <= when <= ended]
    ratio = f", {(ended - began) / ideal_s:.2f}" if ideal_s else ""
    driver, worker = (sum(first[name].values()) for name in ("storage_calls", "worker_calls"))
    lines = {
        "jobs, failed, exit code": f"{jobs}, {first['failed']}, {first['code']}",
        "driver CPU while jobs run": f"{1000 * cpu(first, 'jobs+', 'jobs-') / jobs:.1f} ms/job",
        "  by thread, ms/job": threads,
        "driver CPU from start to the last job": f"{cpu(first, 'all+', 'ray-'):.1f} s",
        "  behind it: log what waits": f"{cpu(first, 'ray-', 'close-'):.1f} s",
        "  behind it: files, report, clean-up": f"{cpu(first, 'close-', 'all-'):.1f} s",
        "driver memory, MiB": [round(memory[int(q * (len(memory) - 1))]) for q in (0, 0.5, 1)],
        "bytes that a process unpickles": first["bytes"],
        "storage calls per point": f"driver {driver / points:.1f}, workers {worker / points:.1f}",
        "  of the driver": dict(Counter(first["storage_calls"]).most_common(6)),
        "MLflow calls per point": round(sum(first["mlflow_calls"].values()) / points, 1),
        "clock, s, over ideal": f"{ended - began:.0f}{ratio}",
        "rerun, s by the clock, of CPU": "{:.1f}, {:.1f}".format(
            again["marks"]["end"][0] - again["marks"]["all+"][0], cpu(again, "all+", "end")
        ),
        "rerun: log, files and the rest, s of CPU": "{:.1f}, {:.1f}".format(
            cpu(again, "all+", "close-"), cpu(again, "close-", "all-")
        ),
        "rerun: jobs, exit code": f"{again['jobs']}, {again['code']}",
        "rerun: storage calls": dict(Counter(again["storage_calls"]).most_common(6)),
        "rerun: MLflow calls": sum(again["mlflow_calls"].values()),
    }
    for name, value in lines.items():
        print(f"{name:<42} {value}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[100, 1000, 3000])
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--nodes", type=int, default=1, help="fake nodes that share the lanes")
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds of each training")
    parser.add_argument("--profile", help="file for cProfile's statistics of the main thread")
    parser.add_argument("--storage", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    more = ["--nodes", str(options.nodes), "--sleep", str(options.sleep)]
    for points in options.points:
        with tempfile.TemporaryDirectory(prefix="thousand-points-") as scratch:
            profile = ["--profile", options.profile] if options.profile else []
            storage = Path(scratch)
            first = run_child(points, storage, options.lanes, [*more, *profile])
            again = run_child(points, storage, options.lanes, more)
            print(f"\n{points} points, {options.lanes} lanes, {options.nodes} nodes", flush=True)
            ideal_s = first["jobs"] * options.sleep / options.lanes
            report(points, first, again, ideal_s)


if __name__ == "__main__":
    main()

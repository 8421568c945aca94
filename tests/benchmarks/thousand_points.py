"""What a sweep of many points costs its driver, with jobs that compute nothing.

    python -m tests.benchmarks.thousand_points [--points 100 1000 3000] [--lanes 16] [--sleep 0]
                                               [--stop-after JOBS | --rerun-only] [--server]

Sweeps the smoke space with 10 lambdas and many seeds on a Ray of fake CPUs, with the real plan,
schedule, Tune, storage, recorder, MLflow (SQLite) and view; then runs the same command again. Per
number of points it prints CPU seconds of the driver's process, by thread, from the first job to the
last (`ms/job`: per finished job), those of the recorder's process, the memory of both, what a
worker unpickles, calls per point of the storage (driver, recorder and workers) and of MLflow's
client, the time by the clock over the ideal of so many sleeps in so many lanes, and the rerun.
`--server` gives MLflow a tracking server, in a process apart. `--rerun-only` makes the stages in
the driver's process, without Ray, and measures the rerun alone. CPU seconds depend little on what
else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.meter import MIB, Meter, count_calls, marked

LAMBDAS: Final = 10
POINTS_PER_SEED: Final = 4 * LAMBDAS
"""d1, d2, d3 and post_processing at each lambda; the baselines have one seed."""
REPLIES: Final = "replies.json"
NO_RECORDER: Final[dict[str, Any]] = {
    **{"memory": [], "marks": {}, "storage_calls": {}, "mlflow_calls": {}}
}
"""Of a sweep without a job, which its driver records."""


def unpickled_bytes(settings: Any) -> int:
    """Bytes that a process unpickles of the settings before it has its job."""
    import pickle

    shared: list[pickle.PickleBuffer] = []
    return len(pickle.dumps(settings, protocol=5, buffer_callback=shared.append))


def stopping(function: Callable[..., None], runner: Any, jobs: int) -> Callable[..., None]:
    """The function, stopped as by Ctrl-C when so many jobs have finished."""
    finish = runner.trial_completed

    def finish_or_stop(trial_id: str) -> None:
        finish(trial_id)
        if len(runner.schedule.done) >= jobs:
            raise KeyboardInterrupt

    def call(*arguments: Any) -> None:
        runner.trial_completed = finish_or_stop
        function(*arguments)

    return call


def sweep(
    points: int,
    storage: Path,
    directory: Path,
    profile: str | None,
    most_jobs: int | None,
    tracking_uri: str | None,
    without_ray: bool,
) -> None:
    """Run the sweep in this process; writes what was measured as JSON to the directory."""
    from mlflow import MlflowClient

    from orchestrator import sweep as command
    from orchestrator.driver import run
    from orchestrator.execution.trials import tune
    from orchestrator.recording import recorder_process, report
    from orchestrator.recording.point_log import PointLog
    from tests.benchmarks import instant_jobs

    meter, mlflow_calls = Meter(), Counter[str]()
    count_calls(MlflowClient, mlflow_calls)
    instant_jobs.count_storage_calls()
    instant_jobs.install(directory)
    recorder_process.MODULE = "tests.benchmarks.counting_recorder"  # type: ignore[misc]
    result: dict[str, Any] = {"bytes": 0, "jobs": 0}
    tune_jobs = tune.tune_jobs

    def tune_and_measure(runner: Any, verbose: bool) -> None:
        result["bytes"] = unpickled_bytes(runner.settings)
        run_jobs = profiled(tune_jobs, profile) if profile else tune_jobs
        if most_jobs is not None:
            run_jobs = stopping(run_jobs, runner, most_jobs)
        try:
            run_jobs(runner, verbose)
        finally:
            result["jobs"] = len(runner.schedule.done)
            result["failed"] = len(runner.schedule.failed)

    tune.tune_jobs = tune_and_measure
    if without_ray:
        run.run_on_ray = instant_jobs.run_here  # type: ignore[attr-defined]
    marked(meter, tune, "tune_jobs", "jobs")
    marked(meter, run, "run_on_ray", "ray")
    marked(meter, run, "_missing_points", "missing")
    marked(meter, PointLog, "close", "close")
    marked(meter, report, "write_sweep", "files")
    marked(meter, run, "_run_alone", "all")
    server = [] if tracking_uri is None else ["--tracking-uri", tracking_uri]
    code = command.main([*arguments_of(points, storage), *server])
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
    from tests.benchmarks import instant_jobs

    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "tests.benchmarks.thousand_points", "--child", scratch]
        command += ["--points", str(points), "--storage", str(storage), "--lanes", str(lanes)]
        output, began = storage / "output.log", time.monotonic()
        with output.open("a") as log:
            done = subprocess.run([*command, *options], stdout=log, stderr=log, check=False)
        if done.returncode:
            sys.exit(output.read_text(encoding="utf-8")[-5000:])
        directory = Path(scratch)
        result: dict[str, Any] = json.loads((directory / REPLIES).read_text(encoding="utf-8"))
        calls: Counter[str] = Counter()
        recorder = directory / instant_jobs.RECORDER
        result["recorder"] = (
            json.loads(recorder.read_text(encoding="utf-8")) if recorder.exists() else NO_RECORDER
        )
        for file in directory.glob("calls-*.json"):
            calls.update(json.loads(file.read_text(encoding="utf-8")))
        result["worker_calls"] = calls
        result["wall_s"] = time.monotonic() - began
    return result


def child(options: argparse.Namespace) -> None:
    from ray.cluster_utils import Cluster

    from tests.benchmarks.instant_jobs import DIRECTORY, SLEEP

    os.environ |= {DIRECTORY: options.child, SLEEP: str(options.sleep)}
    (points,) = options.points
    place = points, options.storage, Path(options.child)
    arguments = *place, options.profile, options.stop_after, options.tracking_uri
    if options.rerun_only or options.again:  # a sweep without a job starts no Ray
        sweep(*arguments, without_ray=options.rerun_only)
        return
    cpus = options.lanes / options.nodes
    node = {"num_cpus": cpus, "object_store_memory": 200 * MIB, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    for _ in range(options.nodes - 1):
        cluster.add_node(num_cpus=cpus, object_store_memory=100 * MIB)
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        sweep(*arguments, without_ray=False)
    finally:
        cluster.shutdown()


def cpu(result: dict[str, Any], begin: str, end: str) -> float:
    """CPU seconds of the driver between two marks."""
    return float(result["marks"][end][1] - result["marks"][begin][1])


def print_run(points: int, first: dict[str, Any], ideal_s: float) -> None:
    """Print what was measured of a sweep while its jobs ran."""
    jobs, marks, recorder = first["jobs"], first["marks"], first["recorder"]
    threads = {n: round(1000 * s / jobs, 1) for n, s in first["threads"].items() if s > 0.01}
    began, ended = marks["jobs+"][0], marks["jobs-"][0]
    ratio = f", {(ended - began) / ideal_s:.2f}" if ideal_s else ""
    # Of a sweep that was stopped, the points so far.
    finished = min(points, jobs)
    calls = {
        "driver": first["storage_calls"],
        "recorder": recorder["storage_calls"],
        "workers": first["worker_calls"],
    }
    per_point = {who: round(sum(made.values()) / finished, 1) for who, made in calls.items()}
    lines = {
        "jobs, failed, exit code": f"{jobs}, {first['failed']}, {first['code']}",
        "driver CPU while jobs run": f"{1000 * cpu(first, 'jobs+', 'jobs-') / jobs:.1f} ms/job",
        "  by thread, ms/job": threads,
        "driver CPU from start to the last job": f"{cpu(first, 'all+', 'ray-'):.1f} s",
        "driver memory, MiB": memory_of(first, began, ended),
        "recorder memory, MiB": memory_of(recorder, began, ended),
        "bytes that a process unpickles": first["bytes"],
        "storage calls per point": per_point,
        "  of the driver": dict(Counter(first["storage_calls"]).most_common(6)),
        "  of the recorder": dict(Counter(recorder["storage_calls"]).most_common(6)),
        "MLflow calls per point": round(sum(recorder["mlflow_calls"].values()) / finished, 1),
        "clock, s, over ideal": f"{ended - began:.0f}{ratio}",
    }
    if "report-" in recorder["marks"]:
        while_jobs = 1000 * cpu(recorder, "begin", "report+") / jobs
        lines |= {
            "recorder CPU while jobs run": f"{while_jobs:.1f} ms/job",
            "recorder CPU: log what waits": f"{cpu(recorder, 'report+', 'close-'):.1f} s",
            "recorder CPU: files, report": f"{cpu(recorder, 'close-', 'report-'):.1f} s",
            "driver, behind the jobs, s": f"{marks['all-'][0] - marks['ray-'][0]:.1f}",
        }
    show(lines)


def memory_of(process: dict[str, Any], began: float, ended: float) -> list[int]:
    """MiB of a process at the first job, in the middle, at the last one."""
    memory = [mib for when, mib in process["memory"] if began <= when <= ended] or [0.0]
    return [round(memory[int(q * (len(memory) - 1))]) for q in (0, 0.5, 1)]


def print_rerun(again: dict[str, Any]) -> None:
    """Print what was measured of the same command once more."""
    seconds = f"{again['wall_s']:.1f}, {again['marks']['end'][1]:.1f}"
    show(
        {
            "rerun to its exit, s by the clock, of CPU": seconds,
            "rerun: log, s of CPU": f"{cpu(again, 'all+', 'close-'):.1f}",
            "rerun: files, report, clean-up, s of CPU": f"{cpu(again, 'close-', 'all-'):.1f}",
            "rerun: jobs, exit code": f"{again['jobs']}, {again['code']}",
            "rerun: storage calls": dict(Counter(again["storage_calls"]).most_common(6)),
            "rerun: MLflow calls": sum(again["mlflow_calls"].values()),
        }
    )


@contextlib.contextmanager
def tracking_server(directory: Path) -> Iterator[str]:
    """A tracking server in a process of its own; yields its URI."""
    import requests

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--backend-store-uri", f"sqlite:///{directory}/server.db"]
    place += ["--artifacts-destination", f"{directory}/artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    with (directory / "server.log").open("w") as log:
        process = subprocess.Popen([*command, *place], stdout=log, stderr=log)
    try:
        for _ in range(120):
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"http://127.0.0.1:{port}/health", timeout=5).raise_for_status()
                break
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def show(lines: dict[str, Any]) -> None:
    for name, value in lines.items():
        print(f"{name:<42} {value}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[100, 1000, 3000])
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--nodes", type=int, default=1, help="fake nodes that share the lanes")
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds of each training")
    parser.add_argument("--stop-after", type=int, help="finished jobs; there is no rerun then")
    parser.add_argument("--rerun-only", action="store_true", help="measure the rerun alone")
    parser.add_argument("--server", action="store_true", help="MLflow has a tracking server")
    parser.add_argument("--tracking-uri", help=argparse.SUPPRESS)
    parser.add_argument("--profile", help="file for cProfile's statistics of the main thread")
    parser.add_argument("--storage", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--again", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    settings = ["--nodes", str(options.nodes), "--sleep", str(options.sleep)]
    for points in options.points:
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="thousand-points-", ignore_cleanup_errors=True)
            )
            more = settings
            if options.server:
                uri = stack.enter_context(tracking_server(Path(scratch)))
                more = [*more, "--tracking-uri", uri]
            profile = ["--profile", options.profile] if options.profile else []
            storage = Path(scratch)
            stop = ["--stop-after", str(options.stop_after)] if options.stop_after else []
            alone = ["--rerun-only"] if options.rerun_only else []
            first = run_child(points, storage, options.lanes, [*more, *profile, *stop, *alone])
            print(f"\n{points} points, {options.lanes} lanes, {options.nodes} nodes", flush=True)
            if not alone:
                print_run(points, first, first["jobs"] * options.sleep / options.lanes)
            if not stop:
                again = [*more, *alone, "--again"]
                print_rerun(run_child(points, storage, options.lanes, again))


if __name__ == "__main__":
    main()

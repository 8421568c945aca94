"""Which job runs on which GPUs of which node, on a cluster of fake GPUs.

    python -m tests.benchmarks.placements [--seconds 2]

Three nodes: a head without GPUs, `a` with four, `h` with four H100. The smoke space asks for
something else by each kind (`RESOURCES`); its jobs compute nothing (`placed_jobs.py`), but trials,
Ray Train's workers, evaluators and Ray Data's actors are the sweep's. Prints a row per process and
job, the most that was taken of any GPU at a time, and what differs from what the space asks for:
the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from search_spaces.specs.evaluation import Resources

RESOURCES: Final = """{workers_per_point: 1, gpus_per_worker: 1, by_kind: {
  codec: {gpus_per_worker: 0.5},
  d1: {workers_per_point: 2},
  d2: {workers_per_point: 2, accelerator: H100},
  features: {gpus_per_worker: 0.25},
  evaluation: {gpus_per_worker: 2}}}"""
NODES: Final[dict[str, dict[str, Any]]] = {
    "head": {"num_cpus": 4},
    "a": {"num_cpus": 8, "num_gpus": 4},
    "h": {"num_cpus": 8, "num_gpus": 4, "resources": {"accelerator_type:H100": 1}},
}
MIB: Final = 2**20
ROUNDING: Final = 1e-6


def sweep(directory: Path, seconds: float) -> tuple[int, Resources]:
    """Run the sweep on a cluster of this process; returns its exit code and what it asked for."""
    from ray.cluster_utils import Cluster

    from tests.benchmarks.instant_jobs import DIRECTORY, SLEEP, write_tasks

    os.environ |= {DIRECTORY: str(directory), SLEEP: str(seconds)}
    write_tasks(directory)
    cluster = Cluster()
    for name, node in NODES.items():
        marked = {**node.get("resources", {}), f"name:{name}": 1}
        cluster.add_node(**{**node, "resources": marked, "object_store_memory": 100 * MIB})
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        from orchestrator import sweep as command
        from search_spaces import load_space
        from tests.benchmarks import placed_jobs

        placed_jobs.install()
        settings = [
            f"resources={RESOURCES}",
            "scenarios=[d1, d2]",
            "baselines=[]",
            "tasks=[vqa]",
        ]
        options = [option for setting in settings for option in ("--set", setting)]
        storage = str(directory / "storage")
        code = command.main(["smoke", "--storage", storage, "--insecure", *options])
        return code, load_space("smoke", settings).resources
    finally:
        cluster.shutdown()


def merged(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of which one process had several for the same job (shards) as one, in their order."""
    together: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = row["process"], row["pid"], row["job"]
        known = together.setdefault(key, dict(row))
        known["began"] = min(known["began"], row["began"])
        known["ended"] = max(known["ended"], row["ended"])
    return sorted(together.values(), key=lambda row: float(row["began"]))


def deviations(rows: Sequence[dict[str, Any]], resources: Resources) -> Iterator[str]:
    """What differs from what the space asks for, a line each."""
    for row in rows:
        what = f"{row['process']} of {row['job']} on {row['node']}"
        wanted = resources.of(row["kind"]) if row["kind"] else None
        gpus = wanted.gpus_per_worker if wanted is not None else 0
        if abs(row["share"] - gpus) > ROUNDING:
            yield f"{what}: has {row['share']:g} GPU, asked for {gpus:g}"
        if len(set(row["gpus"])) != -(-gpus // 1):
            yield f"{what}: GPUs {row['gpus']}, asked for {gpus:g}"
        if wanted is not None and wanted.accelerator and row["node"] != "h":
            yield f"{what}: asked for {wanted.accelerator}"
    workers = defaultdict(set)
    for row in rows:
        if row["process"] == "worker":
            workers[row["kind"], row["job"]].add(row["pid"])
    for (kind, job), pids in workers.items():
        if len(pids) != resources.of(kind).workers_per_point:
            yield f"{job}: {len(pids)} workers, not {resources.of(kind).workers_per_point}"
    for kind in ("codec", "d1", "d2", "features", "evaluation"):
        if not any(row["kind"] == kind for row in rows):
            yield f"nothing of kind {kind} ran"
    for (node, gpu), most in most_taken(rows).items():
        if most > 1 + ROUNDING:
            yield f"GPU {gpu} of {node}: {most:g} of it taken at a time"


def most_taken(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, int], float]:
    """The largest sum of shares of each GPU (node, number) at a time."""
    events: defaultdict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        for gpu in row["gpus"]:
            share = min(1.0, row["share"])
            events[row["node"], gpu] += [(row["began"], share), (row["ended"], -share)]
    most = {}
    for key, changes in events.items():
        taken = largest = 0.0
        # What ends at the moment at which another begins goes first.
        for _, change in sorted(changes):
            taken += change
            largest = max(largest, taken)
        most[key] = round(largest, 6)
    return dict(sorted(most.items()))


def show(rows: Sequence[dict[str, Any]], resources: Resources) -> None:
    """Print a row per process and job."""
    start = rows[0]["began"]
    head = ("seconds", "process", "kind", "job", "asked", "node", "has", "GPUs")
    layout = "{:<9} {:<10} {:<10} {:<52} {:<10} {:<5} {:<5} {}"
    print(layout.format(*head))
    for row in rows:
        seconds = f"{row['began'] - start:.0f}-{row['ended'] - start:.0f}"
        asked = resources.of(row["kind"]) if row["kind"] else None
        gpus = 0 if asked is None else asked.gpus_per_worker
        kind = "" if asked is None or not asked.accelerator else f" {asked.accelerator}"
        numbers = ", ".join(map(str, row["gpus"])) or "-"
        place = (f"{gpus:g}{kind}", row["node"], f"{row['share']:g}", numbers)
        print(layout.format(seconds, row["process"], row["kind"] or "-", row["job"], *place))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each job")
    options = parser.parse_args()
    from tests.benchmarks.placed_jobs import PLACEMENTS

    with tempfile.TemporaryDirectory(prefix="placements-") as scratch:
        code, resources = sweep(Path(scratch), options.seconds)
        lines = (Path(scratch) / PLACEMENTS).read_text(encoding="utf-8").splitlines()
    rows = merged([json.loads(line) for line in lines])
    show(rows, resources)
    print("most of each GPU at a time:")
    for (node, gpu), most in most_taken(rows).items():
        print(f"  {node} {gpu}: {most:g}")
    problems = [*deviations(rows, resources), *([f"exit code {code}"] if code else [])]
    print("\n".join(problems) or "all as asked for")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

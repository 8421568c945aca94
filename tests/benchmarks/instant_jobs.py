"""Jobs that compute nothing and write small files, for `thousand_points.py`.

    driver: install(directory) --> trials run `run_trial`, passes run `run_pass` of this module
    trial:  the project's own trial and job, with a back end that writes what a point's row needs

`directory` holds `tasks.json` (task -> its metrics), and gets a file per job with the calls of the
storage that its process made. The job's sleep stands in the environment (`SLEEP`), as trials
inherit it; who writes `awake(label)` into the directory ends it. No trial imports torch.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.driver.jobs_on_ray import listener
from orchestrator.execution import job_run
from orchestrator.execution.failures import JobFailure
from orchestrator.execution.features import passes
from orchestrator.execution.features.stream import Room
from orchestrator.execution.job_steps import Progress, Settings, provenance_of
from orchestrator.execution.trials import trial
from orchestrator.monitoring.monitor import Monitor
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import DATA, EvaluationPass, Job, Plan
from orchestrator.recording.recorder import Records
from orchestrator.recording.request import JobResults, Request
from orchestrator.storage import provenance
from orchestrator.storage.files import Files
from orchestrator.storage.lease import Lease
from orchestrator.storage.sweep_requests import Inbox
from orchestrator.tracking.measured import LOSSES
from search_spaces import Measurement, Space

DIRECTORY: Final = "BRIDGESWEEP_BENCHMARK_DIRECTORY"
SLEEP: Final = "BRIDGESWEEP_BENCHMARK_SLEEP_S"
RECORDER: Final = "recorder.json"
"""What the recorder's process cost, in `DIRECTORY`."""
STEPS: Final = 10
SAMPLES: Final = 8
LOOK_S: Final = 0.1
"""Seconds between two looks of a job that sleeps whether it is woken."""
_COUNTED: Final = (
    *("write", "create", "exists", "is_file", "names", "read", "below", "read_all"),
    *("remove_tree", "remove", "upload", "download"),
)
storage_calls: Counter[str] = Counter()
"""Calls of this process at the layer of `Files`, by method."""


def count_storage_calls() -> None:
    """Count from now on; a call that another one makes counts, too."""
    for name in _COUNTED:
        setattr(Files, name, _counted(name, getattr(Files, name)))


def _counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        storage_calls[name] += 1
        return method(*arguments, **options)

    return call


def install(directory: Path) -> None:
    """Let the driver in this process run jobs that compute nothing.

    The environment holds `DIRECTORY` and `SLEEP` since before Ray's start.
    """
    from orchestrator.execution.trials import tune

    write_tasks(directory)
    tune.run_trial = run_trial  # type: ignore[attr-defined]
    passes.run_pass = run_pass  # type: ignore[attr-defined, assignment]


def awake(label: str) -> str:
    """The name of the file that ends the sleep of the job with a label."""
    return f"awake {label}"


def write_tasks(directory: Path) -> None:
    """Write the metrics of the tasks, which no worker imports torch for."""
    from trainables.tasks import TASKS

    tasks = {
        name: {metric.name: metric.of_set for metric in TASKS.get(name).metrics}
        for name in ("captioning", "vqa", "rec", "fewshot")
    }
    (directory / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")


def run_trial(config: Mapping[str, str], settings: Settings) -> None:
    """Run the project's trial with the back end of this module."""
    if not storage_calls:
        count_storage_calls()
        trial.warm_up = lambda space: None
        trial.backend_of = lambda settings, job: InstantBackend(settings)
        job_run._write_scenes = _write_scenes
    storage_calls.clear()
    storage_calls["jobs"] = 1
    trial_run(config, settings)
    if config[trial.JOB] != trial.WAIT:
        file = Path(os.environ[DIRECTORY], f"calls-{config[trial.JOB]}.json")
        file.write_text(json.dumps(storage_calls), encoding="utf-8")


trial_run = trial.run_trial


def _write_scenes(space: Space, job: Job, out: Path) -> None:
    (out / "scenes.json").write_text("{}", encoding="utf-8")


def run_pass(
    settings: Settings,
    jobs: Sequence[Job],
    room: Room,
    done: Callable[[str, JobFailure | None], None],
    *listeners: object,
) -> None:
    """Commit a small file for each job, in the driver."""
    for job in jobs:
        _commit_small_file(settings, job)
        done(job.key, None)


def run_here(
    request: Request,
    plan: Plan,
    monitor: Monitor,
    recorder: Records,
    lease: Lease,
    inbox: Inbox,
) -> JobResults:
    """Make all stages in this process, without Ray, in place of `run_on_ray`."""
    settings = Settings(plan.space, request.store.uri, plan.jobs, provenance.code())
    backend, listen = InstantBackend(settings), listener(plan, monitor, recorder)
    monitor.plan(plan.jobs, 1)
    for job in sorted(plan.jobs.values(), key=lambda job: job.wave):
        if job.kind in DATA or job.kind == "scenes":
            _commit_small_file(settings, job)
        else:
            backend.train(job, Path(), lease, lambda metrics: None)
            backend.evaluate(job, job.passes, lambda metrics: None)
        listen(JobEvent("finished", job.key))
    return JobResults(frozenset(plan.jobs), lanes=1)


def _commit_small_file(settings: Settings, job: Job) -> None:
    out = settings.store.new(job.stage.path)
    (out / "part-0.json").write_text("{}", encoding="utf-8")
    about = provenance_of(settings, job, job.stage, 0.0)
    settings.store.commit(job.stage.path, out, about)


class InstantBackend:
    """Writes what a trained and evaluated operating point has, at once or after a sleep."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._store = settings, settings.store
        self._sleep_s = float(os.environ[SLEEP])

    def train(self, job: Job, work: Path, lease: Lease, progress: Progress) -> None:
        """Report `STEPS` steps and commit the stage."""
        out, curve = self._store.new(job.stage.path), []
        for step in range(1, STEPS + 1):
            self._sleep(job)
            curve.append({"step": step, "steps": STEPS, "loss": 1 / step})
            progress(
                {"phase": "train", "steps": STEPS, "metrics": {"loss": 1 / step}, "step": step}
            )
        lines = "".join(json.dumps(row) + "\n" for row in curve)
        (out / "curve.jsonl").write_text(lines, encoding="utf-8")
        info = {"seconds": self._sleep_s, "steps": STEPS, "val_loss": 1 / STEPS}
        (out / "info.json").write_text(json.dumps(info), encoding="utf-8")
        about = provenance_of(self._settings, job, job.stage, self._sleep_s)
        self._store.commit(job.stage.path, out, about)

    def _sleep(self, job: Job) -> None:
        """Sleep for a step, unless somebody wakes the job."""
        file = Path(os.environ[DIRECTORY], awake(job.label))
        end = time.monotonic() + self._sleep_s / STEPS
        while (left := end - time.monotonic()) > 0 and not file.exists():
            time.sleep(min(left, LOOK_S))

    def evaluate(self, job: Job, passes: Sequence[EvaluationPass], progress: Progress) -> None:
        """Commit samples and means that rise with the rate."""
        for measurement, stage in job.evaluations:
            out = self._store.new(stage.path)
            write_evaluation(out, measurement, job)
            self._store.commit(stage.path, out, provenance_of(self._settings, job, stage, 0.0))


def write_evaluation(out: Path, measurement: Measurement, job: Job) -> None:
    """Write the files of an evaluation's stage."""
    tasks = json.loads(Path(os.environ[DIRECTORY], "tasks.json").read_text(encoding="utf-8"))
    rate, draw = job.subject.lmbda or 0.05, random.Random(job.key)
    if job.subject.point is not None:
        rate = job.subject.point.lmbda or 0.05
    quality = {"bpp": 10 * rate, "bpp_estimated": 10 * rate, "psnr": 25.0}
    rows, summary = [], {}
    for task in (measurement.task,):
        values = [min(1.0, 5 * rate + draw.random() / 2) for _ in range(SAMPLES)]
        mean = sum(values) / SAMPLES
        metrics = {name: mean for name, of_set in tasks[task].items() if not of_set}
        interval = {"value": mean, "low": mean - 0.1, "high": mean + 0.1}
        summary[task] = {
            **{"n_samples": SAMPLES, "pooled": 0.1, "tokens": 0.1, "metrics": metrics, **quality},
            "set_metrics": {name: interval for name, of_set in tasks[task].items() if of_set},
        }
        rows += [
            {
                **{"mllm": measurement.answerer, "task": task, "metric": metric, "value": value},
                **{"sample_id": f"{task}-{number}", "bpp": 10 * rate, "answer": "red"},
                **{"reference": '{"answer": "red"}', "prompt": "What?", "image_id": f"{number}"},
            }
            for metric in metrics
            for number, value in enumerate(values)
        ]
    pq.write_table(pa.Table.from_pylist(rows), out / "samples.parquet")
    (out / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    losses: dict[str, list[str]] = {loss: [] for loss in LOSSES}
    (out / "info.json").write_text(json.dumps(losses), encoding="utf-8")
    (out / "examples").mkdir()
    (out / "examples" / "examples.json").write_text("[]", encoding="utf-8")

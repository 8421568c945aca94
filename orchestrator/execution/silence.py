"""The limit of silence: a process whose work makes no progress writes down why and ends itself.

    work --progress--> watch --too long without--> log with all stacks, note in work/<key>/ --> exit
    whoever started the process --take_silence--> what it waited for

A note tells such an end from a crash or a kill.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Final

from orchestrator.execution.environment import environment_in
from orchestrator.execution.failures import (
    Cause,
    GaveUpError,
    JobFailure,
    cause_of,
    host_of,
    original,
    reason_of,
)
from orchestrator.execution.job_steps import (
    Json,
    Progress,
    Settings,
    evaluate_job,
    pass_name,
    waits_in,
    write_log,
)
from orchestrator.plan.jobs import EvaluationPass, Job, PassPart
from orchestrator.storage.store import Store

EXIT_CODE: Final = 75
"""Of a process that was silent for too long."""
WRITING_S: Final = 60.0
"""How long the log and the note may take to be written; the storage may be what is waited for."""
BACKSTOP_S: Final = 2 * WRITING_S
"""How much later than the limit the interpreter's timer ends the process."""
_STDERR: Final = 2


@contextlib.contextmanager
def watch(store: Store, job: Job, stage: str, limit_s: float) -> Iterator[Progress]:
    """End this process when the work in the context makes no progress for too long.

    Progress is a call of the function that it yields, or bytes that this process writes to new
    directories of the storage (`Store.new`), or that another process of this machine does which
    downloads a stage that the job reads, or reads one to compare its checksums. The interpreter's
    timer ends the process a little later even where the work lets no other Python thread run; there
    is no note then. That timer serves one watch per process.

    Args:
        job: whose log says what was waited for.
        stage: key of the stage that is made.
        limit_s: seconds without progress, above 0.

    Yields:
        A function to call at every sign of progress, with `phase`, `step` and `steps`.
    """
    _remove(store, _note(job.key, stage))
    watchdog = _Watchdog(store, job, stage, limit_s)
    try:
        yield watchdog.progress
    finally:
        watchdog.stop()


def evaluate_watched(
    settings: Settings,
    job: Job,
    evaluation_pass: EvaluationPass,
    progress: Progress,
    part: PassPart | None = None,
) -> None:
    """`evaluate_job`, in a `watch`; who has the work is waited for as long as they live."""
    store, name = settings.store, pass_name(evaluation_pass, part)
    limit_s = settings.space.resources.silence_s
    with (
        store.evaluation_work(job.key, name, waits_in(progress)) as (work, lease),
        watch(store, job, name, limit_s) as show_life,
    ):

        def report(metrics: Json) -> None:
            show_life(metrics)
            progress(metrics)

        evaluate_job(settings, job, evaluation_pass, work, lease, report, part)


def take_silence(store: Store, key: str, stage: str) -> str | None:
    """Why a process of a job ended itself, as a line; None if it did not. The note is removed.

    Args:
        key: of the job.
        stage: key of the stage, or of the pass of evaluations, that it made.
    """
    text = store.read(_note(key, stage))
    if text is None:
        return None
    _remove(store, _note(key, stage))
    return text.decode(errors="replace")


def failure_of(
    error: BaseException | None,
    nodes_before: frozenset[str],
    store: Store,
    key: str,
    *stages: str,
) -> JobFailure:
    """Why a job's process failed.

    Args:
        error, nodes_before: as of `cause_of`.
        key: of the job.
        stages: keys of what the process may have made: stages, and passes of evaluations.
    """
    first_error = None if error is None else original(error)
    if isinstance(first_error, GaveUpError):
        return first_error.failure
    cause = cause_of(error, nodes_before)
    if cause is Cause.PROCESS_DIED:
        for stage in stages:
            silence = take_silence(store, key, stage)
            if silence is not None:
                return JobFailure(Cause.SILENT, silence)
    environment = None
    if first_error is not None and cause in (Cause.UNREACHABLE, Cause.ERROR):
        environment = environment_in(first_error)
    host = "" if error is None else host_of(error)
    return JobFailure(cause, environment or reason_of(error, cause), environment, host)


class _Watchdog:
    """A thread that ends the process when `progress` is not called for too long."""

    def __init__(self, store: Store, job: Job, stage: str, limit_s: float) -> None:
        self._store, self._job, self._stage, self._limit_s = store, job, stage, limit_s
        self._bytes_written = 0
        self._latest = "before the first report"
        self._since = time.monotonic()
        self._over = threading.Event()
        self._arm_backstop()
        thread = threading.Thread(target=self._wait, name=f"silence {job.key}", daemon=True)
        thread.start()

    def progress(self, metrics: Json) -> None:
        """Start to wait anew."""
        self._latest = f"{metrics['phase']} step {metrics['step']} of {metrics['steps']}"
        self._begin()

    def stop(self) -> None:
        """Watch no longer."""
        self._over.set()
        faulthandler.cancel_dump_traceback_later()

    def _begin(self) -> None:
        self._since = time.monotonic()
        self._arm_backstop()

    def _arm_backstop(self) -> None:
        later = self._limit_s + BACKSTOP_S
        faulthandler.dump_traceback_later(later, exit=True, file=_STDERR)

    def _wait(self) -> None:
        while not self._over.wait(max(0.0, self._since + self._limit_s - time.monotonic())):
            if time.monotonic() - self._since < self._limit_s:
                continue
            bytes_before = self._bytes_written
            self._bytes_written = _bytes_written(self._store, self._job)
            if self._bytes_written != bytes_before:
                self._begin()
            else:
                self._end()

    def _end(self) -> None:
        text = f"no progress for {self._limit_s:g} s: {self._latest}"
        stacks = f"{text}\n{_stacks()}"
        writer = threading.Thread(target=self._write, args=(text, stacks), daemon=True)
        writer.start()
        writer.join(WRITING_S)
        print(stacks, file=sys.__stderr__, flush=True)
        os._exit(EXIT_CODE)

    def _write(self, text: str, stacks: str) -> None:
        self._store.write(_note(self._job.key, self._stage), text.encode())
        write_log(self._store, self._job, stacks)


def _stacks() -> str:
    """The stacks of all threads of this process."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )


def _bytes_written(store: Store, job: Job) -> int:
    """Bytes in new directories of this process, and of any that fetches what the job reads.

    Of the processes of a machine, one fetches a stage and the others wait for it. Further
    directories do not count: on a busy machine, one of them always grows.
    """
    reads = {*job.inputs.values(), *job.rates}
    reads |= {stage for made in job.stages for stage in made.inputs}
    patterns = [f"*.{os.getpid()}.*", *(f"{stage.key}.*" for stage in reads)]
    directories = {path for pattern in patterns for path in store.local("tmp").glob(pattern)}
    records = [store.verification(stage.path) for stage in reads]
    total = sum(record.stat().st_size for record in records if record.exists())
    for directory in directories:
        with contextlib.suppress(FileNotFoundError):  # it was moved or deleted just now
            for file in directory.rglob("*"):
                total += file.stat().st_size
    return total


def _remove(store: Store, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        store.fs.rm_file(store.path(name))


def _note(key: str, stage: str) -> str:
    return f"work/{key}/silent-{stage}.txt"

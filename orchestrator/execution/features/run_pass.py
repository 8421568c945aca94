"""A pass of Ray Data: a data set -> images -> teacher features and frozen latents -> Parquet.

    missing shards of all stages of a pass --> read --> compute --> write   (steps.py)
    all of a stage's shards complete --> unreadable.json (and a world's classes) --> manifest

A shard that is complete is never computed again, so a killed pass goes on where it was. Only
reports of shards come to this process, no data.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.execution.cluster import node_ids
from orchestrator.execution.environment import environment_in
from orchestrator.execution.failures import (
    Cause,
    JobFailure,
    Tries,
    cause_of,
    host_of,
    is_one_lost,
    reason_of,
)
from orchestrator.execution.features.shards import (
    INDEX,
    TEXT,
    FinishedShard,
    Shard,
    finished_shards,
    shards,
)
from orchestrator.execution.features.steps import Outcome
from orchestrator.execution.features.stopped import end_stopped
from orchestrator.execution.features.stream import Room, stream
from orchestrator.execution.job_steps import Settings, provenance_of, write_log
from orchestrator.execution.looking import looking
from orchestrator.execution.silence import BACKSTOP_S, take_silence
from orchestrator.plan.jobs import Job
from orchestrator.storage.lease import Lease, LeaseLostError, Waits
from orchestrator.storage.outage import patiently
from orchestrator.storage.store import FileEntry, PartsMissingError, Store

log = logging.getLogger(__name__)

Done = Callable[[str, JobFailure | None], None]
"""Called with a job's key and its failure, or None."""
ShardProgress = Callable[[str, int, int], None]
"""Called with a job's key, the number of complete shards and the number of all."""
Again = Callable[[str, str], None]
"""Called with the key of a job some of whose shards are tried again, and the reason."""
STOPPED_LOOK_S: Final = 10.0
"""Seconds between two looks whether processes must be looked for that the system has stopped."""
DIED: Final = JobFailure(
    Cause.PROCESS_DIED, "processes died (killed, or out of memory) with its shards"
)
LOST: Final = JobFailure(Cause.MACHINE_LOST, "a machine was lost with its shards")


@dataclass
class _OpenJob:
    """A job of a pass that is not over.

    Attributes:
        finished: complete shards, by name.
        failures: of shards in this round, by name.
        tries: of shards that have failed, by name: a long pass loses many processes, and goes on
            as long as it does not lose them with the same shards.
        apart: shards that a process was lost with, to be decoded in a process apart.
    """

    job: Job
    work: Path
    shards: list[Shard]
    finished: dict[str, FinishedShard] = field(default_factory=dict)
    failures: dict[str, JobFailure] = field(default_factory=dict)
    tries: dict[str, Tries] = field(default_factory=dict)
    apart: set[str] = field(default_factory=set)

    @property
    def missing(self) -> list[Shard]:
        """Shards that are not complete."""
        names = self.finished
        left = [shard for shard in self.shards if shard.name not in names]
        return [replace(shard, apart=shard.name in self.apart) for shard in left]


def run_pass(
    settings: Settings,
    jobs: Sequence[Job],
    room: Room,
    done: Done,
    progress: ShardProgress,
    again: Again,
    waits: Waits = lambda line: None,
) -> None:
    """Make the stages of `jobs`; blocks until each is committed or has failed for good.

    Args:
        room: what it may use of the cluster; may change meanwhile.
        done: called once per job.
        progress: called after every shard.
        again: called when a job goes on after failures.
        waits: called with what is waited for before anything is made.

    Raises:
        LeaseLostError: another process makes one of them by now.
    """
    # Of a thousand points a task of Ray Data must not carry all jobs.
    pass_settings = replace(settings, jobs={job.key: job for job in jobs})
    with settings.store.work_of((job.key for job in jobs), waits) as (work, leases):
        _Pass(pass_settings, jobs, work, leases, done, progress, again).run(room)


class _Pass:
    def __init__(
        self,
        settings: Settings,
        jobs: Sequence[Job],
        work: Mapping[str, Path],
        leases: Mapping[str, Lease],
        done: Done,
        progress: ShardProgress,
        again: Again,
    ) -> None:
        self._settings, self._store, self._leases = settings, settings.store, leases
        self._done, self._progress, self._again = done, progress, again
        self._open: dict[str, _OpenJob] = {}
        self._heard: set[tuple[str, str]] = set()
        """(key, name) of the shards that came to an end; others were lost with a process."""
        self._silent_since = time.monotonic()
        for job in jobs:
            if self._store.has(job.stage.path):
                done(job.key, None)
                continue
            self._open[job.key] = _OpenJob(job, work[job.key], shards(settings, job))
            if job.kind == "images":
                _write_index(settings, work[job.key], job.key, leases[job.key])

    def run(self, room: Room) -> None:
        """Compute and commit until every job is over."""
        while self._open:
            for opened in self._open.values():
                opened.failures.clear()
            nodes_before = node_ids()
            self._heard.clear()
            try:
                self._compute(room)
                if room.is_too_large or not self._open:
                    continue
                failure = LOST if is_one_lost(nodes_before) else DIED
            except LeaseLostError:
                raise  # no other round gets it back; another pass waits for its new holder
            except Exception as error:
                cause = cause_of(error, nodes_before)
                environment = environment_in(error)
                failure = JobFailure(cause, reason_of(error, cause), environment, host_of(error))
                for opened in self._open.values():
                    write_log(self._store, opened.job, traceback.format_exc())
            for opened in list(self._open.values()):
                self._add_lost(opened, failure)
                self._try_again_or_give_up(opened)

    def _compute(self, room: Room) -> None:
        """Compute what is missing, and commit each stage as soon as nothing is."""
        for opened in list(self._open.values()):
            # Also what another round wrote without being heard.
            names = {shard.name for shard in opened.shards}
            stored = finished_shards(self._store, opened.job.key)
            opened.finished |= {name: shard for name, shard in stored.items() if name in names}
            self._commit_if_complete(opened)
        missing = [shard for opened in self._open.values() for shard in opened.missing]
        if missing:
            self._silent_since = time.monotonic()
            with looking(self._end_stopped, STOPPED_LOOK_S, "stopped processes"):
                for shard, outcome in stream(self._settings, missing, room):
                    self._silent_since = time.monotonic()
                    self._record(shard, outcome)

    def _end_stopped(self) -> None:
        """End stopped processes, if nothing was heard of any shard for too long."""
        limit_s = self._settings.space.resources.silence_s + BACKSTOP_S
        if time.monotonic() - self._silent_since > limit_s:
            end_stopped()
            self._silent_since = time.monotonic()

    def _record(self, shard: Shard, outcome: Outcome) -> None:
        opened = self._open.get(shard.key)
        if opened is None:
            return
        self._heard.add((shard.key, shard.name))
        if outcome.finished is None:
            assert outcome.failure is not None
            is_new = outcome.failure not in opened.failures.values()
            opened.failures[shard.name] = failure = outcome.failure
            if is_new:
                write_log(self._store, opened.job, outcome.error)
            if failure.cause is Cause.ERROR:
                self._give_up(opened, failure)
            return
        opened.finished[shard.name] = outcome.finished
        self._progress(shard.key, len(opened.finished), len(opened.shards))
        self._commit_if_complete(opened)

    def _commit_if_complete(self, opened: _OpenJob) -> None:
        if opened.missing:
            return
        key, reason = opened.job.key, None
        for lease in self._leases.values():
            lease.check()
        try:
            if not self._store.has(opened.job.stage.path):
                reason = _commit(self._settings, self._store, opened)
        except PartsMissingError as error:
            self._forget(opened, error)
            return
        except Exception as error:  # what other stages lack is computed all the same
            write_log(self._store, opened.job, traceback.format_exc())
            opened.failures[""] = JobFailure.of_caught(error)
            return
        if reason is None:
            self._remove_work(key)
        del self._open[key]
        self._done(key, None if reason is None else JobFailure(Cause.ERROR, reason))

    def _remove_work(self, key: str) -> None:
        try:
            self._store.remove_work(key)
        except Exception as error:  # the stage is complete; the sweep's end cleans once more
            log.info("the work of %s was not removed: %s", key, error)

    def _forget(self, opened: _OpenJob, error: PartsMissingError) -> None:
        """Make shards again whose files are gone."""
        gone = [shard for shard in opened.shards if shard.file_name(opened.job) in error.names]
        self._store.remove([shard.report_path for shard in gone])
        for shard in gone:
            del opened.finished[shard.name]
            opened.failures[shard.name] = JobFailure(Cause.UNREACHABLE, str(error))
            self._heard.add((shard.key, shard.name))

    def _add_lost(self, opened: _OpenJob, failure: JobFailure) -> None:
        """Add the failures of the shards that no step has said anything of.

        Args:
            failure: of the round.
        """
        key, missing = opened.job.key, opened.missing
        if not missing:  # it could not be committed
            opened.failures.setdefault("", failure)
        for shard in missing:
            if (key, shard.name) in self._heard:
                continue
            opened.failures[shard.name] = failure
            if failure.cause is Cause.PROCESS_DIED:
                opened.apart.add(shard.name)
                silence = take_silence(self._store, key, shard.name)
                if silence is not None:
                    opened.failures[shard.name] = JobFailure(Cause.SILENT, silence)

    def _try_again_or_give_up(self, opened: _OpenJob) -> None:
        max_failures = self._settings.space.resources.max_failures
        for name, failure in opened.failures.items():
            if not opened.tries.setdefault(name, Tries(max_failures)).again(failure.cause):
                self._give_up(opened, failure)
                return
        if any(failure.cause is Cause.UNREACHABLE for failure in opened.failures.values()):
            patiently(lambda: self._store.exists("logs"))
        reason = next(iter(opened.failures.values())).reason
        write_log(self._store, opened.job, f"tried again: {reason}")
        self._again(opened.job.key, reason)

    def _give_up(self, opened: _OpenJob, failure: JobFailure) -> None:
        del self._open[opened.job.key]
        log = self._store.path("logs", f"{opened.job.key}.log")
        self._done(opened.job.key, replace(failure, reason=f"{failure.reason} (log: {log})"))


def _write_index(settings: Settings, work: Path, key: str, lease: Lease) -> None:
    """Write the list of the data set's images for the tasks that read them."""
    from trainables.datasets.images.convert import write_index
    from trainables.datasets.images.files import remove
    from trainables.datasets.images.source import read_source

    source = read_source(settings.space.data)
    remove(work / INDEX)  # whatever others have put in the place of its files
    write_index(source, work / INDEX)
    if settings.store.remote:
        settings.store.save_work(key, work / INDEX, INDEX, lease)


def _commit(settings: Settings, store: Store, opened: _OpenJob) -> str | None:
    """Commit a stage whose shards are complete.

    Returns:
        Why it failed, if too many images were unreadable; else None.
    """
    job = opened.job
    complete = [(shard, opened.finished[shard.name]) for shard in opened.shards]
    unreadable = [
        [shard.split, *entry]
        for shard, finished in complete
        for entry in finished.report.unreadable
    ]
    rows, treated = Counter[str](), Counter[str]()
    for shard, finished in complete:
        rows[shard.split] += finished.report.images
        treated.update(finished.report.treated)
    failure = _too_many_unreadable(settings, store, job, rows, unreadable)
    if failure is not None:
        return failure
    parts = {shard.file_name(job): finished.file for shard, finished in complete}
    seconds = sum(finished.seconds for _, finished in complete)
    manifest = provenance_of(settings, job, job.stage, seconds)
    manifest |= {"images": rows.total(), "unreadable": len(unreadable)}
    out = store.new(job.stage.path)
    (out / "unreadable.json").write_text(json.dumps(unreadable, indent=1), encoding="utf-8")
    if job.kind == "images":
        manifest |= {"rows": dict(rows), "treated": dict(treated)}
        manifest |= _complete_world(settings, store, job, parts, out)
    store.commit_parts(job.stage.path, job.key, parts, out, manifest)
    return None


def _too_many_unreadable(
    settings: Settings,
    store: Store,
    job: Job,
    rows: Counter[str],
    unreadable: Sequence[Sequence[str]],
) -> str | None:
    """Why a stage fails that has more unreadable images than allowed, or an empty split.

    Args:
        rows: readable images of each split.
        unreadable: (split, image, reason) each.
    """
    images = rows.total() + len(unreadable)
    share, allowed = len(unreadable) / max(1, images), settings.space.data.max_unreadable
    empty = [split for split, count in rows.items() if not count and split != TEXT]
    if share <= allowed and not empty:
        return None
    listed = "\n".join(f"{split} {image}: {reason}" for split, image, reason in unreadable)
    log = write_log(store, job, f"unreadable images:\n{listed}")
    return (
        f"{len(unreadable)} of {images} images are unreadable "
        f"({share:.1%}), data.max_unreadable is {allowed:.1%}"
        + (f"; none of {' and '.join(empty)} is left" if empty else "")
        + f" (log: {log})"
    )


def _complete_world(
    settings: Settings, store: Store, job: Job, parts: Mapping[str, FileEntry], out: Path
) -> dict[str, object]:
    """Write the classes, and of test images the samples, of images that are complete.

    Returns:
        What its manifest records of the data set.
    """
    from trainables.datasets.images.convert import write_classes, write_image_samples
    from trainables.datasets.images.source import read_source
    from trainables.tasks import image_tasks

    def test_images() -> Iterator[pa.Table]:
        """Names and classes: of the parts' bytes, these columns alone are read."""
        for name, entry in parts.items():
            if name.startswith("images_test/"):
                with store.fs.open(store.part_path(job.stage.path, job.key, entry)) as file:
                    yield pq.read_table(file, columns=["image_id", "classes"])

    source = read_source(settings.space.data)
    write_classes(out, source.classes)
    if job.stage.kind == "test_images":
        write_image_samples(out, test_images(), list(source.classes.values()), image_tasks())
    return {"origins": dict(source.origins), "ignored": list(source.ignored)}

"""A pass of Ray Data: a data set -> images -> teacher features and frozen latents -> Parquet.

    shards of all stages of a pass --> actors (feature_shards.py) --> work/<key>/
    all of a stage's shards complete --> unreadable.json (and a world's classes) --> commit stage

A shard that is complete is never computed again, so a killed pass goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from orchestrator.execution.cluster import node_ids
from orchestrator.execution.failures import Cause, Tries, cause_of, reason_of
from orchestrator.execution.feature_shards import (
    INDEX,
    TEXT,
    Extractor,
    Shard,
    TimedReport,
    needs_gpu,
    shards,
)
from orchestrator.execution.job_steps import Settings, provenance_of, write_log
from orchestrator.plan.jobs import Job
from orchestrator.plan.resources import DATA_CPUS
from orchestrator.storage.store import Store

Done = Callable[[str, str | None], None]
"""Called with a job's key and the reason why it failed, or None."""
ShardProgress = Callable[[str, int, int], None]
"""Called with a job's key, the number of complete shards and the number of all."""


Failure = tuple[Cause, str]
"""Of a job: why, and a line about it."""
ENDED: Final = (Cause.PROCESS_DIED, "Ray Data ended without its shards")


def pool_size(jobs: Iterable[Job], cpus: float, gpu: bool) -> int:
    """Actors of a pass: a model on each GPU or pair of cores, images on every core."""
    if not needs_gpu(jobs):
        return max(1, int(cpus))
    return 1 if gpu else max(1, int(cpus) // 2)


def run_pass(
    settings: Settings, jobs: Sequence[Job], actors: int, done: Done, progress: ShardProgress
) -> None:
    """Make the stages of `jobs`; blocks until each is committed or has failed for good.

    Args:
        actors: how many compute at a time.
        done: called once per job.
        progress: called after every shard.
    """
    store, max_failures = settings.store, settings.space.resources.max_failures
    tries = {job.key: Tries(max_failures) for job in jobs}
    with store.work_of(job.key for job in jobs) as work:
        left = list(jobs)
        while left:
            failed: dict[str, Failure] = {}
            for job in tuple(left):
                if store.has(job.stage.path):
                    left.remove(job)
                    done(job.key, None)
            nodes_before = node_ids()
            try:
                for job, failure in _compute(settings, store, tuple(left), work, actors, progress):
                    if failure is None:
                        left.remove(job)
                        done(job.key, None)
                    else:
                        failed[job.key] = failure
            except Exception as error:
                text, cause = traceback.format_exc(), cause_of(error, nodes_before)
                for job in left:
                    write_log(store, job, text)
                    failed.setdefault(job.key, (cause, reason_of(error, cause)))
            for job in tuple(left):
                cause, reason = failed.get(job.key, ENDED)
                if not tries[job.key].again(cause):
                    left.remove(job)
                    done(job.key, reason)


def _compute(
    settings: Settings,
    store: Store,
    jobs: Sequence[Job],
    work: Mapping[str, Path],
    actors: int,
    progress: ShardProgress,
) -> Iterable[tuple[Job, Failure | None]]:
    """Run the missing shards; yields each job as soon as it is complete or has failed."""
    open_jobs: dict[str, tuple[Job, int]] = {}
    missing: dict[str, int] = {}
    todo: list[Shard] = []
    for job in jobs:
        all_shards = shards(settings, job)
        job_todo = [shard for shard in all_shards if TimedReport.read(store, shard) is None]
        todo += job_todo
        missing[job.key] = len(job_todo)
        open_jobs[job.key] = (job, len(all_shards))
        if not job_todo:
            yield job, _commit(settings, store, work[job.key], job)
    if not todo:
        return
    for job in jobs:
        if job.kind == "images":
            _write_index(settings, work[job.key], job.key)
    for key, error, cause in _stream(settings, todo, actors):
        if key not in open_jobs:
            continue
        job, total = open_jobs[key]
        if error:
            log = write_log(store, job, error)
            del open_jobs[key]
            yield job, (Cause(cause), f"{error.strip().splitlines()[-1]} (log: {log})")
            continue
        missing[key] -= 1
        progress(key, total - missing[key], total)
        if missing[key] == 0:
            del open_jobs[key]
            yield job, _commit(settings, store, work[job.key], job)


def _stream(
    settings: Settings, todo: Sequence[Shard], actors: int
) -> Iterable[tuple[str, str, str]]:
    """Compute shards; yields (key of the job, traceback or '', cause or '') as they are done."""
    import ray.data  # seconds, and only where there is a pass

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    gpus = 0.0
    if needs_gpu(settings.jobs[shard.key] for shard in todo):
        gpus = settings.space.resources.gpus_per_worker
    rows = [asdict(shard) for shard in todo]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Extractor,
        fn_constructor_args=(settings,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(rows))),
        num_cpus=DATA_CPUS,
        num_gpus=gpus or None,
    )
    for row in dataset.iter_rows():
        yield str(row["key"]), str(row["error"]), str(row["cause"])


def _write_index(settings: Settings, work: Path, key: str) -> None:
    """Write the list of the data set's images for the actors."""
    from trainables.datasets.images.convert import write_index
    from trainables.datasets.images.source import read_source

    write_index(read_source(settings.space.data), work / INDEX)
    if settings.store.remote:
        settings.store.save_work(key, work / INDEX, INDEX)


def _commit(settings: Settings, store: Store, work: Path, job: Job) -> Failure | None:
    """Commit a stage whose shards are complete.

    Returns:
        Why it failed, if too many images were unreadable; else None.
    """
    reports: list[tuple[Shard, TimedReport]] = []
    for shard in shards(settings, job):
        timed = TimedReport.read(store, shard)
        assert timed is not None
        reports.append((shard, timed))
    unreadable = [
        [shard.split, *entry] for shard, timed in reports for entry in timed.report.unreadable
    ]
    rows, treated = Counter[str](), Counter[str]()
    for shard, timed in reports:
        rows[shard.split] += timed.report.images
        treated.update(timed.report.treated)
    failure = _too_many_unreadable(settings, store, job, rows, unreadable)
    if failure is not None:
        return Cause.ERROR, failure
    out = store.new(job.stage.path)
    for shard, _ in reports:
        name = shard.file_name(job)
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if store.remote:
            store.fs.get_file(store.path("work", job.key, name), str(target))
        else:
            _link(work / name, target)
    (out / "unreadable.json").write_text(json.dumps(unreadable, indent=1), encoding="utf-8")
    manifest = provenance_of(settings, job.stage, sum(timed.seconds for _, timed in reports))
    manifest |= {"images": rows.total(), "unreadable": len(unreadable)}
    if job.kind == "images":
        manifest |= {"rows": dict(rows), "treated": dict(treated)}
        manifest |= _complete_world(settings, out)
    store.commit(job.stage.path, out, manifest)
    if store.remote:
        store.remove_work(job.key)
    else:
        shutil.rmtree(work, ignore_errors=True)
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


def _complete_world(settings: Settings, out: Path) -> dict[str, object]:
    """Write the classes and samples of a world whose images are complete.

    Returns:
        What its manifest records of the data set.
    """
    from trainables.datasets.images.convert import finish_world
    from trainables.datasets.images.source import read_source
    from trainables.tasks import image_tasks

    source = read_source(settings.space.data)
    finish_world(out, source.classes, image_tasks(settings.space.tasks))
    return {"origins": dict(source.origins), "ignored": list(source.ignored)}


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy(source, target)

"""Ray Data: a data set -> images -> teacher features and frozen latents -> Parquet, by shards.

    shards of all stages of a pass --> actors, each holding teacher and codec --> work/<key>/
        {train,val}/part-00000.parquet + reports/train-00000.json      (each written atomically)
    all of a stage's shards there --> unreadable.json (and a world's classes) --> commit stage

A shard that has its report is never computed again, so a killed pass goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.execution.worker import Settings, about, inputs_of, write_log
from orchestrator.plan.jobs import Job
from orchestrator.plan.resources import DATA_CPUS
from orchestrator.storage.provenance import image_counts
from orchestrator.storage.store import Store
from search_spaces import Space
from trainables.datasets.images.image_store import ShardReport

SPLITS = ("train", "val")
INDEX = "index"
Done = Callable[[str, str | None], None]
"""Called with a job's key and the reason why it failed, or None."""


def shards(settings: Settings, job: Job) -> list[dict[str, Any]]:
    """Descriptors of a stage's shards; text weights are one."""
    if job.kind == "text":
        return [{"key": job.key, "split": "text", "number": 0, "start": 0, "stop": 0}]
    size = settings.space.data.shard_size
    if job.kind == "images":
        from trainables.datasets.images.convert import PART_ROWS as size  # noqa: N811
    found = []
    for split, rows in _rows(settings, job).items():
        for number, start in enumerate(range(0, rows, size)):
            stop = min(start + size, rows)
            found.append(
                {"key": job.key, "split": split, "number": number, "start": start, "stop": stop}
            )
    return found


def _rows(settings: Settings, job: Job) -> dict[str, int]:
    """Rows of each split that a stage is made from."""
    data = settings.space.data
    if data.kind == "scenes" or job.kind == "images":
        counts = image_counts(data)
    else:
        # Unreadable images have no rows in it.
        counts = settings.store.manifest(job.inputs["world"].path)["rows"]
    return counts if job.kind == "images" else {split: counts[split] for split in SPLITS}


def needs_gpu(jobs: Iterable[Job]) -> bool:
    """Whether a pass computes with models."""
    return any(job.kind != "images" for job in jobs)


def pool_size(jobs: Iterable[Job], cpus: float, gpu: bool) -> int:
    """Actors of a pass: a model on each GPU or pair of cores, images on every core."""
    if not needs_gpu(jobs):
        return max(1, int(cpus))
    return 1 if gpu else max(1, int(cpus) // 2)


def run_pass(
    settings: Settings,
    jobs: Sequence[Job],
    pool: int,
    done: Done,
    progress: Callable[[str, int, int], None],
) -> None:
    """Make the stages of `jobs`; blocks until each is committed or has failed.

    Args:
        pool: actors.
        done: told about every job once.
        progress: told (key, shards done, shards in all).
    """
    store, attempts = settings.store, settings.space.resources.max_failures + 1
    with contextlib.ExitStack() as locks:
        # Two sweeps may share stages; taking the locks in one order keeps them from a deadlock.
        work = {job.key: locks.enter_context(store.work(job.key)) for job in sorted_by_key(jobs)}
        left = list(jobs)
        for attempt in range(attempts):
            failed: dict[str, str] = {}
            for job in list(left):
                if store.has(job.stage.path):
                    left.remove(job)
                    done(job.key, None)
            try:
                for job, reason in _compute(settings, store, left, work, pool, progress):
                    if reason is None:
                        left.remove(job)
                        done(job.key, None)
                    else:
                        failed[job.key] = reason
            except Exception as error:
                text = traceback.format_exc()
                for job in left:
                    write_log(store, job, text)
                    failed.setdefault(job.key, f"{type(error).__name__}: {error}")
            if not left or attempt == attempts - 1:
                break
        for job in left:
            done(job.key, failed.get(job.key, "Ray Data ended without its shards"))


def sorted_by_key(jobs: Iterable[Job]) -> list[Job]:
    """Jobs in the order of their keys."""
    return sorted(jobs, key=lambda job: job.key)


def _compute(
    settings: Settings,
    store: Store,
    jobs: Sequence[Job],
    work: Mapping[str, Path],
    pool: int,
    progress: Callable[[str, int, int], None],
) -> Iterable[tuple[Job, str | None]]:
    """Run the missing shards; yields each job as soon as it is complete or has failed."""
    open_: dict[str, tuple[Job, int]] = {}
    missing: dict[str, int] = {}
    todo: list[dict[str, Any]] = []
    for job in jobs:
        wanted = shards(settings, job)
        gone = [shard for shard in wanted if _read_report(store, work, shard) is None]
        todo += gone
        missing[job.key] = len(gone)
        open_[job.key] = (job, len(wanted))
        if not gone:
            yield _finish(settings, store, work, job)
    if not todo:
        return
    for job in jobs:
        if job.kind == "images":
            _write_index(settings, work[job.key], job.key)
    for row in _stream(settings, todo, pool):
        key = row["key"]
        if key not in open_:
            continue
        job, total = open_[key]
        if row["error"]:
            log = write_log(store, job, row["error"])
            del open_[key]
            yield job, f"{row['error'].strip().splitlines()[-1]} (log: {log})"
            continue
        missing[key] -= 1
        progress(key, total - missing[key], total)
        if missing[key] == 0:
            del open_[key]
            yield _finish(settings, store, work, job)


def _stream(settings: Settings, todo: list[dict[str, Any]], pool: int) -> Iterable[dict[str, Any]]:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    gpus = 0.0
    if needs_gpu(settings.jobs[shard["key"]] for shard in todo):
        gpus = settings.space.resources.gpus_per_worker
    dataset = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        Extractor,
        fn_constructor_args=(settings,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(pool, len(todo))),
        num_cpus=DATA_CPUS,
        num_gpus=gpus or None,
    )
    yield from dataset.iter_rows()


class Extractor:
    """One actor of the pool: computes shards, holding the models it has needed so far."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models: dict[str, Any] = {}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Compute the shard that a batch of one row describes."""
        shard = {name: values[0] for name, values in batch.items()}
        key, split = str(shard["key"]), str(shard["split"])
        error = ""
        try:
            self._run(
                self._settings.jobs[key],
                split,
                int(shard["number"]),
                (int(shard["start"]), int(shard["stop"])),
            )
        except Exception:
            # One stage's failure must not end the pass for the others.
            error = traceback.format_exc()
        return {"key": [key], "error": [error]}

    def _run(self, job: Job, split: str, number: int, rows: tuple[int, int]) -> None:
        store = self._settings.store
        name = _part(job, split, number)
        write = self._writer(job, split)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            # A local storage gets the file where it belongs, by the writer's own atomic rename.
            base = Path(scratch) if store.remote else Path(store.path("work", job.key))
            out = base / name
            out.parent.mkdir(parents=True, exist_ok=True)
            report = write(rows, out)
            if store.remote:
                store.put_file(out, f"work/{job.key}/{name}")
        report["seconds"] = time.monotonic() - began
        store.write(f"work/{job.key}/{_report(split, number)}", json.dumps(report).encode())

    def _writer(self, job: Job, split: str) -> Callable[[tuple[int, int], Path], dict[str, Any]]:
        """What writes rows [start, stop) of a split to a file and tells what became of them."""
        if job.key not in self._models:
            self._models.clear()
        if job.kind == "images":
            images = self._models.get(job.key) or self._images(job)
            self._models[job.key] = images
            return lambda rows, out: asdict(images(split, rows, out))
        import torch

        from trainables.encoders.text_embeddings import write_text_weights

        space, inputs = self._settings.space_of(job), inputs_of(self._settings.store, job)
        torch.set_num_threads(space.resources.cpus_per_worker)
        if split == "text":

            def write_text(rows: tuple[int, int], out: Path) -> dict[str, Any]:
                write_text_weights(space, inputs.world, out, _device(space))
                return asdict(ShardReport(0, []))

            return write_text
        model = self._models.get(job.key) or self._model(job, inputs)
        self._models[job.key] = model
        return lambda rows, out: asdict(model(inputs.world, split, rows, out))

    def _images(self, job: Job) -> Any:
        from trainables.datasets.images.convert import ImageShards

        store = self._settings.store
        index = Path(store.path("work", job.key)) / INDEX
        if store.remote:
            index = store.local("work", job.key, f"{INDEX}-{os.getpid()}")
            if not index.exists():
                store.load_work(job.key, INDEX, index)
        return ImageShards(self._settings.space.data, index)

    def _model(self, job: Job, inputs: Any) -> Any:
        from trainables.training.precompute import CodecLatents, TeacherFeatures

        device = _device(self._settings.space)
        if job.codec is None:
            return TeacherFeatures(self._settings.space_of(job), device)
        return CodecLatents(job.codec, inputs.codec, device)


def _write_index(settings: Settings, work: Path, key: str) -> None:
    """Say to the actors which images there are."""
    from trainables.datasets.images.convert import write_index
    from trainables.datasets.images.source import read_source

    write_index(read_source(settings.space.data), work / INDEX)
    if settings.store.remote:
        settings.store.save_work(key, work / INDEX, INDEX)


def _finish_images(settings: Settings, out: Path) -> dict[str, Any]:
    """Complete a world whose parts are there; what its manifest says of the data set."""
    from trainables.datasets.images.convert import finish_world
    from trainables.datasets.images.source import read_source

    source = read_source(settings.space.data)
    finish_world(out, dict(source.classes))
    return {"origins": dict(source.origins), "ignored": list(source.ignored)}


def _device(space: Space) -> str:
    return "cuda" if space.resources.gpus_per_worker else "cpu"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy(source, target)


def _part(job: Job, split: str, number: int) -> str:
    if split == "text":
        return "text.safetensors"
    folder = f"images_{split}" if job.kind == "images" else split
    return f"{folder}/part-{number:05d}.parquet"


def _report(split: str, number: int) -> str:
    return f"reports/{split}-{number:05d}.json"


def _read_report(
    store: Store, work: Mapping[str, Path], shard: Mapping[str, Any]
) -> dict[str, Any] | None:
    text = store.read(f"work/{shard['key']}/{_report(shard['split'], shard['number'])}")
    return None if text is None else json.loads(text)


def _finish(
    settings: Settings, store: Store, work: Mapping[str, Path], job: Job
) -> tuple[Job, str | None]:
    """Commit a stage whose shards are all there, unless too many images were unreadable."""
    seconds, unreadable = 0.0, []
    rows: Counter[str] = Counter()
    treated: Counter[str] = Counter()
    for shard in shards(settings, job):
        report = _read_report(store, work, shard)
        assert report is not None
        rows[shard["split"]] += report["images"]
        treated.update(report["treated"])
        seconds += report["seconds"]
        unreadable += [[shard["split"], *entry] for entry in report["unreadable"]]
    images = rows.total()
    share = len(unreadable) / max(1, images + len(unreadable))
    allowed = settings.space.data.max_unreadable
    lost = [split for split, count in rows.items() if not count and split != "text"]
    if share > allowed or lost:
        listed = "\n".join(f"{split} {image}: {why}" for split, image, why in unreadable)
        log = write_log(store, job, f"unreadable images:\n{listed}")
        return job, (
            f"{len(unreadable)} of {images + len(unreadable)} images are unreadable "
            f"({share:.1%}), data.max_unreadable is {allowed:.1%}"
            + (f"; none of {' and '.join(lost)} is left" if lost else "")
            + f" (log: {log})"
        )
    out = store.new(job.stage.path)
    for shard in shards(settings, job):
        name = _part(job, shard["split"], shard["number"])
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if store.remote:
            store.fs.get_file(store.path("work", job.key, name), str(target))
        else:
            _link(work[job.key] / name, target)
    (out / "unreadable.json").write_text(json.dumps(unreadable, indent=1), encoding="utf-8")
    told = {**about(settings, job.stage, seconds), "images": images, "unreadable": len(unreadable)}
    if job.kind == "images":
        told |= {"rows": dict(rows), "treated": dict(treated), **_finish_images(settings, out)}
    store.commit(job.stage.path, out, told)
    if store.remote:
        store.done_with(job.key)
    else:
        shutil.rmtree(work[job.key], ignore_errors=True)
    return job, None

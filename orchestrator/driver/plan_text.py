"""The text of `--plan`: what a sweep would run, and what it would need."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from math import isnan, sqrt
from statistics import NormalDist

from rich.filesize import decimal

from orchestrator.driver.plan_sizes import encoder_of, planned_beside, planned_size, test_images
from orchestrator.monitoring.status import lease_watch
from orchestrator.plan.forecast import (
    ACTIVITIES,
    TRAINED,
    Activity,
    activity,
    forecast,
    training_of,
)
from orchestrator.plan.history import MOST_READ, History
from orchestrator.plan.jobs import WAVES, Job, Plan
from orchestrator.plan.past_sweeps import PastSweeps
from orchestrator.plan.reasons import Reasons
from orchestrator.plan.resources import ask_of, kinds_by_ask
from orchestrator.steering.words import number_of
from orchestrator.storage.lease_files import Standing
from orchestrator.storage.provenance import CHECKSUMS, benchmark_images, fingerprints
from orchestrator.storage.store import Store
from orchestrator.validation.mllm_towers import served
from orchestrator.validation.teachers import grids, teacher_sizes
from search_spaces import OperatingPoint, Space, operating_points
from search_spaces.facts.tasks import TASK_FACTS, encoder_tasks

_MOST_CHANGES = 4
"""Changed settings that a line names."""
_PILOTS, _PILOT_POINTS = 3, 300
"""Earlier sweeps that are looked at for their intervals, and operating points of one: seconds."""
_ADAM_COPIES = 3
"""A checkpoint holds the weights and Adam's two moments."""


def overview(space: Space, points: Sequence[OperatingPoint], store: Store, name: str) -> str:
    """What runs and why again, resources, time and storage to come; writes nothing."""
    prints = fingerprints(space, store.local(CHECKSUMS), may_write=False)
    plan, whole = Plan(space, points, prints, store), Plan(space, points, prints, None)
    all_points = operating_points(space)
    everything = whole if len(points) == len(all_points) else Plan(space, all_points, prints, None)
    history, sweeps = History(store), PastSweeps(store)
    done = sum(plan.is_complete(p) for p in points)
    activities = {key: activity(plan, job) for key, job in whole.jobs.items()}
    lines = [
        f"sweep {name} in {store.uri}",
        *_running(store, name),
        f"{number_of(len(points))}, {done} of them complete; "
        f"{len(plan.jobs)} of {len(whole.jobs)} jobs to run: {_counted(activities.values())}",
        *_variants(space, points),
    ]
    lines += [*_data_set(space), *_benchmarks(space), *_rates(space), *metrics_lacking(space)]
    for number, wave in enumerate(WAVES):
        jobs = [job for job in whole.jobs.values() if job.wave == number]
        if jobs:
            counts = _counted(activities[job.key] for job in jobs)
            lines.append(f"\nwave {number + 1}: {wave}: {counts}")
            lines += [f"  {activities[job.key]:<7}  {job.label}" for job in jobs]
    lines += _made_again(plan, everything, history)
    if space.search is not None:
        over = ", ".join(f"{p} in {list(r.ends)}" for p, r in space.search.over.items())
        lines.append(f"\nthen {space.search.trials} trials by {space.search.algorithm}: {over}")
    lines += [
        "",
        *_necks(space),
        *_asks(space, whole.jobs.values()),
        *_tries(space.resources.max_failures),
        *_estimate(space, plan, name, sweeps, history),
        *(_precision(space, name, store, sweeps) if plan.jobs else []),
    ]
    return "\n".join(lines)


def _running(store: Store, name: str) -> list[str]:
    """Who runs the sweep now, and what the command would then do."""
    watch = lease_watch(store, name)
    standing = watch.look()
    if standing is Standing.FREE:
        return []
    doubt = "" if standing is Standing.ALIVE else ", unless that has died"
    return [
        f"it is being run by {watch.holder}{doubt}: without --plan, this command adds to it the "
        "points that it lacks"
    ]


def _asks(space: Space, jobs: Iterable[Job]) -> list[str]:
    """What the jobs of each kind ask of the cluster; kinds that ask for the same share a line."""
    lines = []
    for resources, names in kinds_by_ask(space, jobs).items():
        workers = resources.workers_per_point
        process = f" in {workers} workers each" if workers else " in the trial's process"
        lines.append(f"{', '.join(names)}: {ask_of(resources)}{process}")
    return lines


def _tries(max_failures: int) -> list[str]:
    """How often what fails is tried again; `Tries` in execution/failures.py counts it."""
    times = f"{max_failures} time{'' if max_failures == 1 else 's'} at the most"
    return [
        f"tried again after a failure: {times}, each job, evaluation pass and shard for itself",
        "  (a lost machine costs no try; out of memory: once more; error of code or data: never)",
    ]


def _counted(activities: Iterable[Activity]) -> str:
    """How many jobs do what."""
    counts = Counter(activities)
    return ", ".join(f"{counts[name]} {name}" for name in ACTIVITIES if counts[name])


def _variants(space: Space, points: Sequence[OperatingPoint]) -> list[str]:
    if not space.variants:
        return []
    shared = sum(not point.variant for point in points)
    width = max(map(len, space.variants))
    lines = [f"\n{len(space.variants)} variants; {shared} of the points are shared by all of them"]
    for name, settings in space.variants.items():
        changes = ", ".join(f"{path} = {json.dumps(value)}" for path, value in settings.items())
        lines.append(f"  {name:<{width}}  {changes or 'no changed setting'}")
    return lines


def _data_set(space: Space) -> list[str]:
    """The images of a data set that are used; no line where scenes are made."""
    if space.data.is_made:
        return []
    from trainables.datasets.images.source import read_source

    source, size = read_source(space.data), space.data.size
    counts = [
        f"{source.count(split)} {split}{' images' if split == 'train' else ''}"
        + (f" (of {origin!r})" if (origin := source.origins[split]) else "")
        for split in source.index
    ]
    names, ignored = list(source.classes.values()), source.ignored
    lines = [f"data set: {', '.join(counts)}, each kept as {size} x {size} PNG"]
    classes = f"{len(names)} class{'' if len(names) == 1 else 'es'}"
    if names:
        classes += f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
    if ignored:
        verb = "other file is" if len(ignored) == 1 else "other files are"
        some = ", ".join(ignored[:3]) + (", ..." if len(ignored) > 3 else "")
        classes += f"; {len(ignored)} {verb} ignored ({some})"
    seen = encoder_tasks(space.tasks) if any(s.trains_on_classes for s in space.expanded) else ()
    return [
        *lines,
        f"  {classes}",
        *(f"  {task} is not zero-shot: the cross-entropy trains on its classes" for task in seen),
    ]


def _benchmarks(space: Space) -> list[str]:
    """The samples of the benchmarks that are used."""
    if not space.benchmarks:
        return []
    from trainables.datasets.benchmarks.read import read_benchmark

    lines = []
    for spec in space.benchmarks:
        benchmark = read_benchmark(spec)
        samples = len(benchmark.items)
        images = benchmark_images(spec)
        line = f"benchmark {spec.label}: task {spec.task}, {samples} samples of {images} images"
        left_out = [f"{reason} ({count})" for reason, count in benchmark.left_out.items()]
        lines.append(line + (f"; left out: {', '.join(left_out)}" if left_out else ""))
        lines += [f"  {spec.remark}"] if spec.remark else []
    return lines


def _rates(space: Space) -> list[str]:
    """What the bits per pixel of prompts with several images are."""
    tasks = dict.fromkeys(m.task for m in space.measurements)
    several = [task for task in tasks if TASK_FACTS.get(task).several_images]
    if not several:
        return []
    return [f"bpp of {', '.join(several)}: of all images of a prompt, examples and query"]


def metrics_lacking(space: Space) -> list[str]:
    """The metrics of the benchmarks' tasks that this machine cannot compute, and why."""
    # Imported late: only captions have such metrics.
    from trainables.tasks.common.caption_metrics import lacking

    labels = [b.label for b in space.benchmarks if b.task == "captions"]
    if not labels:
        return []
    return [f"{', '.join(labels)}: no {metric}: {reason}" for metric, reason in lacking().items()]


def _made_again(plan: Plan, whole: Plan, history: History) -> list[str]:
    """Why jobs run again whose stages the storage holds under other settings.

    Jobs with the same reason share a line.
    """
    current = {stage.key for job in whole.jobs.values() for stage in job.stages}
    reasons = Reasons(history, plan.space, current)
    labels: dict[tuple[str, ...], list[str]] = {}
    for job in plan.jobs.values():
        # What a job measures anew because it trains anew has no reason of its own.
        stages = [job.stage] if job.key in job.costs else [stage for _, stage in job.evaluations]
        changes = tuple(dict.fromkeys(change for stage in stages for change in reasons.of(stage)))
        if changes:
            labels.setdefault(changes, []).append(job.label)
    lines = []
    for changes, jobs in labels.items():
        more = f" and {len(changes) - _MOST_CHANGES} more" if len(changes) > _MOST_CHANGES else ""
        jobs_text = jobs[0] if len(jobs) == 1 else f"{len(jobs)} jobs ({jobs[0]}, ...)"
        lines.append(f"again  {jobs_text}: {', '.join(changes[:_MOST_CHANGES])}{more}")
    kinds = {stage.kind for job in plan.jobs.values() for stage in job.stages}
    left_out = {kind: history.left_out(kind) for kind in sorted(kinds)}
    lines += [
        f"(the newest {MOST_READ} {kind} stages were compared, not {count} older ones)"
        for kind, count in left_out.items()
        if count
    ]
    return ["", *lines] if lines else []


def _estimate(
    space: Space, plan: Plan, name: str, sweeps: PastSweeps, history: History
) -> list[str]:
    """Time and storage that are left, and what the numbers rest on."""
    left = forecast(
        plan,
        name,
        sweeps,
        history,
        partial(planned_size, plan),
        partial(planned_beside, space),
    )
    if not left.measured + left.planned:
        return ["nothing is left to compute"]
    source = f"as sweep {left.past.name!r} had" if left.past else "as this machine has room for"
    gpus = f", {left.gpu_hours:.2g} GPU-hours" if left.gpu_hours else ""
    basis = [f"{left.measured} on earlier ones in this storage"] if left.measured else []
    basis += [f"{left.planned} on planned costs"] if left.planned else []
    total, trained = sum(left.sizes.values()), left.sizes.get(TRAINED, 0.0)
    lines = [
        f"time, about: {_time(left.wall_s)} with {left.lanes} jobs at a time, {source} "
        f"({_time(left.work_s)} of computing{gpus})",
        *_may_end_early(plan),
        f"estimates of {left.measured + left.planned} stages rest: {', '.join(basis)}",
        "storage to come, about:",
        *(f"  {kind:<27}{decimal(int(size)):>9}" for kind, size in left.sizes.items()),
        f"  {'in all':<27}{decimal(int(total)):>9}",
    ]
    if trained:
        copies = decimal(int(_ADAM_COPIES * trained))
        lines.append(f"  and at most {copies:>9} of checkpoints while it trains")
    return lines


def _may_end_early(plan: Plan) -> list[str]:
    """How many trainings may take fewer steps than the time is planned for."""
    trainings = [training_of(plan, job) for job in plan.jobs.values() if job.key in job.costs]
    count = sum(training is not None and training.until == "plateau" for training in trainings)
    return [f"trainings that may end at a plateau before their last step: {count}"] if count else []


def _precision(space: Space, name: str, store: Store, sweeps: PastSweeps) -> list[str]:
    """Which differences the test images and seeds will show, as far as a sweep has shown it."""
    images = test_images(space)
    fewest, seeds = min(images.values(), default=0), len(space.seeds)
    trainings = f"{seeds} training{'' if seeds == 1 else 's'} of each"
    for pilot in sweeps.measured(name, _PILOT_POINTS)[:_PILOTS]:
        # Imported late: pandas and SciPy, which no other line needs.
        from analysis.io.read import AnalysisError, read_sweep
        from analysis.stats.power import precision

        try:
            expected = precision(read_sweep(f"{store.uri}/{pilot}"), images, seeds)
        except AnalysisError:  # damaged, or of an earlier version
            continue
        if expected is not None:
            whole = "" if expected.with_trainings else "; what trainings vary by is not in it"
            rate = "" if isnan(expected.bd_rate) else f"BD-rate to ±{expected.bd_rate:.0f} % and "
            return [
                f"precision, about: {rate}accuracy to ±{expected.bd_accuracy:.3f} against the "
                f"anchor, by {fewest} test images or more a task and {trainings}, "
                f"as in sweep {pilot!r}{whole}"
            ]
    if not fewest:
        return []
    return [
        f"precision: an accuracy over {fewest} test images is known to "
        f"±{_worst_half_width(fewest):.3f} at worst; a first sweep of these tasks will tell more"
    ]


def _worst_half_width(images: int) -> float:
    """Half-width of the 95 % interval of an accuracy of one half over so many images."""
    return NormalDist().inv_cdf(0.975) * sqrt(0.25 / images)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _necks(space: Space) -> list[str]:
    """How latents meet the encoder's patches, and which sizes of the encoder are assumed."""
    variants = [space.of(name) for name in space.variants] or [space]
    lines = [f"neck: {grids(v, encoder_of(v))}; {served(v)}" for v in variants]
    lines += [
        f"(assuming that {v.teacher.model} is a CLIP ViT-L/14)"
        for v in variants
        if teacher_sizes(v.teacher.model) is None
    ]
    return list(dict.fromkeys(lines))

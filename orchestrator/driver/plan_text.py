"""The text of `--plan`: what a sweep would run, and what it would need."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.filesize import decimal

from orchestrator.plan.jobs import WAVES, Job, Plan
from orchestrator.plan.resources import ask_of, asks_by_kind
from orchestrator.storage.provenance import (
    CHECKSUMS,
    benchmark_images,
    fingerprints,
    image_counts,
)
from orchestrator.storage.store import Store
from orchestrator.validation.mllm_towers import served
from orchestrator.validation.teachers import grids, teacher_sizes
from search_spaces import OperatingPoint, Space
from search_spaces.facts.encoders import EncoderSizes, encoder_sizes, released_config
from search_spaces.scenarios import scenario_of
from search_spaces.specs.resources import WorkerResources

_ADAM_COPIES = 3
"""A checkpoint holds the weights and Adam's two moments."""


def overview(space: Space, points: Sequence[OperatingPoint], store: Store, name: str) -> str:
    """Waves, operating points, complete jobs, resources and storage; writes nothing."""
    prints = fingerprints(space, store.local(CHECKSUMS), may_write=False)
    plan, whole = Plan(space, points, prints, store), Plan(space, points, prints, None)
    done = {p: plan.is_complete(p) for p in points}
    lines = [
        f"sweep {name} in {store.uri}",
        f"{len(points)} operating points, {sum(done.values())} of them complete; "
        f"{len(plan.jobs)} of {len(whole.jobs)} jobs to run",
        *_variants(space, points),
    ]
    lines += [*_data_set(space), *_benchmarks(space), *metrics_lacking(space)]
    for number, wave in enumerate(WAVES):
        jobs = [job for job in whole.jobs.values() if job.wave == number]
        if jobs:
            lines.append(f"\nwave {number + 1}: {wave}")
            lines += [
                f"  {'to do' if job.key in plan.jobs else 'done '}  {job.label}" for job in jobs
            ]
    if space.search is not None:
        over = ", ".join(f"{p} in {list(r.ends)}" for p, r in space.search.over.items())
        lines.append(f"\nthen {space.search.trials} trials by {space.search.algorithm}: {over}")
    lines += [
        "",
        *_necks(space),
        *_asks(space, whole.jobs.values()),
        f"what fails is tried {space.resources.max_failures + 1} times at the most",
        "storage, about:",
        *_storage(space, whole),
    ]
    return "\n".join(lines)


def _asks(space: Space, jobs: Iterable[Job]) -> list[str]:
    """What the jobs of each kind ask of the cluster; kinds that ask for the same share a line."""
    kinds: dict[WorkerResources, list[str]] = {}
    for kind, resources in asks_by_kind(space, jobs).items():
        kinds.setdefault(resources, []).append(kind or "data sets")
    lines = []
    for resources, names in kinds.items():
        workers = resources.workers_per_point
        process = f" in {workers} workers each" if workers else " in the trial's process"
        lines.append(f"{', '.join(names)}: {ask_of(resources)}{process}")
    return lines


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
    if space.data.kind == "scenes":
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
    return [*lines, f"  {classes}"]


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
    return lines


def metrics_lacking(space: Space) -> list[str]:
    """The metrics of the benchmarks' tasks that this machine cannot compute, and why."""
    # Imported late: only captions have such metrics.
    from trainables.tasks.common.caption_metrics import lacking

    labels = [b.label for b in space.benchmarks if b.task == "captions"]
    if not labels:
        return []
    return [f"{', '.join(labels)}: no {metric}: {reason}" for metric, reason in lacking().items()]


def _storage(space: Space, plan: Plan) -> list[str]:
    data, counts = space.data, image_counts(space.data)
    images = counts["train"] + counts["val"]
    episodes = data.episodes if data.kind == "scenes" else 0
    names = ("images", "pooled features", "token features", "latents", "trained weights")
    sizes = Counter(dict.fromkeys(names, 0))
    # Images are kept without loss: a photograph takes two bytes a pixel.
    sizes["images"] = 2 * data.size**2 * (images + counts["test"] + 3 * episodes)
    for job in plan.jobs.values():
        space = plan.stages.of(job.subject.variant).space
        # Features and latents are kept in half precision.
        if job.kind == "features":
            encoder, surrogate = _encoder(space), space.surrogate
            tokens = encoder.tokens * encoder.width
            sizes["pooled features"] += 2 * images * encoder.pooled * bool(surrogate.pooled)
            sizes["token features"] += 2 * images * tokens * bool(surrogate.tokens)
        elif job.kind == "latents":
            assert job.subject.codec is not None
            h, w = job.subject.codec.latent_sides(data.size, data.size)
            sizes["latents"] += 2 * images * job.subject.codec.M * h * w
        elif job.kind in ("codec", "point"):
            sizes["trained weights"] += int(4 * _trained_parameters(space, job))
    sizes["checkpoints while training"] = sizes["trained weights"] * _ADAM_COPIES
    sizes["in all"] = sizes.total()
    return [f"  {name:<27}{decimal(n, precision=0):>9}" for name, n in sizes.items() if n]


def _trained_parameters(space: Space, job: Job) -> float:
    """Parameters that a job trains or keeps, to within a factor of two."""
    codec, point = job.subject.codec, job.subject.point
    parameters = 0.0 if codec is None else codec.parameter_estimate
    if point is None:
        return parameters
    encoder, ratio = _encoder(space), space.neck.mlp_ratio
    width, channels = encoder.width, encoder.width if codec is None else codec.M
    hidden = encoder.mlp_width if ratio is None else width * ratio
    layer = width * (4 * width + 2 * hidden)
    neck = (channels + encoder.tokens) * width + space.neck.layers * layer
    counts = {"codec": parameters, "neck": neck, "encoder_block": layer}
    return scenario_of(point.scenario).trained_parameters(space, counts)


def _necks(space: Space) -> list[str]:
    """How latents meet the encoder's patches, and which sizes of the encoder are assumed."""
    variants = [space.of(name) for name in space.variants] or [space]
    lines = [f"neck: {grids(v, _encoder(v))}; {served(v)}" for v in variants]
    lines += [
        f"(assuming that {v.teacher.model} is a CLIP ViT-L/14)"
        for v in variants
        if teacher_sizes(v.teacher.model) is None
    ]
    return list(dict.fromkeys(lines))


def _encoder(space: Space) -> EncoderSizes:
    """The teacher's sizes; those of the paper's teacher if it is not on this machine."""
    known = teacher_sizes(space.teacher.model)
    if known is not None:
        return known
    papers = released_config("openai/clip-vit-large-patch14")
    assert papers is not None
    return encoder_sizes(papers)

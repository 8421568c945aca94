"""What a sweep would do, in words: `--plan`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from orchestrator.plan import WAVES, Plan
from orchestrator.provenance import fingerprints, image_counts, local_path
from orchestrator.resources import trial_ask
from orchestrator.store import Store
from search_spaces import CodecSpec, OperatingPoint, Space

_ADAM_COPIES = 3
"""A checkpoint holds the weights and Adam's two moments."""


def overview(space: Space, points: Sequence[OperatingPoint], store: Store, name: str) -> str:
    """Waves, operating points, what is done already, resources and storage. Touches nothing."""
    prints = fingerprints(space)
    plan, whole = Plan(space, points, prints, store), Plan(space, points, prints, None)
    done = {p: plan.is_complete(p) for p in points}
    lines = [
        f"sweep {name} in {store.uri}",
        f"{len(points)} operating points, {sum(done.values())} of them complete; "
        f"{len(plan.jobs)} of {len(whole.jobs)} jobs to run",
        *_variants(space, points),
    ]
    for number, wave in enumerate(WAVES):
        jobs = [job for job in whole.jobs.values() if job.wave == number]
        if jobs:
            lines.append(f"\nwave {number + 1}: {wave}")
            lines += [
                f"  {'to do' if job.key in plan.jobs else 'done '}  {job.label}" for job in jobs
            ]
    if space.search is not None:
        said = ", ".join(f"{p} in {list(r.ends)}" for p, r in space.search.over.items())
        lines.append(f"\nthen {space.search.trials} trials by {space.search.algorithm}: {said}")
    resources, ask = space.resources, trial_ask(space)
    if resources.workers_per_point:
        how = f"{resources.workers_per_point} Ray Train workers"
    else:
        how = "trained in the trial's own process"
    lines += [
        "",
        f"each point asks for {ask.cpu:g} CPU"
        + (f" and {ask.gpu:g} GPU" if ask.gpu else "")
        + f" ({how}), tried {resources.max_failures + 1} times at the most",
        "storage, about:",
        *_storage(space, whole),
    ]
    return "\n".join(lines)


def _variants(space: Space, points: Sequence[OperatingPoint]) -> list[str]:
    if not space.variants:
        return []
    shared = sum(not point.variant for point in points)
    width = max(map(len, space.variants))
    lines = [f"\n{len(space.variants)} variants; {shared} of the points are shared by all of them"]
    for name, settings in space.variants.items():
        said = ", ".join(f"{path} = {json.dumps(value)}" for path, value in settings.items())
        lines.append(f"  {name:<{width}}  {said or 'the settings as they stand'}")
    return lines


def _storage(space: Space, plan: Plan) -> list[str]:
    data, counts = space.data, image_counts(space.data)
    images = counts["train"] + counts["val"]
    tokens, width, pooled, assumed = _encoder(space.teacher.model)
    kinds = Counter(job.kind for job in plan.jobs.values())
    episodes = data.episodes if data.kind == "scenes" else 0
    # Images are kept without loss: a photograph takes two bytes a pixel.
    sizes = {"world": 2.0 * data.size**2 * (images + counts["test"] + 3 * episodes)}
    if kinds["features"]:
        sizes["features"] = 2.0 * images * (tokens * width + pooled)
    latents = checkpoints = 0.0
    for job in plan.jobs.values():
        codec = job.codec
        if codec is None:
            continue
        side, own = data.size // 16, plan.stages.of(job.variant).space
        if job.kind == "latents":
            latents += 2.0 * images * codec.M * side**2
        scenario = job.point.scenario if job.point else "codec"
        neck = codec.M * width + tokens * width + 12 * own.neck.layers * width**2
        unet = 30 * own.post_processing.channels**2 * 4**own.post_processing.levels
        parameters = {
            "codec": _codec_parameters(codec),
            "d1": neck,
            "d2": neck + _codec_parameters(codec),
            "d3": neck + _codec_parameters(codec),
            "post_processing": unet,
        }
        if job.kind in ("codec", "point"):
            checkpoints += 4.0 * parameters.get(scenario, 0)
    sizes["latents"] = latents
    sizes["trained weights"] = checkpoints
    sizes["checkpoints while training"] = checkpoints * _ADAM_COPIES
    lines = [f"  {name:<27}{_size(value):>9}" for name, value in sizes.items() if value]
    lines.append(f"  {'in all':<27}{_size(sum(sizes.values())):>9}")
    if assumed:
        lines.append(f"  (assuming that {space.teacher.model} is a CLIP ViT-L/14)")
    return lines


def _encoder(name: str) -> tuple[int, int, int, bool]:
    """Tokens with CLS, width and projection of the teacher, and whether that is a guess."""
    path = local_path(name)
    if path is None:
        return 257, 1024, 768, True
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    vision = config.get("vision_config", {})
    side = vision.get("image_size", 224) // vision.get("patch_size", 32)
    return side**2 + 1, vision.get("hidden_size", 768), config.get("projection_dim", 512), False


def _codec_parameters(codec: CodecSpec) -> float:
    """Of a codec with 5x5 transforms and a hyperprior, to within a factor of two."""
    n, m = codec.N, codec.M
    transforms = 2 * 25 * (3 * n + 2 * n * n + n * m)
    return transforms + 2 * (9 * m * n + 50 * n * n) + 10.0 * m * m * codec.context_width


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"

"""The sizes of the teacher, and the settings of a space that do not fit it; loads no weights."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.storage.provenance import local_path
from orchestrator.validation.model_files import note_on_code, read_config
from search_spaces import Space
from search_spaces.facts.encoders import CLIP_LIKE, EncoderSizes, encoder_sizes, released_config
from search_spaces.facts.tasks import TASK_FACTS, TaskFacts


def teacher_sizes(name: str) -> EncoderSizes | None:
    """The sizes of a teacher; None for a hub id that is neither cached nor a released model's.

    Raises:
        ValueError: its configuration cannot be read, or is that of a model of another kind.
    """
    config = read_config(name)
    if config is None and local_path(name) is None:
        config = released_config(name)
    if config is None:
        return None
    try:
        return encoder_sizes(config)
    except ValueError as error:
        raise ValueError(f"{error}{note_on_code(config)}") from error


def grids(space: Space, sizes: EncoderSizes) -> str:
    """The grids of a training image's latents and of the encoder's patches, in words."""
    side, (rows, columns) = space.data.size, sizes.grid
    latents = dict.fromkeys(codec.latent_sides(side, side) for codec in space.codecs)
    resampled = any(grid != sizes.grid for grid in latents)
    return (
        f"latents {' and '.join(f'{h}x{w}' for h, w in latents)} -> tokens {rows}x{columns}"
        f"{': resampled' if resampled else ''}, entering block {space.teacher.block} of "
        f"{sizes.blocks}"
    )


def check_teacher(space: Space) -> list[str]:
    """The settings of a space and its variants that do not fit the teacher, a line each."""
    return list(dict.fromkeys(line for variant in space.expanded for line in _problems(variant)))


def _problems(space: Space) -> list[str]:
    name, surrogate, neck = space.teacher.model, space.surrogate, space.neck
    try:
        sizes = teacher_sizes(name)
    except ValueError as error:
        return [f"teacher.model = {name!r}: {error}"]
    if sizes is None:
        return []
    problems = []
    block = space.teacher.block
    if block > sizes.blocks:
        problems.append(f"teacher.block = {block}: {name} has blocks 0 to {sizes.blocks - 1}")
    try:
        if sizes.hidden_index(surrogate.token_layer) < block <= sizes.blocks:
            problems.append(
                f"surrogate.token_layer = {surrogate.token_layer}: comes before teacher.block "
                f"{block}; valid are {block} to {sizes.blocks}, or -1 for the last"
            )
    except ValueError as error:
        problems.append(f"surrogate.token_layer: {error}")
    cross_entropy = any(phase.ce for phase in surrogate.phases)
    if cross_entropy and not sizes.text:
        problems.append(
            f"surrogate.phases: ce needs class names' text embeddings, and {name} has no text "
            "tower; set ce to 0 in every phase (distillation alone) or give the whole model"
        )
    if not sizes.text and (alone := task_settings(space, lambda task: task.by_encoder)):
        problems.append(
            f"{', '.join(alone)}: the encoder alone classifies by class names' text embeddings, "
            f"and {name} has no text tower; give the whole model"
        )
    if not sizes.pooled and (surrogate.pooled or cross_entropy):
        problems.append(
            f"surrogate.pooled = {surrogate.pooled:g}: {name} has no pooled feature; set pooled "
            "and ce to 0 and tokens above 0"
        )
    if surrogate.double_norm and not (sizes.family == "clip" and sizes.pooled):
        problems.append(
            f"surrogate.double_norm: a setting of CLIP, whose pooled feature {name} does not have"
        )
    heads = neck.heads or sizes.heads
    if sizes.width % heads:
        problems.append(f"neck.heads = {heads}: does not divide the encoder's width {sizes.width}")
    if neck.init == "encoder" and sizes.family not in CLIP_LIKE:
        problems.append(
            f"neck.init = 'encoder': a neck starts from {' or '.join(CLIP_LIKE)}, and {name} has a "
            f"tower of its own kind, {sizes.family}; set neck.init to 'random'"
        )
    elif neck.init == "encoder":
        if heads != sizes.heads:
            problems.append(
                f"neck.heads = {heads}: with neck.init 'encoder' it must be the encoder's, "
                f"{sizes.heads} or null"
            )
        if neck.mlp_ratio is not None and round(sizes.width * neck.mlp_ratio) != sizes.mlp_width:
            problems.append(
                f"neck.mlp_ratio = {neck.mlp_ratio:g}: with neck.init 'encoder' it must be the "
                f"encoder's, {sizes.mlp_width / sizes.width:g} or null"
            )
    return problems


def task_settings(space: Space, applies: Callable[[TaskFacts], bool]) -> list[str]:
    """Setting and value of each task and each benchmark whose task the condition applies to."""
    tasks = [f"tasks: {task}" for task in space.tasks if applies(TASK_FACTS.get(task))]
    benchmarks = [b.label for b in space.benchmarks if applies(TASK_FACTS.get(b.task))]
    return tasks + [f"benchmarks: {label}" for label in benchmarks]

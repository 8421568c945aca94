"""Whether the visual towers of the MLLMs are the teacher's, from files; loads no model.

A neck is trained on the teacher's blocks k .. and enters an MLLM's tower at block k. So the two
towers must share these blocks, up to the layer that the MLLM reads. The teacher may itself be the
tower of an MLLM, and then has the MLLM's name.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestrator.storage.store import JsonObject
from orchestrator.validation.model_files import model_file, note_on_code, read_config
from orchestrator.validation.teachers import task_settings
from search_spaces import Space
from search_spaces.facts.encoders import EncoderSizes, encoder_sizes
from search_spaces.facts.mllm_families import Family, UnknownMllmError, family_of, layers_read
from search_spaces.scenarios import scenarios_of

_BLOCK = re.compile(r"(?:^|\.)encoder\.layers?\.(\d+)\.(.+)$")
_VISION = re.compile(r"(^|\.)vision_(model|tower)\.")
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_ROWS = 32
"""Every so many-th row of a matrix is compared, and all values of any other tensor."""
_TOLERANCE = 2.0**-6
"""Relative: two towers may be kept in different half precisions, of which one has 8 bits."""


def check_towers(space: Space) -> list[str]:
    """The MLLMs of a space and its variants that do not fit the teacher, a line per mistake.

    Models that are not on this machine are not checked.
    """
    problems = [line for variant in space.expanded for line in _problems(variant)]
    return list(dict.fromkeys(problems))


def _problems(space: Space) -> list[str]:
    scenarios = scenarios_of(space)
    bridged = any(scenario.enters == "block" for scenario in scenarios)
    through_first = [scenario.name for scenario in scenarios if scenario.trains_through_mllm]
    name = space.teacher.model
    teacher_config = _config(name)
    sizes: EncoderSizes | None = None
    if bridged and teacher_config is not None:
        with contextlib.suppress(ValueError):  # a mistake that `check_teacher` reports
            sizes = encoder_sizes(teacher_config)
    problems = []
    for number, mllm in enumerate(spec.model for spec in space.mllms):
        config = _config(mllm)
        if config is None:
            continue
        setting = f"mllms.{number} = {mllm!r}: "
        try:
            family = family_of(str(config.get("model_type")))
        except UnknownMllmError as error:
            problems.append(setting + str(error) + note_on_code(config))
            continue
        several = task_settings(space, lambda task: task.several_images)
        if family.one_image and several:
            problems.append(
                f"{setting}{family.title} looks at one image at a time, and {', '.join(several)} "
                "shows several"
            )
        if family.crops and not number and through_first:
            problems.append(
                f"{setting}{family.title} reads crops, and baselines: {', '.join(through_first)} "
                "learns through the first of mllms from whole images; put another one first"
            )
        if sizes is not None:
            misfits = _misfits(space, name, sizes, mllm, config, family)
            problems += [setting + line for line in misfits]
    return problems


def served(space: Space) -> str:
    """Which MLLMs a neck of the space serves, in words.

    Args:
        space: of one variant, without mistakes: MLLMs on this machine share the blocks of a
            teacher on this machine. Whether others do is not known yet.
    """
    configs = {mllm.model: _config(mllm.model) for mllm in space.mllms}
    has_teacher = _config(space.teacher.model) is not None
    known = [
        f"{name} (coded crop by crop)" if family_of(config["model_type"]).crops else name
        for name, config in configs.items()
        if has_teacher and config is not None
    ]
    unknown = [name for name, config in configs.items() if not has_teacher or config is None]
    phrases = [f"serves {', '.join(known)}"] if known else []
    if unknown:
        phrases.append(f"{', '.join(unknown)} if they share its encoder (not all is at hand)")
    return "; ".join(phrases) or "serves the encoder alone"


def _misfits(
    space: Space, name: str, sizes: EncoderSizes, mllm: str, config: JsonObject, family: Family
) -> Iterator[str]:
    """Why an MLLM's tower is not the teacher.

    Args:
        name: of the teacher.
        sizes: of the teacher.
        mllm, config, family: name, configuration and family of the MLLM.
    """
    block = space.teacher.block
    try:
        tower = encoder_sizes(config)
    except ValueError as error:
        yield f"its tower is not of the teacher's kind: {error}"
        return
    names = ("family", "width", "blocks", "heads", "mlp_width", "image_size", "patch_size")
    apart = [
        f"{size} {getattr(tower, size)} against {getattr(sizes, size)}"
        for size in names
        if getattr(tower, size) != getattr(sizes, size)
    ]
    if apart:
        yield f"its tower is not the teacher {name!r}: {', '.join(apart)}"
        return
    read = [sizes.hidden_index(layer) for layer in layers_read(config, family)]
    if min(read) < block:
        yield (
            f"reads hidden state {min(read)} of its tower, before teacher.block = {block}; "
            f"valid teacher.block are 0 to {min(read)}"
        )
        return
    differs = _first_difference(name, mllm, range(block, max(read)))
    if differs is not None:
        yield (
            f"the weights of its tower are not those of the teacher {name!r} ({differs} differs); "
            "give as teacher.model the encoder that this MLLM was trained with, or the MLLM itself"
        )


@cache
def _first_difference(teacher: str, mllm: str, blocks: range) -> str | None:
    """The first tensor of these blocks that differs; None if none does or nothing can be read."""
    teacher_tensors, mllm_tensors = _block_tensors(teacher), _block_tensors(mllm)
    if not teacher_tensors or not mllm_tensors:
        return None
    for key in sorted(teacher_tensors):
        if key[0] not in blocks:
            continue
        if key not in mllm_tensors:
            return f"encoder.layers.{key[0]}.{key[1]} is missing, which"
        expected, actual = teacher_tensors[key], mllm_tensors[key]
        same = expected.shape == actual.shape
        if same:
            a, b = _sampled(expected), _sampled(actual)
            spread = float(np.abs(a).mean())
            same = bool(np.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE * spread))
        if not same:
            return f"encoder.layers.{key[0]}.{key[1]}"
    return None


def _sampled(tensor: NDArray[np.generic]) -> NDArray[np.float32]:
    """Every `_ROWS`-th row of a matrix, else all values; float32."""
    some = np.asarray(tensor[::_ROWS] if tensor.ndim > 1 else tensor)
    if some.dtype == _DTYPES["BF16"]:
        return (some.astype(np.uint32) << 16).view(np.float32)
    return some.astype(np.float32)


def _block_tensors(name: str) -> dict[tuple[int, str], NDArray[np.generic]]:
    """(block, name inside it) -> tensor of a model's visual encoder; nothing if it has none.

    Tensors are mapped and not read. The NumPy reader of safetensors has no bfloat16.
    """
    tensors: dict[tuple[int, str], NDArray[np.generic]] = {}
    for file in _weight_files(name):
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header: JsonObject = json.loads(stream.read(length))
        for tensor, about in header.items():
            block = _BLOCK.search(tensor)
            # The tensors of a visual encoder alone may have no prefix.
            if block is None or not (_VISION.search(tensor) or tensor.startswith("encoder.")):
                continue
            if about["dtype"] not in _DTYPES:
                return {}
            start, shape = 8 + length + about["data_offsets"][0], tuple(about["shape"])
            mapped = np.memmap(file, _DTYPES[about["dtype"]], "r", start, shape)
            tensors[int(block[1]), block[2]] = mapped
    return tensors


def _weight_files(name: str) -> list[Path]:
    single, index = "model.safetensors", "model.safetensors.index.json"
    if (file := model_file(name, single)) is not None:
        return [file]
    if (file := model_file(name, index)) is None:
        return []
    shards = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    files = [model_file(name, shard) for shard in sorted(shards)]
    return [file for file in files if file is not None] if all(files) else []


def _config(name: str) -> JsonObject | None:
    """The configuration of a model; None if it is not on this machine or cannot be read."""
    with contextlib.suppress(ValueError):  # a mistake that `check_models`, `check_teacher` report
        return read_config(name)
    return None

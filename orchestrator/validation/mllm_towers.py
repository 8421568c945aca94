"""Is an MLLM's visual tower the space's teacher? Found out from files, before anything is loaded.

A neck is trained on the teacher's blocks k .. and enters an MLLM's tower at block k: that means
something only where the two towers share these blocks, up to the layer that the MLLM reads. The
teacher may be such a tower itself, named by its MLLM.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import try_to_load_from_cache
from numpy.typing import NDArray

from orchestrator.storage.provenance import local_path
from search_spaces import Space
from search_spaces.facts.encoders import EncoderSizes, encoder_sizes
from search_spaces.facts.mllm_families import (
    Family,
    UnknownMllmError,
    family_of,
    layers_read,
)
from search_spaces.facts.tasks import TASK_FACTS
from search_spaces.scenarios import scenarios_of

_BLOCK = re.compile(r"(?:^|\.)encoder\.layers?\.(\d+)\.(.+)$")
_VISION = re.compile(r"(^|\.)vision_(model|tower)\.")
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_ROWS = 32
"""Of a matrix, every so many-th row is compared; of anything else, all."""
_TOLERANCE = 2.0**-6
"""Relative: two towers may be kept in different half precisions, of which one has 8 bits."""


def check_towers(space: Space) -> list[str]:
    """What of the space's MLLMs does not fit its teacher, a line per mistake.

    What is neither local nor cached is not known yet, and not judged.
    """
    problems = [line for one in space.meant for line in _problems(one)]
    return list(dict.fromkeys(problems))


def _problems(space: Space) -> list[str]:
    scenarios = scenarios_of(space)
    bridged = any(scenario.enters == "block" for scenario in scenarios)
    through_first = [scenario.name for scenario in scenarios if scenario.trains_through_mllm]
    name = space.teacher.model
    given = _config(name)
    sizes: EncoderSizes | None = None
    if bridged and given is not None:
        with contextlib.suppress(ValueError):  # said by `check_teacher`
            sizes = encoder_sizes(given)
    problems = []
    for number, mllm in enumerate(spec.model for spec in space.mllms):
        config = _config(mllm)
        if config is None:
            continue
        said = f"mllms.{number} = {mllm!r}: "
        try:
            family = family_of(str(config.get("model_type")))
        except UnknownMllmError as error:
            problems.append(said + str(error))
            continue
        if family.one_image and (several := _of_several_images(space)):
            problems.append(
                f"{said}{family.title} looks at one image at a time, and {', '.join(several)} "
                "shows several"
            )
        if family.crops and not number and through_first:
            problems.append(
                f"{said}{family.title} reads crops, and baselines: {', '.join(through_first)} "
                "learns through the first of mllms from whole images; put another one first"
            )
        if sizes is not None:
            found = _misfits(space, name, sizes, mllm, config, family)
            problems += [said + line for line in found]
    return problems


def served(space: Space) -> str:
    """Which MLLMs a neck of the space serves, in words.

    Args:
        space: of one variant, found to be without mistakes: the MLLMs that are at hand share the
            blocks of a teacher that is. Of others it is not known yet.
    """
    configs = {mllm.model: _config(mllm.model) for mllm in space.mllms}
    there = _config(space.teacher.model) is not None
    known = [
        f"{name} (coded crop by crop)" if family_of(config["model_type"]).crops else name
        for name, config in configs.items()
        if there and config is not None
    ]
    unknown = [name for name, config in configs.items() if not there or config is None]
    said = [f"serves {', '.join(known)}"] if known else []
    if unknown:
        said.append(f"{', '.join(unknown)} if they share its encoder (not all is at hand)")
    return "; ".join(said) or "serves the encoder alone"


def _of_several_images(space: Space) -> list[str]:
    """What shows several images at once: the setting and its value."""
    tasks = [f"tasks: {task}" for task in space.tasks if TASK_FACTS.get(task).several_images]
    benchmarks = [b.label for b in space.benchmarks if TASK_FACTS.get(b.task).several_images]
    return tasks + [f"benchmarks: {label}" for label in benchmarks]


def _misfits(
    space: Space,
    name: str,
    sizes: EncoderSizes,
    mllm: str,
    config: Mapping[str, Any],
    family: Family,
) -> Iterator[str]:
    block = space.teacher.block
    try:
        own = encoder_sizes(config)
    except ValueError as error:
        yield f"its tower is not of the teacher's kind: {error}"
        return
    names = ("family", "width", "blocks", "heads", "mlp_width", "image_size", "patch_size")
    apart = [
        f"{one} {getattr(own, one)} against {getattr(sizes, one)}"
        for one in names
        if getattr(own, one) != getattr(sizes, one)
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
    given, own = _block_tensors(teacher), _block_tensors(mllm)
    if not given or not own:
        return None
    for key in sorted(given):
        if key[0] not in blocks:
            continue
        if key not in own:
            return f"encoder.layers.{key[0]}.{key[1]} is missing, which"
        one, other = given[key], own[key]
        same = one.shape == other.shape
        if same:
            a, b = one.values(), other.values()
            spread = float(np.abs(a).mean())
            same = bool(np.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE * spread))
        if not same:
            return f"encoder.layers.{key[0]}.{key[1]}"
    return None


@dataclass(frozen=True)
class _Tensor:
    """Where a tensor stands in a safetensors file, whose own NumPy reader knows no bfloat16."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    def values(self) -> NDArray[np.float32]:
        """Every `_ROWS`-th row of a matrix, else all; float32."""
        mapped = np.memmap(self.file, _DTYPES[self.dtype], "r", self.start, self.shape)
        some: NDArray[Any] = np.asarray(mapped[::_ROWS] if len(self.shape) > 1 else mapped)
        if self.dtype == "BF16":
            return (some.astype(np.uint32) << 16).view(np.float32)
        return some.astype(np.float32)


def _block_tensors(name: str) -> dict[tuple[int, str], _Tensor]:
    """(block, name inside it) -> tensor of a model's visual encoder; nothing if it has none."""
    found = {}
    for file in _weight_files(name):
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header: dict[str, Any] = json.loads(stream.read(length))
        for tensor, about in header.items():
            place = _BLOCK.search(tensor)
            # A visual encoder alone may be kept without a prefix.
            if place is None or not (_VISION.search(tensor) or tensor.startswith("encoder.")):
                continue
            if about["dtype"] not in _DTYPES:
                return {}
            start = 8 + length + about["data_offsets"][0]
            key = int(place[1]), place[2]
            found[key] = _Tensor(file, about["dtype"], tuple(about["shape"]), start)
    return found


def _weight_files(name: str) -> list[Path]:
    single, index = "model.safetensors", "model.safetensors.index.json"
    if (file := _file(name, single)) is not None:
        return [file]
    if (file := _file(name, index)) is None:
        return []
    parts = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    files = [_file(name, part) for part in sorted(parts)]
    return [file for file in files if file is not None] if all(files) else []


def _file(name: str, file: str) -> Path | None:
    path = local_path(name)
    if path is not None:
        return path / file if (path / file).is_file() else None
    cached = try_to_load_from_cache(name, file)
    return Path(cached) if isinstance(cached, str) else None


def _config(name: str) -> dict[str, Any] | None:
    file = _file(name, "config.json")
    try:
        return None if file is None else json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # said by `check_models`, `check_teacher`

"""Operating points that a sweep has finished, read back from its directory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces import OperatingPoint, Space, operating_points, select
from trainables.points.contract import load_point
from trainables.points.models import PointModel


@dataclass(frozen=True)
class Finished:
    """A finished operating point, and where it is.

    space: with the settings of the point's variant; codec: of its base codec, None where it has
    none; point: its own.
    """

    space: Space
    point: OperatingPoint
    codec_dir: Path | None
    point_dir: Path


def finished(sweep: Path | str, lost: dict[OperatingPoint, str]) -> Iterator[Finished]:
    """The finished points of a sweep's directory, `<storage>/<sweep>`.

    Args:
        lost: is told which of them the storage no longer holds, a line each.

    Raises:
        ValueError: it is no sweep's directory.
    """
    directory = Path(sweep)
    file = directory / "sweep.json"
    if not file.is_file():
        raise ValueError(f"{directory} holds no sweep.json; name <storage>/<sweep> of a sweep")
    said = json.loads(file.read_text(encoding="utf-8"))
    stages = directory.resolve().parent / "stages"
    keys = {_identity(entry): str(entry["point_key"]) for entry in said["expected"]}
    space = Space.model_validate(said["space"])
    for point in operating_points(space):
        key = keys.get(_identity(point.fields), "")
        if key not in said["points"]:
            continue
        try:
            codec, own = _stages_of(stages, key, point.codec is not None)
        except (OSError, StopIteration):
            lost[point] = f"{point.label}: {stages} no longer holds it or its base codec"
            continue
        yield Finished(space.of(point.variant), point, codec, own)


def load_finished(sweep: Path | str, *only: str) -> PointModel:
    """A trained operating point of a sweep, ready to use.

    Args:
        sweep: `<storage>/<sweep>`.
        only: filters `field=value` that leave one point, as those of `--only`.

    Raises:
        ValueError: they leave none or several, or it is no sweep's directory.
    """
    lost: dict[OperatingPoint, str] = {}
    there = {one.point: one for one in finished(sweep, lost)}
    wanted = select(there, only)
    if len(wanted) != 1:
        labels = "; ".join([*(point.label for point in wanted or there), *lost.values()])
        raise ValueError(f"{sweep}: {len(wanted)} points meet {', '.join(only)}, of {labels}")
    one = there[wanted[0]]
    return load_point(one.space, one.point, one.codec_dir, one.point_dir)


def _identity(fields: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset((name, value) for name, value in fields.items() if name != "point_key")


def _stages_of(stages: Path, key: str, with_codec: bool) -> tuple[Path | None, Path]:
    """The directories of a point's base codec and of the point itself."""
    own = stages / "point" / key
    inputs = json.loads((own / "manifest.json").read_text(encoding="utf-8"))["inputs"]
    if not with_codec:
        return None, own
    codecs = (stages / "codec" / key / "manifest.json" for key in inputs)
    return next(file.parent for file in codecs if file.is_file()), own

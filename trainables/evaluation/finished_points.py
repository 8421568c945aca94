"""The finished operating points of a sweep, read from its directory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from search_spaces import OperatingPoint, Space, operating_points, select
from search_spaces.settings.paths import is_regular
from trainables.points.contract import Finished, load_point
from trainables.points.models import PointModel

MANIFEST: Final = "sweep.json"


@dataclass(frozen=True)
class FinishedPoint(Finished):
    """A finished operating point of a sweep, with its `point_key`."""

    key: str


def finished(sweep: Path | str, lost: dict[OperatingPoint, str]) -> Iterator[FinishedPoint]:
    """Yield the finished points of a sweep's directory, `<storage>/<sweep>`.

    Args:
        lost: receives the finished points that the storage no longer holds, with a message each.

    Raises:
        ValueError: the directory is not that of a sweep.
    """
    manifest = _manifest(Path(sweep))
    stages = Path(sweep).resolve().parent / "stages"
    keys = {_identity(entry): str(entry["point_key"]) for entry in manifest["expected"]}
    space = Space.model_validate(manifest["space"])
    for point in operating_points(space):
        key = keys.get(_identity(point.fields), "")
        if key not in manifest["points"]:
            continue
        trained_key = _trained_key(manifest["points"][key], key)
        try:
            codec_dir, point_dir = _stages_of(stages, trained_key, point.codec is not None)
        except (OSError, StopIteration):
            lost[point] = f"{point.label}: {stages} no longer holds it or its base codec"
            continue
        yield FinishedPoint(space.of(point.variant), point, codec_dir, point_dir, key)


def load_finished(sweep: Path | str, *only: str) -> PointModel:
    """Load a trained operating point of a sweep.

    Args:
        sweep: `<storage>/<sweep>`.
        only: filters `field=value` that leave one point, as those of `--only`.

    Raises:
        ValueError: the filters leave none or several, or the directory is not that of a sweep.
    """
    lost: dict[OperatingPoint, str] = {}
    by_point = {trained.point: trained for trained in finished(sweep, lost)}
    wanted = select(by_point, only)
    if len(wanted) != 1:
        labels = "; ".join([*(point.label for point in wanted or by_point), *lost.values()])
        raise ValueError(f"{sweep}: {len(wanted)} points meet {', '.join(only)}, of {labels}")
    trained = by_point[wanted[0]]
    return load_point(trained.space, trained.point, trained.codec_dir, trained.point_dir)


def space_of_sweep(sweep: Path | str) -> Space:
    """The space of a sweep, finished or not, as it was last run.

    Args:
        sweep: `<storage>/<sweep>`.

    Raises:
        ValueError: the directory is not that of a sweep.
    """
    return Space.model_validate(_manifest(Path(sweep))["space"])


def _manifest(directory: Path) -> dict[str, Any]:
    file = directory / MANIFEST
    if not is_regular(file):
        raise ValueError(f"{directory} holds no {MANIFEST}; name <storage>/<sweep> of a sweep")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if manifest.keys() >= {"space", "expected", "points"}:
            return manifest
    except (ValueError, RecursionError, AttributeError):
        pass
    raise ValueError(f"{file} is damaged; the sweep's command writes it again")


def _identity(fields: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset((name, value) for name, value in fields.items() if name != "point_key")


def _trained_key(entry: Mapping[str, Any], key: str) -> str:
    """The key of the stage with a point's weights: the first of which its provenance tells."""
    stages = entry.get("provenance", {}).get("stages", {})
    return Path(next(iter(stages), key)).name


def _stages_of(stages: Path, key: str, with_codec: bool) -> tuple[Path | None, Path]:
    """The directories of a point's base codec and of the point itself."""
    point_dir = stages / "point" / key
    inputs = json.loads((point_dir / "manifest.json").read_text(encoding="utf-8"))["inputs"]
    if not with_codec:
        return None, point_dir
    codecs = (stages / "codec" / Path(key).name / "manifest.json" for key in inputs)
    return next(file.parent for file in codecs if file.is_file()), point_dir

"""The codecs whose rate-distortion is measured: those of a finished sweep, or of a space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from search_spaces import CodecSpec, OperatingPoint, Space, load_space, select
from search_spaces.scenarios import scenario_of
from trainables.codecs import Codec, build_codec, load_codec, start_codec
from trainables.encoders.pretrained import resolve_pretrained
from trainables.evaluation.finished_points import finished
from trainables.points.contract import method_of

BASE = "base"
"""The `scenario` of base codecs."""


class RdError(ValueError):
    """Input that cannot be measured; the message has a line per mistake."""


@dataclass(frozen=True)
class Source:
    """A codec to measure.

    Attributes:
        point: its operating point; of the scenario `base` for a base codec.
        load: reads the codec.
    """

    point: OperatingPoint
    load: Callable[[], Codec]


def find_sources(source: str, only: Sequence[str] = ()) -> list[Source]:
    """The codecs of a sweep or of a space.

    Args:
        source: a sweep's directory, or a named space or YAML file.
        only: filters `field=value`.

    Raises:
        RdError: the source cannot be read, no codec meets the filters, or a codec is missing.
    """
    try:
        directory = Path(source)
        sources = _of_sweep(directory) if directory.is_dir() else _of_space(load_space(source))
        selected = select([candidate.point for candidate in sources], only)
    except ValueError as error:
        raise RdError(str(error)) from None
    return [candidate for candidate in sources if candidate.point in selected]


def _of_space(space: Space) -> list[Source]:
    without = [spec.label for spec in space.codecs if spec.weights is None]
    if without:
        raise RdError(
            f"{space.name}: {', '.join(without)} has no weights to measure; name a sweep's "
            "directory, or set codecs.N.weights"
        )
    return [
        Source(OperatingPoint(at_rate, lmbda, BASE, 0), partial(_started, at_rate))
        for spec in space.codecs
        for lmbda, at_rate in spec.at_each()
    ]


def _started(spec: CodecSpec) -> Codec:
    """A codec of one rate with the weights from which its training would start."""
    assert isinstance(spec.weights, str)
    codec = build_codec(spec)
    start_codec(codec, resolve_pretrained(spec.weights))
    codec.eval().requires_grad_(False)
    codec.update()
    return codec


def _of_sweep(directory: Path) -> list[Source]:
    """Base codecs once, and updated codecs of every seed, of a sweep's finished points."""
    lost: dict[OperatingPoint, str] = {}
    sources: dict[Path, Source] = {}
    for trained in finished(directory, lost):
        point, base = trained.point, trained.codec_dir
        if point.codec is None or point.lmbda is None or base is None:
            continue
        first = OperatingPoint(point.codec, point.lmbda, BASE, point.seed)
        sources.setdefault(base, Source(first, partial(load_codec, point.codec, base)))
        if scenario_of(point.scenario).updates_codec:
            load = method_of(point.scenario).codec
            sources[trained.point_dir] = Source(
                point, partial(load, point, base, trained.point_dir)
            )
    if missing := [reason for point, reason in lost.items() if point.codec is not None]:
        raise RdError("\n".join(missing))
    if not sources:
        raise RdError(f"{directory}: the sweep has no finished operating point with a codec")
    return sorted(sources.values(), key=lambda source: _order(source.point.scenario))


def _order(scenario: str) -> int:
    """Base codecs first, then scenarios in the order of figures."""
    return -1 if scenario == BASE else scenario_of(scenario).look.order

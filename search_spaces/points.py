"""From a space to its operating points."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from search_spaces.spec import CodecSpec, Space


@dataclass(frozen=True)
class OperatingPoint:
    """One trained thing: (codec, lambda, scenario or baseline, seed).

    `codec` and `lmbda` are None for `uncompressed`.
    """

    codec: CodecSpec | None
    lmbda: float | None
    scenario: str
    seed: int

    @property
    def label(self) -> str:
        """Short name for people, e.g. `mbt2018-mean d2 lambda=0.004 seed=0`."""
        if self.codec is None:
            return self.scenario
        return f"{self.codec.label} {self.scenario} lambda={self.lmbda:g} seed={self.seed}"

    @property
    def fields(self) -> dict[str, str | float | int | None]:
        """The identifying columns of the points file."""
        return {
            "codec": self.codec.label if self.codec else None,
            "lmbda": self.lmbda,
            "scenario": self.scenario,
            "seed": self.seed,
        }


def operating_points(space: Space) -> tuple[OperatingPoint, ...]:
    """All operating points of a space, in the order they are best started.

    Base codecs do not depend on the seed, so `uncompressed` and `reconstruction` stand once, under
    the first seed.
    """
    points: list[OperatingPoint] = []
    if "uncompressed" in space.baselines:
        points.append(OperatingPoint(None, None, "uncompressed", space.seeds[0]))
    for codec in space.codecs:
        for lmbda in codec.lambdas:
            if "reconstruction" in space.baselines:
                points.append(OperatingPoint(codec, lmbda, "reconstruction", space.seeds[0]))
            trained = [*space.scenarios, *(b for b in space.baselines if b == "post_processing")]
            points += [
                OperatingPoint(codec, lmbda, scenario, seed)
                for seed in space.seeds
                for scenario in trained
            ]
    return tuple(points)


FILTER_FIELDS = ("codec", "lmbda", "scenario", "seed")


def select(points: Iterable[OperatingPoint], filters: Iterable[str]) -> tuple[OperatingPoint, ...]:
    """The points that meet every filter `field=value[,value...]`.

    Raises:
        ValueError: a filter names an unknown field or a value that no point has; the message says
            which ones there are.
    """
    kept = tuple(points)
    everything = kept
    problems: list[str] = []
    for text in filters:
        field, _, wanted = text.partition("=")
        field = {"lambda": "lmbda"}.get(field.strip(), field.strip())
        if field not in FILTER_FIELDS or not wanted:
            problems.append(
                f"--only {text!r}: write field=value[,value...] with a field of "
                f"{', '.join(FILTER_FIELDS)}"
            )
            continue
        there = {_text(p.fields[field]) for p in everything}
        values = {_normal(field, value) for value in wanted.split(",")}
        for value in sorted(values - there):
            problems.append(
                f"--only {text!r}: no operating point has {field} {value}; "
                f"there are {', '.join(sorted(there))}"
            )
        kept = tuple(p for p in kept if _text(p.fields[field]) in values)
    if problems:
        raise ValueError("\n".join(problems))
    if not kept:
        raise ValueError("--only: no operating point meets all the filters together")
    return kept


def _text(value: str | float | int | None) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _normal(field: str, value: str) -> str:
    value = value.strip()
    if field == "lmbda":
        try:
            return _text(float(value))
        except ValueError:
            return value
    return value

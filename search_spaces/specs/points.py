"""Operating points, and filters on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from search_spaces.specs.classical import ClassicalSpec
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.space import JOINED

TOKENS = "tokens"
"""The `codec` of feature_coding in points and plots: what is coded is no image."""


@dataclass(frozen=True)
class OperatingPoint:
    """One trained thing: (codec, lambda, scenario or baseline, seed), in a variant of the space.

    `codec` is the codec at `lmbda` alone (`CodecSpec.at`); both are None for `uncompressed`, and
    where `classical` is the standard's codec at `quality`. `feature_coding` has no codec and a
    lambda of its own.
    `variant` names the variant of the space it belongs to, or those that share it, joined by `+`;
    empty where all do or there are none.
    """

    codec: CodecSpec | None
    lmbda: float | None
    scenario: str
    seed: int
    variant: str = ""
    classical: ClassicalSpec | None = None
    quality: int | None = None

    @property
    def released(self) -> str | None:
        """The file that this point is taken from, if it is not trained."""
        if self.codec is None or self.lmbda is None:
            return None
        files = self.codec.at(self.lmbda).released.named() if self.codec.released.named() else {}
        return next((found for name, (found,) in files.items() if name == self.scenario), None)

    @property
    def label(self) -> str:
        """Short name for people, e.g. `mbt2018-mean d2 lambda=0.004 seed=0`."""
        scenario = f"{self.scenario} {self.variant}".strip()
        if self.classical is not None:
            return f"{self.classical.label} quality={self.quality}"
        if self.lmbda is None:
            return scenario
        name = f"{scenario} lambda={self.lmbda:g} seed={self.seed}"
        return name if self.codec is None else f"{self.codec.label} {name}"

    @property
    def fields(self) -> dict[str, str | float | int | None]:
        """The identifying columns of the points file; `variant`, `quality` where there is one."""
        codec = self.codec or self.classical
        fields: dict[str, str | float | int | None] = {
            "codec": codec.label if codec else TOKENS if self.lmbda is not None else None,
            "lmbda": self.lmbda,
            "scenario": self.scenario,
            "seed": self.seed,
        }
        fields |= {"variant": self.variant} if self.variant else {}
        return fields | ({"quality": self.quality} if self.quality is not None else {})


FILTER_FIELDS = ("codec", "lmbda", "scenario", "seed", "variant")


def select(points: Iterable[OperatingPoint], filters: Iterable[str]) -> tuple[OperatingPoint, ...]:
    """The points that meet every filter `field=value[,value...]`.

    A point that all variants share belongs to each of them.

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
        there = set().union(*(_values(p, field) for p in everything))
        values = {_normal(field, value) for value in wanted.split(",")}
        for value in sorted(values - there):
            problems.append(
                f"--only {text!r}: no operating point has {field} {value}; "
                f"there are {', '.join(sorted(there)) or 'none in this space'}"
            )
        shared = field == "variant" and bool(there)
        kept = tuple(p for p in kept if (own := _values(p, field)) & values or (shared and not own))
    if problems:
        raise ValueError("\n".join(problems))
    if not kept:
        raise ValueError("--only: no operating point meets all the filters together")
    return kept


def _values(point: OperatingPoint, field: str) -> set[str]:
    """What a filter may say of a point: for variants each that it belongs to."""
    if field == "variant":
        return set(filter(None, point.variant.split(JOINED)))
    return {_text(point.fields[field])}


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

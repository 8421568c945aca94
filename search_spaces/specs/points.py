"""Operating points, and filters on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from search_spaces.specs.codec import CodecSpec

JOINED: Final = "+"
"""Between the names of several variants that share a point."""


@dataclass(frozen=True)
class OperatingPoint:
    """One trained thing: (codec, rate, scenario, seed), in a variant of the space.

    Attributes:
        codec: the learned image codec at `lmbda` alone (`CodecSpec.at`); with all its rates where
            `lmbda` is None; None for a scenario that uses none.
        lmbda: CompressAI's lambda, or that of the scenario's own codec; None where there is none.
        scenario: name of the scenario.
        seed: of its training.
        variant: the space's variant that it belongs to, or those that share it, joined by `+`;
            empty where all do or there are none.
        coder: name of what writes its bits where that is no learned image codec: a standard's
            codec, or the scenario's own.
        quality: of a standard's codec; None elsewhere.
    """

    codec: CodecSpec | None
    lmbda: float | None
    scenario: str
    seed: int
    variant: str = ""
    coder: str = ""
    quality: int | None = None

    @property
    def released(self) -> str | None:
        """The file that this point is taken from, if it is not trained."""
        if self.codec is None or self.lmbda is None:
            return None
        files = self.codec.at(self.lmbda).released
        return files[self.scenario][0] if self.scenario in files else None

    @property
    def label(self) -> str:
        """Short name for people, e.g. `mbt2018-mean d2 lambda=0.004 seed=0`."""
        scenario = f"{self.scenario} {self.variant}".strip()
        if self.quality is not None:
            return f"{self.coder} quality={self.quality}"
        if self.codec is None and self.lmbda is None:
            return scenario
        rate = "all rates" if self.lmbda is None else f"lambda={self.lmbda:g}"
        name = f"{scenario} {rate} seed={self.seed}"
        return name if self.codec is None else f"{self.codec.label} {name}"

    @property
    def fields(self) -> dict[str, str | float | int | None]:
        """The identifying columns of the points file; `variant`, `quality` where there is one."""
        fields: dict[str, str | float | int | None] = {
            "codec": self.codec.label if self.codec else self.coder or None,
            "lmbda": self.lmbda,
            "scenario": self.scenario,
            "seed": self.seed,
        }
        fields |= {"variant": self.variant} if self.variant else {}
        return fields | ({"quality": self.quality} if self.quality is not None else {})


FILTER_FIELDS = ("codec", "lambda", "scenario", "seed", "variant")
"""What stands before the `=` of a filter; `lmbda`, as columns have it, may stand for `lambda`."""


def select(points: Iterable[OperatingPoint], filters: Iterable[str]) -> tuple[OperatingPoint, ...]:
    """The points that meet every filter `field=value[,value...]`.

    A point that all variants share belongs to each of them.

    Raises:
        ValueError: a filter names an unknown field or a value that no point has; the message lists
            the valid ones.
    """
    kept = tuple(points)
    everything = kept
    problems: list[str] = []
    for text in filters:
        field, _, wanted = text.partition("=")
        field = {"lmbda": "lambda"}.get(field.strip(), field.strip())
        if field not in FILTER_FIELDS or not wanted:
            problems.append(
                f"--only {text!r}: write field=value[,value...] with a field of "
                f"{', '.join(FILTER_FIELDS)}"
            )
            continue
        valid = set().union(*(_values(p, field) for p in everything))
        values = {_normal(field, value) for value in wanted.split(",")}
        for value in sorted(values - valid):
            problems.append(
                f"--only {text!r}: no operating point has {field} {value}; "
                f"there are {', '.join(sorted(valid)) or 'none in this space'}"
            )
        shared = field == "variant" and bool(valid)
        kept = tuple(p for p in kept if (had := _values(p, field)) & values or (shared and not had))
    if problems:
        raise ValueError("\n".join(problems))
    if not kept:
        raise ValueError("--only: no operating point meets all the filters together")
    return kept


def _values(point: OperatingPoint, field: str) -> set[str]:
    """The values that a filter may give for a point; of variants, each that it belongs to."""
    if field == "variant":
        return set(filter(None, point.variant.split(JOINED)))
    return {_text(point.fields["lmbda" if field == "lambda" else field])}


def _text(value: str | float | int | None) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _normal(field: str, value: str) -> str:
    value = value.strip()
    if field == "lambda":
        try:
            return _text(float(value))
        except ValueError:
            return value
    return value

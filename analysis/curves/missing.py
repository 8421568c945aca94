"""Operating points that were expected and have no value, and the words for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from textwrap import shorten
from typing import Any


@dataclass(frozen=True)
class Missing:
    """An operating point that was expected and has no value."""

    codec: str | None
    lmbda: float | None
    scenario: str
    seed: int | None
    reason: str
    log: str | None = None
    variant: str = ""
    quality: int | None = None

    @property
    def text(self) -> str:
        """For notes, e.g. `d2 lambda 0.01: diverged`."""
        return in_words([self])[0]


def missing_point(
    wanted: Mapping[str, Any], said: Mapping[str, Any] | None, there: bool
) -> Missing:
    """A point that was wanted.

    Args:
        wanted: what the manifest says of it.
        said: what it says of its failure, if anything.
        there: whether the point has other metrics.
    """
    if said is not None:
        reason = str(said.get("reason") or "failed")
    else:
        reason = "no value of this metric" if there else "not in the points"
    return Missing(
        *(wanted["codec"], wanted["lmbda"], wanted["scenario"], wanted["seed"], reason),
        *((said or {}).get("log"), wanted.get("variant") or "", wanted.get("quality")),
    )


def in_words(missing: Iterable[Missing], codecs: bool = False) -> list[str]:
    """A line for all that one curve lacks for one reason: `d2 lambda 0.01, 0.03: diverged`.

    Args:
        missing: the points.
        codecs: name the codec of each; a standard's is named in any case.
    """
    rates: dict[tuple[str, str], dict[str, None]] = {}
    for one in missing:
        standard = one.scenario == "classical" and one.codec is not None
        name = str(one.codec) if standard else named(one.scenario, one.variant)
        if codecs and one.codec and not standard:
            name = f"{one.codec} {name}"
        kind, rate = ("quality", one.quality) if one.lmbda is None else ("lambda", one.lmbda)
        if rate is not None:
            name = f"{name} {kind}"
        own = rates.setdefault((name, shorten(one.reason, 70, placeholder=" ...")), {})
        own |= {f"{rate:g}": None} if rate is not None else {}
    return [
        f"{name} {', '.join(own)}: {reason}" if own else f"{name}: {reason}"
        for (name, reason), own in rates.items()
    ]


def named(scenario: str, variant: str) -> str:
    """A scenario in one of the space's variants, for people."""
    return f"{scenario} {variant}".strip()

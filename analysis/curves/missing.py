"""Operating points that were expected and have no value, and how notes name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from analysis.io.scenarios import Scenarios


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


def missing_point(
    wanted: Mapping[str, Any], failure: Mapping[str, Any] | None, has_other_metrics: bool
) -> Missing:
    """A missing point with its reason.

    Args:
        wanted: the point as the manifest expects it.
        failure: the manifest's entry of its failure, if there is one.
        has_other_metrics: whether the point has values of other metrics.
    """
    if failure is not None:
        reason = str(failure.get("reason") or "failed")
    else:
        reason = "no value of this metric" if has_other_metrics else "not in the points"
    return Missing(
        *(wanted["codec"], wanted["lmbda"], wanted["scenario"], wanted["seed"], reason),
        *((failure or {}).get("log"), wanted.get("variant") or "", wanted.get("quality")),
    )


def in_words(missing: Iterable[Missing], scenarios: Scenarios, codecs: bool = False) -> list[str]:
    """A line for all that one curve lacks for one reason: `NAME lambda 0.01, 0.03: diverged`.

    Args:
        missing: the points.
        scenarios: of the sweep.
        codecs: name the codec of each; a standard's is named in any case.
    """
    rates: dict[tuple[str, str], dict[str, None]] = {}
    for point in missing:
        codec = point.codec or ""
        name = scenarios.name(codec, point.scenario, point.variant)
        if codecs and codec and scenarios.look(point.scenario).codec != "standard":
            name = f"{codec} {name}"
        kind, rate = (
            ("lambda", point.lmbda) if point.lmbda is not None else ("quality", point.quality)
        )
        if rate is not None:
            name = f"{name} {kind}"
        reason = shorten(point.reason, 70, placeholder=" ...")
        of_curve = rates.setdefault((name, reason), {})
        if rate is not None:
            of_curve[f"{rate:g}"] = None
    return [
        f"{name} {', '.join(of_curve)}: {reason}" if of_curve else f"{name}: {reason}"
        for (name, reason), of_curve in rates.items()
    ]

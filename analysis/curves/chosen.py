"""Some curves of a sweep, or another scenario that curves are compared with.

Filters are written as `--only` of a sweep: `field=value[,value...]`, of which a curve meets all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import pandas as pd

from analysis.io.schema import AnalysisError
from analysis.io.sweep import Sweep
from search_spaces.specs.points import JOINED

FIELDS: Final = ("codec", "scenario", "variant", "mllm", "task")
NONE: Final = "None"
"""Codec of the points that use none."""


def choose(sweep: Sweep, filters: Iterable[str] = (), anchor: str | None = None) -> Sweep:
    """The sweep with some of its curves, as if nothing else had been asked of it.

    The bound stays, and the curves of the anchor that meet the filters on other fields than the
    scenario. A curve that all variants share belongs to each of them.

    Args:
        sweep: the sweep.
        filters: `field=value[,value...]` with a field of `FIELDS`; codec `None` is that of points
            without one.
        anchor: scenario that curves are compared with; None leaves the sweep's own.

    Raises:
        AnalysisError: a field, value or anchor that the sweep does not have, all in one message
            with the valid ones; or no curve is left.
    """
    problems: list[str] = []
    scenarios = list(dict.fromkeys(sweep.curve_points["scenario"].astype("str")))
    if anchor is not None and anchor not in scenarios:
        problems.append(
            f"anchor {anchor!r}: no such scenario in this sweep; there are {', '.join(scenarios)}"
        )
    valid = {field: _values(sweep.points[field], field) for field in FIELDS}
    wanted: dict[str, set[str]] = {}
    for text in filters:
        field, _, listed = (part.strip() for part in text.partition("="))
        values = {value.strip() for value in listed.split(",")} - {""}
        if field not in FIELDS or not values:
            problems.append(
                f"curves {text!r}: write field=value[,value...] with a field of {', '.join(FIELDS)}"
            )
            continue
        wanted[field] = wanted.get(field, values) & values
        problems += [
            f"curves {text!r}: no curve has {field} {value}; there are {', '.join(valid[field])}"
            for value in sorted(values - set(valid[field]))
        ]
    if problems:
        raise AnalysisError("\n".join(problems))
    compared_with = sweep.compared_with if anchor is None else anchor
    chosen = replace(sweep, compared_with=compared_with)
    return _filtered(chosen, wanted) if wanted else chosen


def _filtered(sweep: Sweep, wanted: Mapping[str, set[str]]) -> Sweep:
    def meets(row: Mapping[Any, Any]) -> bool:
        """Whether a point, or what is said of one that is missing, belongs to a chosen curve."""
        is_bound = sweep.scenarios.is_bound(str(row["scenario"]))
        for field in wanted.keys() & row.keys():
            if is_bound and field in ("codec", "scenario", "variant"):
                continue
            if field == "scenario" and row[field] == sweep.anchor:
                continue
            values = _values([row[field]], field)
            if field == "variant" and not values:
                continue
            if not wanted[field] & set(values):
                return False
        return True

    owners = sweep.points[list(FIELDS)].drop_duplicates()
    kept = owners[[meets(row) for row in owners.to_dict("records")]]
    if not kept["scenario"].map(lambda name: not sweep.scenarios.is_bound(name)).any():
        raise AnalysisError("curves: no curve meets all the filters together")
    of_kept = pd.MultiIndex.from_frame(kept.fillna(""))
    index = pd.MultiIndex.from_frame(sweep.points[list(FIELDS)].fillna(""))
    points = sweep.points[index.isin(of_kept)].reset_index(drop=True)
    samples = sweep.samples
    if samples is not None:
        by = ["point_key", "mllm", "task"]
        measured = pd.MultiIndex.from_frame(points[by].astype("str"))
        rows = pd.MultiIndex.from_frame(samples[by].astype("str")).isin(measured)
        samples = samples[rows].reset_index(drop=True)
    listed: dict[str, Any] = {
        name: [entry for entry in sweep.manifest[name] if meets(entry)]
        for name in ("expected", "missing")
        if name in sweep.manifest
    }
    return replace(sweep, points=points, samples=samples, manifest={**sweep.manifest, **listed})


def _values(column: Iterable[Any], field: str) -> list[str]:
    """The distinct values that a filter may give: of variants, each that a curve belongs to."""
    texts = ["" if pd.isna(value) else str(value) for value in column]
    if field == "variant":
        texts = [name for text in texts for name in text.split(JOINED) if name]
    return list(dict.fromkeys(text or NONE for text in texts))

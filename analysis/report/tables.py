"""A sweep's tables for the report, as plain strings: the page only lays them out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.curves.curve import MEAN
from analysis.io.frames import leaves, rows_of
from analysis.io.read import Sweep
from analysis.io.scenarios import Scenarios
from analysis.stats.as_text import rounded, with_interval
from analysis.stats.trainings import is_unfinished, trainings

_TEXT: Final = json.JSONEncoder(ensure_ascii=False, default=str)
"""Of a value; made once, as a page of a thousand points has a hundred thousand of them."""


def headline(assembled: Assembled, comparison: pd.DataFrame) -> dict[str, Any]:
    """Mean and tasks side by side: every curve with its rows of the comparison, None without."""
    has_mean = comparison.loc[comparison["task"] == MEAN, "value_low"].notna().any()
    tasks = [MEAN] * bool(len(assembled.tasks) > 1 and has_mean) + list(assembled.tasks)
    rows = []
    for curve, curve_rows in _by_curve(comparison, assembled.sweep.scenarios):
        by_task = {row.task: row for row in curve_rows}
        cells = [by_task.get(task) for task in tasks]
        known = (row for row in curve_rows if not pd.isna(row.bpp_low))
        first = next(known, curve_rows[0])
        bpp = {"bpp_low": first.bpp_low, "bpp_high": first.bpp_high}
        rows.append({**curve, **bpp, "cells": cells})
    return {"tasks": tasks, "rows": rows}


def _by_curve(
    comparison: pd.DataFrame, scenarios: Scenarios
) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Per curve: its owner, role, name and qualifiers, and its rows of the comparison."""
    several = {n: comparison.loc[comparison[n] != "", n].nunique() > 1 for n in ("mllm", "codec")}
    for (mllm, codec, variant, scenario), rows in comparison.groupby(
        ["mllm", "codec", "variant", "scenario"], sort=False
    ):
        name = scenarios.name(str(codec), str(scenario))
        with_codec = several["codec"] and name != codec
        names = [variant, codec if with_codec else "", mllm if several["mllm"] else ""]
        qualifiers = " ".join(str(part) for part in names if part)
        role = scenarios.look(str(scenario)).role
        curve = {
            "owner": (codec, scenario, variant),
            "name": name,
            "qualifiers": qualifiers,
            "role": role,
        }
        yield curve, list(rows_of(rows))


def comparison_groups(sweep: Sweep, comparison: pd.DataFrame) -> list[dict[str, Any]]:
    """Every curve against the anchor, with its rows of the comparison task by task."""
    return [
        {**curve, "rows": rows}
        for curve, rows in _by_curve(comparison, sweep.scenarios)
        if curve["role"] == "curve"  # anchor and bound are in the table above
    ]


def training_rows(sweep: Sweep) -> list[dict[str, Any]]:
    """Per curve: how long its points, and what they start from, were trained, as text."""
    frame = trainings(sweep)
    rows = []
    for row, unfinished in zip(rows_of(frame), is_unfinished(frame), strict=True):
        fall = "unknown" if pd.isna(row.fall) else f"fell by {row.fall:.1%}"
        rows.append(
            {
                "owner": (row.codec, row.scenario, row.variant),
                "name": f"{sweep.scenarios.title(row.scenario)} {row.variant}".strip(),
                "codec": row.codec,
                "images": f"{row.images:,.0f}",
                "steps": f"{row.steps:,.0f}",
                "seconds": f"{row.seconds:,.0f} s",
                "before": f"{row.images_before:,.0f}",
                "fall": fall if unfinished else "stands still",
                "of": row.of if unfinished else "",
                "unfinished": bool(unfinished),
            }
        )
    return rows


def more_of(row: Any, anchor: str, name: str) -> str:
    """Further numbers of a comparison and its note, as sentences.

    Args:
        row: of `compare`'s frame.
        anchor, name: of both curves; they are written as they are, at a sentence's start too.
    """
    sentences = []
    if row.saved_at_anchor:
        pairs = row.saved_at_anchor
        changes = ", ".join(f"{_change(saved)} at {accuracy:.2f}" for accuracy, saved in pairs)
        fewest = f"fewest, {_change(row.saved_max)}, at accuracy {row.saved_max_at:.2f}"
        sentences.append(f"Bits at {anchor}'s accuracies: {changes}; {fewest}.".replace("-", "−"))
    if not pd.isna(row.bd_rate_of_tasks):
        mean = with_interval(row.bd_rate_of_tasks, sign=True)
        sentences.append(f"The mean of the tasks' BD-rates is {mean}.")
    if row.note:
        is_name = row.note.startswith((f"{name} ", f"{anchor} "))
        sentences.append(f"{row.note if is_name else row.note[0].upper() + row.note[1:]}.")
    return " ".join(sentences)


def _change(saved: float) -> str:
    """A saving as the change of the bits, like a BD-rate: fewer are negative."""
    return f"{rounded(-saved)} %"


def point_rows(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Settings, results and provenance of each operating point, in the curves' order."""
    described: dict[str, Any] = sweep.manifest.get("points", {})
    scenarios = sweep.scenarios
    rows = sweep.points.assign(
        _rank=sweep.points["scenario"].map(lambda s: (not scenarios.is_bound(s), scenarios.rank(s)))
    ).sort_values(["codec", "_rank", "bpp"], na_position="first")
    means = rows.groupby("point_key")[["bpp", "bpp_estimated"]].mean().to_dict("index")
    of_points: dict[str, list[dict[Any, Any]]] = {}
    for row in rows.to_dict("records"):
        of_points.setdefault(row["point_key"], []).append(row)
    for key, of_point in of_points.items():
        record, first = described.get(key, {}), of_point[0]
        codec = "" if pd.isna(first["codec"]) else first["codec"]
        yield {
            "owner": (codec, first["scenario"], first["variant"]),
            "key": key,
            "scenario": first["scenario"],
            "name": scenarios.title(first["scenario"]),
            "variant": first["variant"],
            "codec": codec,
            "rate": rate_words(first),
            "seed": first["seed"],
            "bpp": f"{means[key]['bpp']:.3f}",
            "bpp_estimated": number(means[key]["bpp_estimated"], ".3f"),
            "psnr": number(first["psnr"], ".2f"),
            "values": [f"{row['task']} {row['metric']} {row['value']:.3f}" for row in of_point],
            "seconds": {k: f"{v:.1f} s" for k, v in (record.get("seconds") or {}).items()},
            "run_id": record.get("run_id") or ("" if pd.isna(first["run_id"]) else first["run_id"]),
            "made": _made(record.get("spec") or {}),
            "settings": settings(record),
        }


def hover(row: dict[str, Any]) -> dict[str, Any]:
    """The text shown when the pointer is over an operating point."""
    bits = f"{row['bpp']} bpp written"
    if row["bpp_estimated"]:
        bits += f", {row['bpp_estimated']} estimated"
    seconds = ", ".join(f"{step} {s}" for step, s in row["seconds"].items())
    lines = [
        " ".join(filter(None, [row["codec"], row["rate"], f"seed {row['seed']}"])),
        bits + (f", PSNR {row['psnr']} dB" if row["psnr"] else ""),
        row["made"],
        seconds,
    ]
    return {
        "name": f"{row['name']} {row['variant']}".strip(),
        "lines": [line for line in lines if line],
        "run": row["run_id"],
    }


def settings(record: dict[str, Any]) -> dict[str, str]:
    """Settings and provenance of a point: dotted path -> value as JSON."""
    parts = [("", record.get("spec") or {}), ("provenance", record.get("provenance") or {})]
    return {
        path: _TEXT.encode(value)
        for prefix, part in parts
        for path, value in leaves(part, prefix, lists=False)
        if path and path != prefix
    }


def shared_settings(points: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Per scenario the settings that all of its points share, removed from the points' `settings`.

    Otherwise a page of a thousand points would repeat them a thousand times.
    """
    shared: dict[str, dict[str, str]] = {}
    for scenario in dict.fromkeys(point["scenario"] for point in points):
        of_scenario = [point for point in points if point["scenario"] == scenario]
        common = set.intersection(*(set(point["settings"].items()) for point in of_scenario))
        shared[scenario] = {k: v for k, v in of_scenario[0]["settings"].items() if (k, v) in common}
        for point in of_scenario:
            mine = point["settings"].items()
            point["settings"] = {k: v for k, v in mine if (k, v) not in common}
    return shared


def _made(spec: dict[str, Any]) -> str:
    """The first few settings of a training, as one line."""
    train = spec.get("train") or spec
    known = {k: v for k, v in train.items() if isinstance(v, (int, float, str)) and v != ""}
    known = {k: v for k, v in known.items() if k not in ("scenario", "codec", "lmbda", "seed")}
    return ", ".join(f"{k} {v}" for k, v in list(known.items())[:5])


def versions(sweep: Sweep) -> list[tuple[str, str]]:
    """Provenance entries that are the same for all points, as (name, text)."""
    provenances = [p.get("provenance") or {} for p in sweep.manifest.get("points", {}).values()]
    texts: dict[str, set[str]] = {}
    for name, value in (entry for provenance in provenances for entry in provenance.items()):
        texts.setdefault(name, set()).add(value if isinstance(value, str) else pretty(value))
    return [(name, next(iter(values))) for name, values in texts.items() if len(values) == 1]


def pretty(value: Any) -> str:
    """Data as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def number(value: float | None, form: str) -> str:
    """A number as text, empty where there is none."""
    return "" if value is None or pd.isna(value) else f"{value:{form}}"


def rate_of(row: Any) -> str:
    """What sets a point's rate: its lambda, or the quality of a standard's codec."""
    if not pd.isna(row["lmbda"]):
        return f"{row['lmbda']:g}"
    quality = row.get("quality")
    return "" if quality is None or pd.isna(quality) else f"quality {quality:g}"


def rate_words(row: Any) -> str:
    """The same for people: `lambda 0.01`, `quality 20`."""
    rate = rate_of(row)
    return f"lambda {rate}" if rate and " " not in rate else rate

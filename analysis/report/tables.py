"""A sweep's tables for the report, as plain strings: the page only lays them out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.curves.curve import MEAN
from analysis.io.frames import leaves, rows_of
from analysis.io.read import Sweep
from analysis.io.scenarios import Scenarios
from analysis.stats.as_text import span, with_interval
from analysis.stats.surrogate import TERMS, coefficient
from analysis.stats.variants import ablation


def headline(assembled: Assembled, comparison: pd.DataFrame) -> dict[str, Any]:
    """Mean and tasks side by side: a row per curve with its BD-rates; the ends of its range."""
    tasks = [MEAN, *assembled.tasks] if assembled.means else list(assembled.tasks)
    rows = []
    for curve, curve_rows in _by_curve(comparison, assembled.sweep.scenarios):
        by_task = {row.task: row for row in curve_rows}
        first = curve_rows[0]
        cells = []
        for task in tasks:
            row = by_task.get(task)
            if row is None:
                cells.append({"main": "", "sub": "", "note": ""})
                continue
            number = with_interval(row.bd_rate, sign=True)
            interval = with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True)
            cells.append(
                {
                    "main": number,
                    "sub": interval[len(number) :].strip(),
                    "accuracy": span(row.value_low, row.value_high, 2),
                    "note": row.note if not number else "",
                }
            )
        rows.append({**curve, "bpp": span(first.bpp_low, first.bpp_high, 2), "cells": cells})
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
        of = " ".join(str(part) for part in names if part)
        role = scenarios.look(str(scenario)).role
        curve = {"owner": (codec, scenario, variant), "name": name, "of": of, "role": role}
        yield curve, list(rows_of(rows))


def variant_rows(assembled: Assembled, comparison: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Per variant its settings and results; nothing without variants."""
    frame, scenarios = ablation(assembled, comparison), assembled.sweep.scenarios
    several = {name: frame[name].nunique() > 1 for name in ("codec", "mllm")}
    for row in rows_of(frame[frame["variant"] != ""]):
        names = [row.codec if several["codec"] else "", row.mllm if several["mllm"] else ""]
        accuracy, rate = "", with_interval(row.bd_rate, sign=True)
        if pd.notna(row.accuracy_low):
            accuracy = f"[{row.accuracy_low:.3f}, {row.accuracy_high:.3f}]"
        both = with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True)
        yield {
            "owner": (row.codec, row.scenario, row.variant),
            "variant": row.variant,
            "settings": row.settings,
            "name": scenarios.title(row.scenario),
            "is_anchor": row.scenario == assembled.sweep.anchor,
            "of": ", ".join(filter(None, names)),
            "bpp": f"{row.bpp:.3f}",
            "accuracy": f"{row.accuracy:.3f}",
            "accuracy_interval": accuracy,
            "bd_rate": rate,
            "bd_rate_interval": both[len(rate) :].strip(),
            "psnr": number(row.psnr, ".2f"),
            "note": row.note,
        }


def comparison_groups(sweep: Sweep, comparison: pd.DataFrame) -> list[dict[str, Any]]:
    """Every curve against the anchor, in all of `compare`'s numbers: its rows task by task."""
    anchor = sweep.scenarios.title(sweep.anchor)
    return [
        {**curve, "rows": [_comparison_row(row, anchor) for row in rows]}
        for curve, rows in _by_curve(comparison, sweep.scenarios)
        if curve["role"] == "curve"  # anchor and bound are in the table above
    ]


def _comparison_row(row: Any, anchor: str) -> dict[str, str]:
    gained = (row.bd_accuracy, row.bd_accuracy_low, row.bd_accuracy_high)
    return {
        "task": row.task,
        "metric": row.metric,
        "bpp": span(row.bpp_low, row.bpp_high, 3),
        "accuracy": span(row.value_low, row.value_high, 3),
        "bd_rate": with_interval(row.bd_rate, row.bd_rate_low, row.bd_rate_high, sign=True),
        "bd_accuracy": with_interval(*gained, sign=True, digits=3, unit=""),
        "saved": with_interval(row.saved, row.saved_low, row.saved_high),
        "target": span(row.target, row.target, 2),
        "overlap": "" if pd.isna(row.overlap) else f"{row.overlap:.0%}",
        "more": " ".join(_more(row, anchor)),
    }


def _more(row: Any, anchor: str) -> Iterator[str]:
    """Further numbers of a comparison and its note, as sentences."""
    if row.saved_at_anchor:
        at = ", ".join(f"{saved:.0f} % at {of:.2f}" for of, saved in row.saved_at_anchor)
        most = f"most, {row.saved_max:.0f} %, at accuracy {row.saved_max_at:.2f}"
        yield f"Saved at {anchor}'s accuracies: {at}; {most}.".replace("-", "−")
    if not pd.isna(row.bd_rate_of_tasks):
        mean = with_interval(row.bd_rate_of_tasks, sign=True)
        yield f"The mean of the tasks' BD-rates is {mean}."
    if row.note:
        yield f"{row.note[0].upper()}{row.note[1:]}."


def point_rows(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Settings, results and provenance of each operating point, in the curves' order."""
    described: dict[str, Any] = sweep.manifest.get("points", {})
    scenarios = sweep.scenarios
    rows = sweep.points.assign(
        _rank=sweep.points["scenario"].map(lambda s: (not scenarios.is_bound(s), scenarios.rank(s)))
    ).sort_values(["codec", "_rank", "bpp"], na_position="first")
    for key, point_rows in rows.groupby("point_key", sort=False):
        made = described.get(str(key), {})
        first = point_rows.iloc[0]
        values = [f"{r.task} {r.metric} {r.value:.3f}" for r in rows_of(point_rows)]
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
            "bpp": f"{point_rows['bpp'].mean():.3f}",
            "bpp_estimated": number(point_rows["bpp_estimated"].mean(), ".3f"),
            "psnr": number(first["psnr"], ".2f"),
            "values": values,
            "seconds": {k: f"{v:.1f} s" for k, v in (made.get("seconds") or {}).items()},
            "run_id": made.get("run_id") or ("" if pd.isna(first["run_id"]) else first["run_id"]),
            "made": _made(made.get("spec") or {}),
            "settings": settings(made),
        }


def scenario_rows(sweep: Sweep) -> list[dict[str, Any]]:
    """The sweep's described scenarios in order: marker, name, sentence and plug-in."""
    scenarios = sweep.scenarios
    codecs = dict(zip(sweep.points["scenario"], sweep.points["codec"].fillna(""), strict=True))
    return [
        {
            "owner": (codecs[name], name, ""),
            "name": look.title,
            "key": name,
            "sentence": look.sentence,
            "distribution": look.distribution,
        }
        for name in sorted(codecs, key=scenarios.rank)
        if (look := scenarios.look(name)).sentence or look.distribution
    ]


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


def settings(made: dict[str, Any]) -> dict[str, str]:
    """Settings and provenance of a point: dotted path -> value as JSON."""
    parts = [("", made.get("spec") or {}), ("provenance", made.get("provenance") or {})]
    return {
        path: json.dumps(value, ensure_ascii=False, default=str)
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


def surrogate_rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The surrogate's terms against the tasks: what `surrogate` gave, as text."""
    several = frame["mllm"].nunique() > 1
    for row in rows_of(frame):
        yield {
            "task": row.task,
            "of": f"{row.metric}, {row.mllm}" if several else row.metric,
            "term": TERMS[row.term],
            "n": row.n_points,
            "spearman": coefficient(row.spearman, row.spearman_low, row.spearman_high),
            "kendall": coefficient(row.kendall, row.kendall_low, row.kendall_high),
            "equal": coefficient(row.at_equal_rate),
            "words": row.words,
        }


def versions(sweep: Sweep) -> list[tuple[str, str]]:
    """Provenance entries that are the same for all points, as (name, text)."""
    made = [p.get("provenance") or {} for p in sweep.manifest.get("points", {}).values()]
    flat: dict[str, list[str]] = {}
    for provenance in made:
        for name, value in provenance.items():
            text = value if isinstance(value, str) else pretty(value)
            seen = flat.setdefault(str(name), [])
            if text not in seen:
                seen.append(text)
    return [(name, texts[0]) for name, texts in flat.items() if len(texts) == 1]


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

"""A table of rates, and the results of benchmarks at each of them.

    results,codec,bpp,lmbda
    runs/vtm-q37,vtm,0.05,37
    runs/elic-1,elic,0.06,0.004

A row is an operating point. `results` is what VLMEvalKit or lmms-eval wrote when it evaluated the
decoded images: a file, or a directory of several, relative to the table or a fsspec URI. Each
benchmark is a task. A row with `task`, the name of a benchmark, is for that benchmark alone: bits
that differ between benchmarks need a row each, which are one point where `lmbda` or `quality`, of
one codec, scenario, variant and seed, agree.

Without `scenario`, each codec is one; `uncompressed` is the level without compression. Unless one
of the scenarios is the anchor, with which the others are compared, the table's first curve is.

Percentages become fractions, so that a mean over tasks has one unit: 58.2 is 0.582. What may be
either is a percentage when one of the metric's values in the table is above 1 (see across.py).
Scores that are no share of all answers keep their numbers: CIDEr, BLEU, MME's points.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, replace
from textwrap import shorten
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.io.benchmarks.across import FACTORS, same_samples, with_units
from analysis.io.benchmarks.read import read_results
from analysis.io.benchmarks.scores import Results, ResultsError, Score
from analysis.io.directions import Directions
from analysis.io.other_results import stem, unsaid
from analysis.io.scenarios import Scenarios
from analysis.io.schema import (
    COLUMNS,
    FRACTION,
    OPTIONAL,
    RESULTS,
    UNKNOWN,
    AnalysisError,
    check_points,
)
from analysis.io.sweep import CATEGORIES, Sweep
from search_spaces.specs.scenario_look import ScenarioLook

_NEEDED: Final = (RESULTS, "codec", "bpp")
_OF_RESULTS: Final = (
    *("sweep", "point_key", "dataset", "split", "metric"),
    *("value", "value_low", "value_high", "n_samples"),
)
"""Columns of the points file that the table does not set."""
_LOCAL: Final = ("file://", "local://")
"""How URIs of local files begin."""


@dataclass(frozen=True)
class _Scored:
    """A score at a row's operating point.

    Attributes:
        row: columns of the points file that the row sets, and `point_key`.
        place: the table and the row, for messages.
        score: as its file has it, with the unit that all rows say.
    """

    row: dict[str, Any]
    place: str
    score: Score


def is_rates_table(frame: pd.DataFrame) -> bool:
    """Whether a table is for `from_rates_table`: it has the column `results`."""
    return RESULTS in frame and "point_key" not in frame


def from_rates_table(frame: pd.DataFrame, source: str, directions: Directions) -> Sweep:
    """A sweep from a table of rates and the results that it names.

    Args:
        frame: with `results`, `codec` and `bpp` (bit/pixel), and any of `task`, `scenario`,
            `variant`, `lmbda`, `quality`, `seed`, `mllm`, `psnr` and the points file's others.
        source: where the table lies.
        directions: said for metrics; they come before those that the results say.

    Returns:
        A row per point, task and metric, and the samples where the results have some.

    Raises:
        AnalysisError: columns or values that are missing or wrong, results that cannot be read
            (see `read_results`), a point twice, or a metric of unknown direction.
    """
    table = _with_points(frame, source)
    scored, left_out = _read_rows(frame, table, source)
    clashing, lines = same_samples(one.score for one in scored)
    left_out += lines
    # One that is no mean over samples may equal it at a point by chance.
    no_means = {(s.task, s.metric) for s in (one.score for one in scored) if s.is_no_mean}
    rows, samples = [], []
    for one in scored:
        score, factor = one.score, _factor(one)
        kind = {"task": score.task, "metric": score.metric, "dataset": score.benchmark}
        about = {"split": score.split or UNKNOWN, "n_samples": score.n_samples}
        rows.append({**unsaid(stem(source)), **one.row, **kind, **about})
        rows[-1]["value"] = score.value / factor
        is_paired = score.task not in clashing and (score.task, score.metric) not in no_means
        if score.samples is not None and is_paired:
            kind |= {"point_key": one.row["point_key"], "mllm": one.row["mllm"]}
            values = score.samples["value"] / factor
            samples.append(score.samples.assign(**kind, value=values, bpp=np.nan))
    points = pd.DataFrame(rows)
    extra = [column for column in points if column not in COLUMNS.names]
    unused = ", ".join(str(c) for c in frame if c not in (*table, RESULTS, "task"))
    left_out += [f"columns not used: {unused}"] if unused else []
    manifest = {
        "sweep": stem(source),
        "tasks": _tasks(scored, directions),
        "scenarios": _looks(table["scenario"], "scenario" in frame),
        "skipped": [f"{posixpath.basename(source)}: {line}" for line in left_out],
    }
    return Sweep(
        check_points(points[[*COLUMNS.names, *extra]], source),
        _as_categories(samples),
        {name: part for name, part in manifest.items() if part},
    )


def _with_points(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """The table's columns of the points file, with `scenario` and `point_key`."""
    missing = [name for name in _NEEDED if name not in frame]
    if missing:
        raise AnalysisError(
            f"{source}: a table of rates without {', '.join(missing)}: it needs "
            f"{', '.join(_NEEDED)}; it holds {', '.join(map(str, frame.columns))}"
        )
    if frame.empty:
        raise AnalysisError(f"{source}: a table of rates without rows")
    settable = [name for name in (*COLUMNS.names, *OPTIONAL) if name not in _OF_RESULTS]
    table = frame[[name for name in settable if name in frame and name != "task"]].copy()
    if "scenario" not in frame:
        table["scenario"] = frame["codec"]
    table["bpp"] = pd.to_numeric(frame["bpp"], errors="coerce")
    psnr = (
        pd.to_numeric(frame["psnr"], errors="coerce") if "psnr" in frame else [np.nan] * len(frame)
    )
    needed = zip(table["bpp"], frame["bpp"], frame[RESULTS], table["scenario"], psnr, strict=True)
    for number, (bits, text, results, scenario, decibels) in enumerate(needed, 1):
        place = f"{source}, row {number}"
        if not (np.isfinite(bits) and bits > 0):
            raise AnalysisError(f"{place}: bpp {text}: must be a number above 0")
        if not str(results).strip() or pd.isna(results):
            raise AnalysisError(f"{place}: results is empty: it must name a file or a directory")
        if not str(scenario).strip() or pd.isna(scenario):
            raise AnalysisError(f"{place}: codec is empty, which needs a scenario")
        if np.isinf(decibels):
            raise AnalysisError(f"{place}: psnr {decibels}: must be finite, or empty")
    names = [name for name in ("codec", "scenario", "variant", "seed") if name in table]
    points = (
        table[names].assign(rate=_rates(table)).groupby([*names, "rate"], sort=False, dropna=False)
    )
    return table.assign(point_key=[f"{stem(source)}:{number}" for number in points.ngroup()])


def _rates(table: pd.DataFrame) -> pd.Series[str]:
    """What tells the points of a curve apart: `lmbda`, without it `quality`, without both bits."""
    rates = table["bpp"].map("{} bpp".format)
    for name in ("quality", "lmbda"):
        if name in table:
            rates = table[name].map(f"{name} {{}}".format).where(table[name].notna(), rates)
    return rates


def _read_rows(
    frame: pd.DataFrame, table: pd.DataFrame, source: str
) -> tuple[list[_Scored], list[str]]:
    """Every row's scores, and a line for each thing in its results that is not read."""
    known: dict[tuple[str, str], dict[str, Results]] = {}
    scored: list[_Scored] = []
    left_out: dict[str, list[str]] = {}
    chosen = frame["task"].fillna("") if "task" in frame else [""] * len(frame)
    rows = zip(table.to_dict("records"), frame[RESULTS], chosen, strict=True)
    for number, (row, results, task) in enumerate(rows, 1):
        place = f"{source}, row {number}"
        path = _path(results, source, place)
        about = {str(name): value for name, value in row.items()}
        mllm = about["mllm"] if isinstance(about.get("mllm"), str) else ""
        try:
            if (path, mllm) not in known:
                known[path, mllm] = read_results(path, mllm)
        except ResultsError as error:
            raise AnalysisError(f"{place}: {error}") from None
        of_row = [
            _Scored(about | {"mllm": mllm or result.model or UNKNOWN}, place, score)
            for result in known[path, mllm].values()
            for score in result.scores
            if task in ("", score.task, score.benchmark)
        ]
        if not of_row:
            names = {s.task: None for r in known[path, mllm].values() for s in r.scores}
            raise AnalysisError(f"{place}: task {task!r}: {path} has {', '.join(names)}")
        scored += of_row
        for line in (line for r in known[path, mllm].values() for line in r.left_out):
            left_out.setdefault(line, []).append(results)
    _check_twice(scored)
    united = with_units([one.score for one in scored])
    scored = [replace(one, score=score) for one, score in zip(scored, united, strict=True)]
    return scored, [
        f"{line} ({shorten(', '.join(dict.fromkeys(where)), 60, placeholder=' ...')})"
        for line, where in left_out.items()
    ]


def _path(results: str, source: str, place: str) -> str:
    """The path of results that a table names.

    Raises:
        AnalysisError: a local path in a table that others may have made, elsewhere.
    """
    is_remote = "://" in source and not source.startswith(_LOCAL)
    first, *inner = results.split("::")  # a chain, such as an archive's and its own place
    is_local = any(part.startswith(("/", *_LOCAL)) for part in (first, *inner)) or any(
        "://" not in part for part in inner
    )
    if is_remote and is_local:
        raise AnalysisError(f"{place}: results {results!r}: a local path, of a table that is not")
    return results if "://" in results else posixpath.join(posixpath.dirname(source), results)


def _check_twice(scored: Iterable[_Scored]) -> None:
    """Refuse two rows that give one point a value of one metric."""
    places: dict[tuple[str, ...], str] = {}
    for one in scored:
        key = (one.row["point_key"], one.row["mllm"], one.score.task, one.score.metric)
        if (first := places.setdefault(key, one.place)) != one.place:
            raise AnalysisError(
                f"{one.place}: the point of {first.rpartition(', ')[2]} again, with "
                f"{one.score.task} of {one.row['mllm']}; points differ in codec, scenario, "
                "variant, seed, and lmbda, quality or bpp"
            )


def _factor(one: _Scored) -> float:
    """What a score is divided by.

    Raises:
        AnalysisError: a share outside of 0 to 1.
    """
    score = one.score
    if score.scale == "own":
        return 1.0
    factor = FACTORS[score.scale]
    if not 0 <= score.value / factor <= 1:
        raise AnalysisError(
            f"{one.place}: {score.task} {score.metric} {score.value:g}: must be a fraction "
            "(0 to 1) or a percentage (0 to 100)"
        )
    return factor


def _tasks(scored: Iterable[_Scored], directions: Directions) -> dict[str, Any]:
    """The manifest's description of the tasks."""
    tasks: dict[str, Any] = {}
    for one in scored:
        score = one.score
        said = score.metric in directions.higher | directions.lower
        better = score.higher_is_better
        if said or better is None:
            better = directions.of([score.metric], f"{one.place}: {score.task}")[score.metric]
        task = tasks.setdefault(score.task, {"primary": score.metric, "metrics": {}})
        unit = {} if score.scale == "own" else {"unit": FRACTION}
        task["metrics"].setdefault(score.metric, {"higher_is_better": better, **unit})
    return tasks


def _looks(names: pd.Series[str], are_said: bool) -> dict[str, Any]:
    """Looks of scenarios, of which the first that is not the bound is the anchor.

    Args:
        names: the scenario of each row.
        are_said: the table has them. They keep their looks, and the anchor among them is the one;
            otherwise they are codecs: curves of the codecs' names.
    """
    known = Scenarios()
    curves = [str(name) for name in names.unique() if not known.is_bound(str(name))]
    if are_said:
        if not curves or known.anchor(curves) in curves:
            return {}
        anchor = known.look(curves[0]).model_copy(update={"role": "anchor"})
        return {curves[0]: anchor.model_dump(mode="json")}
    return {
        codec: {
            "title": codec,
            "order": ScenarioLook.model_fields["order"].default + number,
            "role": "curve" if number else "anchor",
            "codec": "standard",
            "image": "own",
        }
        for number, codec in enumerate(curves)
    }


def _as_categories(samples: list[pd.DataFrame]) -> pd.DataFrame | None:
    """All samples, with the types of those that are read from a sweep's file."""
    if not samples:
        return None
    return pd.concat(samples, ignore_index=True).astype(dict.fromkeys(CATEGORIES, "category"))

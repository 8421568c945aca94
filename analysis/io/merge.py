"""Several sweeps as one, so that their curves can be compared.

Keys are made from settings, so a point that two sweeps share has one key and was measured once. One
key with two values, or one name with two keys, would be averaged into a curve that was never
trained. Such sweeps are refused, or their curves are kept apart by the sweeps' names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.io.files import below, whole
from analysis.io.names import number_duplicates
from analysis.io.scenarios import Scenarios
from analysis.io.schema import KEY, KIND, AnalysisError
from analysis.io.sweep import Sweep
from search_spaces.specs.points import JOINED

_NAMED: Final = ["codec", "variant", "scenario", "seed", "mllm", "task", "dataset", "split"]
"""Columns that, with metric and rate, are a point's name."""
_SAMPLE: Final = ["point_key", "mllm", "task", "metric", "dataset"]


def merge(sweeps: Sequence[Sweep], apart: bool = False) -> Sweep:
    """One sweep from several: all their points, samples, and what was expected and is missing.

    A point that several have, with the same key, variant and value, is there once.

    Args:
        sweeps: two or more.
        apart: make each sweep's name (a part of) its points' variants, so that points of the same
            name stay different curves. Their anchors are then their own.

    Raises:
        AnalysisError: one key with two values; without `apart` also one name with two keys (points
            that differ in settings without a column); bounds of different values, which shows that
            the test samples differ.
    """
    sweeps = _with_shared_names(sweeps)
    labels = number_duplicates([sweep.name for sweep in sweeps])
    pairs = zip(sweeps, labels, strict=True)
    namers = [_namer(sweep, label if apart else "") for sweep, label in pairs]
    parts = [
        _whole_tasks(sweep.points).assign(_sweep=label, variant=sweep.points["variant"].map(namer))
        for sweep, label, namer in zip(sweeps, labels, namers, strict=True)
    ]
    points = pd.concat(parts, ignore_index=True)
    _check_keys(points)
    described = _scenarios(sweeps)
    scenarios = Scenarios.described_by({"scenarios": described})
    is_bound = points["scenario"].map(scenarios.is_bound).astype(bool)
    _check_bounds(points[is_bound], scenarios)
    if not apart:
        _check_names(points[~is_bound])
    points = points.drop_duplicates([*KEY, "variant"], ignore_index=True)
    return Sweep(
        points.drop(columns="_sweep"),
        _samples(sweeps),
        {
            **_manifest(sweeps, labels, namers, set() if apart else set(points["point_key"])),
            **({"scenarios": described} if described else {}),
        },
    )


def _with_shared_names(sweeps: Sequence[Sweep]) -> list[Sweep]:
    """The sweeps with one name for each MLLM or encoder, that of the first sweep which has it.

    They are told apart by the checksums in the manifests, whatever their directories are called.
    """
    first_names: dict[str, str] = {}
    renamed = []
    for sweep in sweeps:
        checksums = sweep.manifest.get("answerers") or {}
        names = {name: first_names.setdefault(checksums[name], name) for name in checksums}
        without_checksum = {*sweep.points["mllm"].unique()} - names.keys()
        if len({*names.values()}) < len(names) or without_checksum & {*names.values()}:
            names = {}  # two names of this sweep would become one
        renamed.append(_renamed(sweep, {old: new for old, new in names.items() if old != new}))
    return renamed


def _renamed(sweep: Sweep, names: Mapping[str, str]) -> Sweep:
    """A sweep with other names of MLLMs and encoders, by their names so far."""
    if not names:
        return sweep

    def renamed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(mllm=frame["mllm"].astype("str").replace(names))

    points = {
        key: {
            **entry,
            "examples": [
                {**example, "mllm": names.get(example.get("mllm"), example.get("mllm"))}
                for example in entry.get("examples") or []
            ],
        }
        for key, entry in sweep.manifest.get("points", {}).items()
    }
    return replace(
        sweep,
        points=renamed(sweep.points),
        samples=None if sweep.samples is None else renamed(sweep.samples),
        manifest={**sweep.manifest, "points": points},
    )


def _scenarios(sweeps: Sequence[Sweep]) -> dict[str, Any]:
    """What the sweeps' manifests say of their scenarios; of one in several, the first."""
    described: dict[str, Any] = {}
    for sweep in sweeps:
        described = {**(sweep.manifest.get("scenarios") or {}), **described}
    return described


def _whole_tasks(frame: pd.DataFrame) -> pd.DataFrame:
    """Points or samples with their tasks' names alone, without the data set's (see `Sweep`)."""
    pairs = zip(frame["task"], frame["dataset"], strict=True)
    return frame.assign(task=[str(task).removesuffix(f" {dataset}") for task, dataset in pairs])


def _namer(sweep: Sweep, label: str) -> Callable[[str], str]:
    """Variants' names with the sweep's in front; unchanged without a sweep's name."""
    every = JOINED.join(f"{label} {name}" for name in sweep.variants) or label

    def named(variant: str) -> str:
        if not label:
            return variant
        return (
            JOINED.join(f"{label} {name}" for name in variant.split(JOINED)) if variant else every
        )

    return named


def _check_keys(points: pd.DataFrame) -> None:
    """Refuse a key with several values."""
    spread = points.groupby(list(KEY), sort=False)[["value", "bpp"]].agg(["min", "max"])
    low = spread.xs("min", axis=1, level=1).to_numpy()
    high = spread.xs("max", axis=1, level=1).to_numpy()
    wrong = spread.index[~np.isclose(low, high, rtol=1e-9, atol=0).all(axis=1)]
    if len(wrong):
        first = points[(points[list(KEY)] == list(wrong[0])).all(axis=1)]
        rows = zip(first["value"], first["bpp"], first["_sweep"], strict=True)
        values = ", ".join(f"{value:g} at {bpp:g} bpp in {label}" for value, bpp, label in rows)
        raise AnalysisError(
            f"clashing keys: {len(wrong)} points have one key and several values; the first, "
            f"{' '.join(map(str, wrong[0]))}, is {values}. They cannot be read together"
        )


def _check_bounds(points: pd.DataFrame, scenarios: Scenarios) -> None:
    """Refuse sweeps whose bounds have different values: their test samples differ."""
    by = ["mllm", "task", "dataset", "split", "metric"]
    for key, same in points.groupby(by, sort=False):
        if not np.isclose(same["value"].min(), same["value"].max(), rtol=1e-6, atol=1e-9):
            pairs = zip(same["value"], same["_sweep"], strict=True)
            values = ", ".join(f"{value:g} in {label}" for value, label in pairs)
            raise AnalysisError(
                f"not the same test samples: {scenarios.title(same['scenario'].iloc[0])} "
                f"{' '.join(map(str, key))} is {values}. "
                "Compare these sweeps one at a time"
            )


def _check_names(rows: pd.DataFrame) -> None:
    """Refuse a name with several keys from several sweeps."""
    rate = rows["lmbda"].map("lambda {:g}".format).where(rows["lmbda"].notna(), "")
    if "quality" in rows:
        quality = rows["quality"].astype(object)
        rate = rate.where(quality.isna() | (rate != ""), quality.map("quality {}".format))
    rows = rows.assign(codec=rows["codec"].fillna(""), _rate=rate)
    by = [*_NAMED, "metric", "_rate"]
    by_name = rows.groupby(by, sort=False).agg(keys=("point_key", set), sweeps=("_sweep", set))
    several = by_name[(by_name["sweeps"].map(len) > 1) & (by_name["keys"].map(len) > 1)]
    if len(several):
        codec, variant, scenario, seed, *_, rate_of_first = several.index[0]
        point_name = " ".join(filter(None, [scenario, variant, codec and f"of {codec}"]))
        rate_part = f" at {rate_of_first}" if rate_of_first != "" else ""
        sweeps = " and ".join(sorted(several["sweeps"].iloc[0]))
        raise AnalysisError(
            f"clashing keys: {sweeps} both have {point_name}{rate_part}, "
            f"seed {seed}, with different settings (keys "
            f"{', '.join(sorted(several['keys'].iloc[0]))}), and {len(several) - 1} more such "
            "points; apart=True (--apart on the command line) keeps them apart by the sweeps' names"
        )


def _samples(sweeps: Sequence[Sweep]) -> pd.DataFrame | None:
    """Samples of all sweeps; for a shared point those of the first."""
    kept, kept_index = [], pd.MultiIndex.from_arrays([[]] * len(_SAMPLE), names=_SAMPLE)
    for sweep in sweeps:
        if sweep.samples is None:
            continue
        frame = sweep.samples
        if "dataset" not in frame:
            names = ["point_key", "mllm", "task", "metric"]
            dataset_of_point = sweep.points.drop_duplicates(names).set_index(names)["dataset"]
            keys = pd.MultiIndex.from_frame(frame[names])
            frame = frame.assign(dataset=dataset_of_point.reindex(keys).to_numpy())
        frame = _whole_tasks(frame).astype(dict.fromkeys(_SAMPLE, "str"))
        index = pd.MultiIndex.from_frame(frame[_SAMPLE])
        kept.append(frame[~index.isin(kept_index)])
        kept_index = kept_index.append(index.unique())
    return pd.concat(kept, ignore_index=True) if kept else None


def _manifest(
    sweeps: Sequence[Sweep],
    labels: list[str],
    namers: Sequence[Callable[[str], str]],
    present: set[str],
) -> dict[str, Any]:
    """The manifests as one. A point that one of the sweeps has is not missing.

    Each expected point has the `kinds` (lists of the columns `KIND`) that its sweeps measure: those
    of other sweeps are not expected of it.
    """
    expected: dict[tuple[str, str], dict[str, Any]] = {}
    missing: dict[tuple[str, str], dict[str, Any]] = {}
    points: dict[str, Any] = {}
    tasks: dict[str, Any] = {}
    for sweep, namer in zip(sweeps, namers, strict=True):
        kinds = _whole_tasks(sweep.points)[[*KIND]].drop_duplicates().astype("str")
        for entry in sweep.manifest.get("expected") or _points_as_expected(sweep):
            variant = namer(entry.get("variant") or "")
            new = {**entry, "variant": variant, "kinds": []}
            listed = expected.setdefault((entry["point_key"], variant), new)["kinds"]
            listed += [kind for kind in kinds.to_numpy().tolist() if kind not in listed]
        for entry in sweep.manifest.get("missing", []):
            variant = namer(entry.get("variant") or "")
            if entry["point_key"] not in present:
                missing.setdefault((entry["point_key"], variant), {**entry, "variant": variant})
        whole = dict(zip(sweep.points["task"], _whole_tasks(sweep.points)["task"], strict=True))
        for task, entry in sweep.manifest.get("tasks", {}).items():
            name = whole.get(task, task)
            earlier = tasks.get(name, {})
            metrics = {**entry.get("metrics", {}), **earlier.get("metrics", {})}
            tasks[name] = {**entry, **earlier, "metrics": metrics}
        for key, entry in sweep.manifest.get("points", {}).items():
            points.setdefault(key, {**entry, "examples": _placed(sweep, entry.get("examples"))})
    is_listed = any(sweep.manifest.get("expected") for sweep in sweeps)
    return {
        "sweep": " + ".join(labels),
        "expected": list(expected.values()) if is_listed else [],
        "missing": list(missing.values()) if is_listed else [],
        "points": points,
        "tasks": tasks,
        "skipped": [
            f"{label}: {line}"
            for label, sweep in zip(labels, sweeps, strict=True)
            for line in sweep.manifest.get("skipped", [])
        ],
    }


def _points_as_expected(sweep: Sweep) -> list[dict[str, Any]]:
    """The points of a sweep whose manifest lists none, such as a table."""
    columns = ["point_key", "codec", "lmbda", "scenario", "seed", "variant"]
    columns += ["quality"] if "quality" in sweep.points else []
    frame = sweep.points[columns].drop_duplicates().astype(object)
    rows = frame.where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _placed(sweep: Sweep, entries: Iterable[Any] | None) -> list[dict[str, Any]]:
    """Example images (see `examples`) with absolute paths; none of a sweep without a directory."""
    directory = sweep.directory
    if directory is None:
        return []

    def absolute(path: str | None) -> str | None:
        return None if path is None else whole(below(directory, path))

    return [
        {
            **example,
            "page": absolute(example["page"]),
            "images": [
                {**image, "input": absolute(image["input"]), "decoded": absolute(image["decoded"])}
                for image in example["images"]
            ],
        }
        for example in entries or []
        if isinstance(example, dict)
    ]

"""What a space's variants change: a table and a figure over the variants.

curves of the mean over tasks, their comparison with reconstruction
    --> per codec, MLLM, scenario and variant: accuracy, PSNR, BD-rate --> figure, report
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare import ANCHOR
from analysis.curves import MEAN, Assembled, Curve, named, of_variant
from analysis.frames import rows_of
from analysis.plots import (
    INK,
    LEFT,
    MUTED,
    STYLE,
    TITLE_ROOM,
    WARN,
    WIDTH,
    Plot,
    file_name,
    look_of,
    render,
)

NAN: Final = float("nan")
PANEL: Final = 1.7
"""Inches: height of one panel's axes."""
GAP: Final = 0.22
PANELS: Final = {
    "accuracy": "mean accuracy",
    "bd_rate": "BD-rate (%)",
    "psnr": "PSNR (dB)",
}


@dataclass
class Row:
    """A scenario under one variant; the columns of `ablation`'s frame.

    `accuracy` is the mean over tasks and over the rates that all variants of the scenario have;
    `variant` is empty for what all variants share.
    """

    mllm: str
    codec: str
    scenario: str
    variant: str
    settings: str
    n_rates: int
    bpp: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    bd_rate: float
    bd_rate_low: float
    bd_rate_high: float
    psnr: float
    note: str


def ablation(assembled: Assembled, comparison: pd.DataFrame) -> pd.DataFrame:
    """A row per codec, MLLM, scenario and variant, in the space's order of variants.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.
    """
    variants = assembled.sweep.variants
    heads = {
        (row.mllm, row.codec, row.variant, row.scenario): row
        for row in rows_of(comparison[comparison["task"] == MEAN])
    }
    groups: dict[tuple[str, str, str], list[Curve]] = {}
    for curve in assembled.means:
        if not curve.frame.empty:
            groups.setdefault((curve.mllm, curve.codec, curve.scenario), []).append(curve)
    rows = []
    for (mllm, codec, scenario), group in groups.items():
        rates = set.intersection(*(set(curve.frame["lmbda"]) for curve in group))
        for variant, settings in {**variants, "": {}}.items():
            of = _curve_of(variant, group)
            if of is None or not rates:
                continue
            head = heads[mllm, codec, of.variant, scenario]
            frame = of.frame[of.frame["lmbda"].isin(rates)]
            low, high = _interval(assembled, of, frame)
            rows.append(
                Row(
                    *(mllm, codec, scenario, variant, _said(settings)),
                    *(len(frame), float(frame["bpp"].mean()), float(frame["value"].mean())),
                    *(low, high, head.bd_rate, head.bd_rate_low, head.bd_rate_high),
                    *(_psnr(assembled, frame), head.note),
                )
            )
    return pd.DataFrame([asdict(row) for row in rows], columns=list(Row.__dataclass_fields__))


def draw_ablation(assembled: Assembled, comparison: pd.DataFrame) -> list[Plot]:
    """A figure for each codec and MLLM: accuracy, BD-rate and PSNR over the variants.

    PSNR only where it varies. Nothing at all for a space without variants.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.
    """
    frame = ablation(assembled, comparison)
    out = []
    several = frame[["mllm", "codec"]].drop_duplicates().shape[0] > 1
    with rc_context(STYLE):  # type: ignore[arg-type]  # the stubs want literal keys
        for (mllm, codec), own in frame.groupby(["mllm", "codec"], sort=False):
            if (own["variant"] != "").any():
                of = f" ({codec}, {mllm})" if several else ""
                name = file_name(f"ablation-{codec}-{mllm}" if several else "ablation")
                title = f"What the variants change{of}"
                names = list(assembled.sweep.variants)
                out.append(render(_figure(own, names, title), name, title, _words(own)))
    return out


def _curve_of(variant: str, group: list[Curve]) -> Curve | None:
    """The curve of a variant, if it has one of its own; of none the shared one."""
    own = [c for c in group if bool(variant) == bool(c.variant) and of_variant(variant, c.variant)]
    return own[0] if own else None


def _said(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{path} = {json.dumps(value)}" for path, value in settings.items())


def _interval(assembled: Assembled, curve: Curve, frame: pd.DataFrame) -> tuple[float, float]:
    parts = [
        (curve.mllm, task.name, task.primary, keys)
        for keys in frame["point_keys"]
        for task in assembled.tasks.values()
    ]
    means = assembled.resampled.mean(parts)
    return (NAN, NAN) if means is None else assembled.resampled.interval(means[1])


def _psnr(assembled: Assembled, frame: pd.DataFrame) -> float:
    keys = {key for keys in frame["point_keys"] for key in keys}
    points = assembled.sweep.points
    return float(points.loc[points["point_key"].isin(keys), "psnr"].mean())


def _figure(own: pd.DataFrame, variants: list[str], title: str) -> Figure:
    varied = own[own["variant"] != ""]
    panels = ["accuracy"]
    panels += ["bd_rate"] if varied["bd_rate"].notna().any() else []
    panels += ["psnr"] if _varies(varied) else []
    crowded = sum(map(len, variants)) > 56
    scenarios = list(dict.fromkeys(varied["scenario"]))
    labels = 1 + len(scenarios) + int((own["scenario"] == ANCHOR).any())
    below = 0.1 + 0.19 * -(-labels // 4) + 0.34 + (0.45 if crowded else 0.0)
    height = below + len(panels) * PANEL + (len(panels) - 1) * GAP + TITLE_ROOM
    figure = Figure(figsize=(WIDTH, height))
    handles: dict[str, Any] = {}
    for number, panel in enumerate(panels):
        bottom = below + (len(panels) - 1 - number) * (PANEL + GAP)
        box = (LEFT / WIDTH, bottom / height, (WIDTH - LEFT - 0.12) / WIDTH, PANEL / height)
        axes = figure.add_axes(box)
        _panel(axes, own, panel, variants, scenarios)
        axes.set_xticks(range(len(variants)), variants if panel == panels[-1] else [])
        if crowded:
            axes.tick_params("x", labelrotation=30)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
        if number == 0:
            axes.set_title(title)
    figure.align_ylabels()
    corner = (0.1 / WIDTH, 0.0)
    figure.legend(
        handles.values(), handles.keys(), loc="lower left", bbox_to_anchor=corner, ncols=4
    )
    return figure


def _panel(
    axes: Axes, own: pd.DataFrame, panel: str, variants: list[str], scenarios: list[str]
) -> None:
    axes.set_ylabel(PANELS[panel])
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)
    axes.set_xlim(-0.5, len(variants) - 0.5)
    if panel == "bd_rate":
        axes.axhline(0, color=look_of(ANCHOR)[0], lw=1.2, ls="--", zorder=1.5)
    for row in rows_of(own[own["variant"] == ""]):
        # What no variant touches: a line to measure the others by.
        if panel != "bd_rate" and np.isfinite(getattr(row, panel)):
            colour, _, line = look_of(row.scenario)
            level = getattr(row, panel)
            axes.axhline(level, color=colour, lw=1.2, ls=line, label=row.scenario, zorder=1.5)
    for number, scenario in enumerate(scenarios):
        colour, marker, _ = look_of(scenario)
        rows = own[(own["scenario"] == scenario) & (own["variant"] != "")]
        # Scenarios side by side, so that their intervals do not cover each other.
        aside = 0.14 * (number - (len(scenarios) - 1) / 2)
        at = np.array([variants.index(name) for name in rows["variant"]]) + aside
        value = rows[panel].to_numpy(dtype=np.float64)
        if f"{panel}_low" in rows:
            low, high = (
                rows[f"{panel}_{end}"].to_numpy(dtype=np.float64) for end in ("low", "high")
            )
            axes.vlines(at, low, high, color=colour, lw=1.4, zorder=2.5)
        axes.plot(at, value, color=colour, lw=1.0, alpha=0.45, zorder=2)
        axes.plot(
            at,
            value,
            color=colour,
            marker=marker,
            ls="",
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=scenario,
            zorder=3,
        )
        for x in at[np.isnan(value)]:
            where = axes.get_xaxis_transform()
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
            axes.text(
                x,
                0.14,
                "no number",
                color=WARN,
                fontsize=7.5,
                ha="center",
                transform=where,
                bbox=box,
            )
    axes.tick_params("x", length=0, labelcolor=INK, color=MUTED)


def _varies(varied: pd.DataFrame) -> bool:
    spread = varied.groupby("scenario")["psnr"].agg(lambda values: values.max() - values.min())
    return bool((spread > 0.01).any())


def _words(own: pd.DataFrame) -> str:
    said = [
        f"{named(row.scenario, row.variant)} {row.accuracy:.2f}"
        + (f", BD-rate {row.bd_rate:+.0f} %" if np.isfinite(row.bd_rate) else "")
        for row in rows_of(own[own["variant"] != ""])
    ]
    return "Mean accuracy over tasks and rates, and BD-rate, by variant: " + "; ".join(said) + "."

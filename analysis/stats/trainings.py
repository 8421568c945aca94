"""How long the points of each curve were trained, and whether their loss was still falling.

A comparison of methods is fair where each was trained on as many images, or until its validation
loss stood still.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.io.frames import rows_of
from analysis.io.sweep import Sweep

STILL_FALLING: Final = 0.01
"""Fall of the lowest validation loss in the last quarter of a training, as a share, above which a
training is called unfinished. Ours."""
EQUAL_IMAGES: Final = 0.05
"""Difference of images, as a share, up to which trainings are called equally long. Ours."""
UNKNOWN: Final = (
    "This compares the curves as trained in this sweep: training lengths may differ between "
    "scenarios, and no curve is shown to have converged."
)
"""The caveat where a sweep does not say how long its trainings were."""
CURVE: Final = ("codec", "variant", "scenario")
COLUMNS: Final = (*CURVE, "points", "images", "steps", "seconds", "images_before", "fall", "of")


def trainings(sweep: Sweep) -> pd.DataFrame:
    """A row per curve whose points say how they were trained.

    Args:
        sweep: with the manifest of a sweep that was trained here; else the frame is empty.

    Returns:
        Columns `codec, variant, scenario`; `points`, their number; `images, steps, seconds`, means
        over the points of their own training; `images_before`, the mean of what the trainings that
        they start from saw; `fall`, the largest share by which a validation loss of the curve's
        points, or of what they start from, fell in the last quarter of its steps, 0 where all ended
        at a plateau, NaN where that is unknown; `of`, what fell most.
    """
    rows = []
    described: Mapping[str, Any] = sweep.manifest.get("points", {})
    points = sweep.points.drop_duplicates("point_key").assign(codec=lambda p: p["codec"].fillna(""))
    for curve, group in points.groupby(list(CURVE), sort=False):
        infos = [described.get(key, {}).get("info") or {} for key in group["point_key"]]
        if not all("images" in info for info in infos):
            continue
        chains = [[*info.get("before", ()), *([info] if info["steps"] else [])] for info in infos]
        fall, of = _worst([_largest_fall(chain) for chain in chains])
        before = [sum(t["images"] or 0 for t in info.get("before", ())) for info in infos]
        rows.append(
            {
                **dict(zip(CURVE, curve, strict=True)),
                "points": len(infos),
                **{n: np.mean([info[n] for info in infos]) for n in ("images", "steps", "seconds")},
                "images_before": np.mean(before),
                "fall": fall,
                "of": of,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _largest_fall(chain: list[Mapping[str, Any]]) -> tuple[float, str]:
    """The largest fall of the trainings behind a point, and of what.

    Of several trainings of one thing the last one counts.
    """
    last = {str(training.get("of", "")): training for training in chain}
    return _worst([(_fall(training), of) for of, training in last.items()])


def _worst(falls: list[tuple[float, str]]) -> tuple[float, str]:
    """The largest fall, and of what: one that is too large before an unknown one, NaN."""
    known = max((fall for fall in falls if not np.isnan(fall[0])), default=(0.0, ""))
    unknown = next((fall for fall in falls if np.isnan(fall[0])), None)
    return known if unknown is None or known[0] > STILL_FALLING else unknown


def _fall(training: Mapping[str, Any]) -> float:
    """The share by which the loss fell in the last quarter; 0 at a plateau, NaN if unknown."""
    if training.get("until") == "plateau":
        return 0.0
    fall = training.get("fall_of_last_quarter")
    return np.nan if fall is None else float(fall)


def is_unfinished(frame: pd.DataFrame) -> pd.Series[bool]:
    """Which curves of `trainings` rest on a loss that fell until the end, or may have."""
    return ~(frame["fall"] <= STILL_FALLING)


def falling_losses(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """What was still falling -> the rows of `trainings` that rest on it."""
    falling: dict[str, list[Any]] = {}
    for row in rows_of(frame[is_unfinished(frame) & np.isfinite(frame["fall"])]):
        falling.setdefault(row.of, []).append(row)
    return falling


def training_caveat(sweep: Sweep) -> str:
    """Whether the curves of a sweep had equal chances, in a sentence or two.

    Returns:
        Empty for results that were not trained here.
    """
    described = sweep.manifest.get("points", {}).values()
    if not sweep.manifest.get("space") and not any(point.get("info") for point in described):
        return ""
    frame, title = trainings(sweep), sweep.scenarios.title
    if frame.empty:
        return UNKNOWN
    curves = (frame["scenario"].map(title) + " " + frame["variant"]).str.strip()
    frame = frame.assign(curve=curves)
    trained = frame[frame["images"] > 0]
    images = [f"{row.curve} {row.images:,.0f}" for row in rows_of(trained)]
    unequal = trained["images"].max() > (1 + EQUAL_IMAGES) * trained["images"].min()
    sentences = []
    if unequal:
        sentences.append(f"Trainings saw different numbers of images: {', '.join(images)}.")
    if falling := falling_losses(frame):
        parts = [
            f"{of} by {100 * max(row.fall for row in rows):.0f} % in its last quarter "
            f"({', '.join(row.curve for row in rows)})"
            for of, rows in falling.items()
        ]
        sentences.append(f"Losses still fell when training ended: {'; '.join(parts)}.")
    if unknown := list(frame.loc[~np.isfinite(frame["fall"]), "curve"]):
        sentences.append(f"Not known to have converged: {', '.join(unknown)}.")
    return " ".join(sentences)

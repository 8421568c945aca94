"""Is a curve better than another at a rate? Paired tests over images and trainings.

At each rate of the test curve every sample's value is compared with the same sample's value on the
anchor curve: measured there, or on the curve between the measured points around it (PCHIP over log
rate, as in `gains`). That curve is a sum of its points, each times its derivative by that point's
value, for it is homogeneous in them (Euler): so it has a number per sample. Right-or-wrong values
at a measured rate, a sample an image, one training each, give McNemar's exact test (1947). All else
is a test of the mean of a two-way layout, images times seeds, both random:

    difference of image i and seed s = mean + image i + training s + rest
    variance of the mean             = of images + of trainings - of the rest, which both have

(Cameron, Gelbach and Miller 2011, eq. 2.9.) Images count with all their samples in all tasks
(Liang and Zeger 1986). Curves of the same seeds are compared in pairs; of other seeds, each has a
variance of trainings of its own, none where it has one training. That variance is known with few
degrees of freedom: the sum has the distribution of Behrens and Fisher. Holm's step-down method
(1979) corrects the p-values: of the mean over tasks first, of the tasks second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.curves.curve import MEAN, Curve
from analysis.io.frames import rows_of
from analysis.io.schema import MEASURE, AnalysisError
from analysis.io.sweep import IMAGE
from analysis.sampling.bd import TIE, Batch, accuracy_at
from analysis.sampling.intervals import Floats
from analysis.sampling.tables import Kind, Names, SampleTable, sample_table
from analysis.stats.anchor import against_anchors
from analysis.stats.pairs import arrays
from analysis.stats.savings import CURVE
from analysis.stats.seeds import one_training

MCNEMAR, PAIRED_T, SIGN = "McNemar exact", "paired t", "sign"
RANDOM_SEEDS: Final = "paired, random seeds"
STEP: Final = 1e-6
"""Of a value, for a derivative."""
QUADRATURE: Final = 4096
"""Points at which a distribution is averaged."""
_COLUMNS: Final = ["rate", "difference", "n_samples", "test", "p", "p_corrected", "n_tests", "note"]


def significance(
    assembled: Assembled,
    anchor: str | None = None,
    codec: str | None = None,
    families: Sequence[str] = (),
) -> pd.DataFrame:
    """A test per curve and rate against the anchor.

    Args:
        assembled: the sweep assembled.
        anchor, codec: what to compare with, as in `compare`.
        families: columns within whose values the tests are counted, e.g. `["mllm", "task"]`; by
            default the tests of the mean over tasks are one family, the primary one, and those of
            single tasks another.

    Returns:
        A row per curve and rate, one for a curve that is compared with nothing: the curve, `rate`
        (bits per pixel), `difference` (in the metric's unit, positive where the curve is better),
        `n_samples`, `test`, `p` (two-sided), `p_corrected` (Holm), `n_tests` in the family, and
        `note`: why there is no test.

    Raises:
        AnalysisError: the sweep has no curve of that anchor or codec, or no such family.
    """
    unknown = [name for name in families if name not in CURVE]
    if unknown:
        raise AnalysisError(
            f"families {', '.join(map(repr, unknown))}: no such column; there are "
            f"{', '.join(CURVE)}"
        )
    samples = _Samples(assembled)
    rows: list[dict[str, Any]] = []
    for compared in against_anchors(assembled, anchor, codec):
        if compared.is_anchor:
            continue
        curve = {column: getattr(compared.curve, column) for column in CURVE}
        if compared.pair is None:
            rows.append({**curve, "note": compared.note})
            continue
        for point in rows_of(compared.curve.frame):
            base = compared.pair.anchor
            around = _around(base, point.bpp)
            result = _tested(samples, base, compared.curve.mllm, compared.parts, point, around)
            of_anchor = [] if around is None else [row for row, _ in around.terms]
            trainings = [one_training(compared.curve, [point]), one_training(base, of_anchor)]
            notes = [compared.note, result.pop("note", ""), *dict.fromkeys(trainings)]
            note = "; ".join(filter(None, notes))
            rows.append({**curve, "rate": point.bpp, **result, "note": note})
    frame = pd.DataFrame(rows, columns=[*CURVE, *_COLUMNS])
    by = list(families) or frame["task"] == MEAN
    for _, p in frame.groupby(by, sort=False)["p"]:
        known = p.dropna()
        frame.loc[known.index, "p_corrected"] = holm(known.to_numpy(dtype=np.float64))
        frame.loc[known.index, "n_tests"] = len(known)
    return frame.astype({"p_corrected": "float64", "n_tests": "Int64", "n_samples": "Int64"})


def holm(p: Floats) -> Floats:
    """p-values (T,) corrected for their number by Holm's step-down method."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(stepped, 1)
    return out


def mcnemar(differences: Floats) -> float:
    """Exact two-sided p-value of paired right-or-wrong differences (n,) in -1, 0, 1."""
    from scipy.stats import binomtest  # scipy.stats takes a while to import

    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


@dataclass(frozen=True)
class _Around:
    """A curve at a rate.

    Attributes:
        terms: its points and their weights.
        rest: its value less that of the weighted points; not 0 where a derivative jumps.
    """

    terms: list[tuple[Any, float]]
    rest: float = 0.0


class _Samples:
    """Values per sample of the points, a table per (mllm, task, metric), made when asked for."""

    def __init__(self, assembled: Assembled) -> None:
        self._samples = assembled.sweep.samples
        self._rows: dict[Any, Any] = {}
        if self._samples is not None:
            by = self._samples.groupby(MEASURE, sort=False, observed=True)
            groups: dict[Any, Any] = dict(by.indices)
            self._rows = {tuple(map(str, key)): rows for key, rows in groups.items()}
        self._disagree = assembled.resampled.disagree
        self._tables: dict[Kind, SampleTable] = {}

    def of(self, mllm: str, task: str, metric: str, keys: list[str]) -> SampleTable | None:
        """The samples that all of these points have; None where there are not two images."""
        kind = (mllm, task, metric)
        if self._samples is None or kind not in self._rows or kind in self._disagree:
            return None
        if kind not in self._tables:
            columns = ["sample_id", "point_key", IMAGE, "value"]
            rows = self._samples[columns].iloc[self._rows[kind]]
            self._tables[kind] = sample_table(rows, ["value"])
        shared = self._tables[kind].shared(keys)
        return shared if shared is not None and len(shared.images) > 1 else None


@dataclass(frozen=True)
class _Layout:
    """The difference in one task, image by image and training by training.

    Attributes:
        images: (C,) their names.
        influence: for each set of seeds what an image adds to the difference of each seed,
            (C, S); a column adds up to 0.
        means: for each set of seeds the difference of each seed, (S,).
        values: (n,) the samples' differences, over all seeds.
    """

    images: Names
    influence: dict[tuple[int, ...], Floats]
    means: dict[tuple[int, ...], Floats]
    values: Floats


def _layout(table: SampleTable, terms: list[tuple[Any, float]]) -> _Layout:
    """The sum of points, each times its coefficient.

    Args:
        table: the samples of the points.
        terms: rows of curves, and coefficients.
    """
    column = dict(zip(map(str, table.keys), table.columns["value"].T, strict=True))
    by_seeds: dict[tuple[int, ...], Floats] = {}
    for row, coefficient in terms:
        seeds, keys = zip(*sorted(zip(row.seeds, row.point_keys, strict=True)), strict=True)
        added = coefficient * np.stack([column[key] for key in keys], axis=1)
        by_seeds[seeds] = by_seeds.get(seeds, 0.0) + added
    size = table.per_image(np.ones(len(table.columns["value"])))
    means = {seeds: values.mean(axis=0) for seeds, values in by_seeds.items()}
    influence = {
        seeds: (table.per_image(values) - size[:, None] * means[seeds]) / size.sum()
        for seeds, values in by_seeds.items()
    }
    total = np.sum([values.mean(axis=1) for values in by_seeds.values()], axis=0)
    return _Layout(table.images, influence, means, total)


def _tested(
    samples: _Samples,
    anchor: Curve,
    mllm: str,
    parts: list[tuple[str, str]],
    point: Any,
    around: _Around | None,
) -> dict[str, Any]:
    """Test of one point of a curve against the anchor."""
    if around is None:
        low, high = anchor.frame["bpp"].min(), anchor.frame["bpp"].max()
        return {"note": f"no test: outside {anchor.display_name}'s {low:.3g} to {high:.3g} bpp"}
    terms = [(point, 1.0), *((row, -share) for row, share in around.terms)]
    keys = [key for row, _ in terms for key in row.point_keys]
    layouts = []
    for task, metric in parts:
        table = samples.of(mllm, task, metric, keys)
        if table is None:
            return {"note": "no test: per-sample values are not known"}
        layouts.append(_layout(table, terms))
    first = layouts[0]
    difference = float(np.mean([layout.values.mean() for layout in layouts])) - around.rest
    result = {"difference": difference, "n_samples": sum(len(x.values) for x in layouts)}
    if (
        len(layouts) == 1
        and len(around.terms) == 1
        and all(len(seeds) == 1 for seeds in first.means)
        and len(first.values) == len(first.images)
        and np.isin(first.values, (-1, 0, 1)).all()
    ):
        return {**result, "test": MCNEMAR, "p": mcnemar(first.values)}
    return {**result, **_test_of(difference, *_variances(layouts))}


def _variances(layouts: list[_Layout]) -> tuple[Floats, Floats]:
    """Variances (K,) of the mean of tasks' differences, and their degrees of freedom (K,).

    The first is that of images, without the rest where there are trainings; the others are those of
    the trainings of each set of several seeds, with it.
    """
    names = np.unique(np.concatenate([layout.images for layout in layouts]))
    images, rest = np.zeros(len(names)), 0.0
    few = min(len(layout.images) for layout in layouts)
    unbiased = few / (few - 1)
    trainings = []
    for seeds in layouts[0].means:
        influence, means = np.zeros((len(names), len(seeds))), np.zeros(len(seeds))
        for layout in layouts:
            places = np.searchsorted(names, layout.images)
            influence[places] += layout.influence[seeds] / len(layouts)
            means += layout.means[seeds] / len(layouts)
        of_image = influence.mean(axis=1)
        images += of_image
        if (s := len(seeds)) > 1:
            rest += ((influence - of_image[:, None]) ** 2).sum() * unbiased / (s - 1) / s
            trainings.append((means.var(ddof=1) / s, s - 1))
    of_images = max(0.0, (images**2).sum() * unbiased - rest)
    known = [(of_images, few - 1), *trainings]
    variances, freedom = zip(*known, strict=True)
    return np.array(variances), np.array(freedom, dtype=np.float64)


def _test_of(difference: float, variances: Floats, freedom: Floats) -> dict[str, Any]:
    """Test of a sum of independent means.

    Args:
        difference: the sum.
        variances: (K,) of the means; the first is that of images.
        freedom: (K,) degrees of freedom of the variances.
    """
    from scipy.stats import t

    test = RANDOM_SEEDS if len(variances) > 1 else PAIRED_T
    if variances.sum() <= TIE**2:  # every image differs by the same amount: test the signs
        signs = 2.0 ** -freedom[0]
        return {"test": SIGN, "p": 1.0 if abs(difference) < TIE else float(signs)}
    counting = variances > 0
    if counting.sum() == 1:
        variance, df = variances[counting][0], freedom[counting][0]
        return {"test": test, "p": float(2 * t.sf(abs(difference) / np.sqrt(variance), df))}
    return {"test": test, "p": behrens_fisher(difference, variances, freedom)}


def behrens_fisher(difference: float, variances: Floats, freedom: Floats) -> float:
    """Two-sided p-value of a sum of means whose variances are known with few degrees of freedom.

    Given the variances' own chi-squared numbers the sum is normal; its p-value is the mean over
    these (at `QUADRATURE` quantiles of each, in an order of its own).

    Args:
        difference: the sum.
        variances, freedom: (K,) of the means.
    """
    from scipy.stats import norm

    drawn = np.stack([_chi_squared(df, k) for k, df in enumerate(freedom)])
    spread = np.sqrt((variances[:, None] * freedom[:, None] / drawn).sum(axis=0))
    return float(2 * norm.sf(abs(difference) / spread).mean())


@lru_cache(maxsize=64)
def _chi_squared(freedom: float, number: int) -> Floats:
    """(QUADRATURE,) quantiles of a chi-squared number, in an order of the number's own."""
    from scipy.stats import chi2

    shares = (np.arange(QUADRATURE) + 0.5) / QUADRATURE
    quantiles: Floats = chi2.ppf(np.random.default_rng(number).permutation(shares), freedom)
    return quantiles


def _around(anchor: Curve, rate: float) -> _Around | None:
    """The anchor at a rate; None outside its rates."""
    rows = list(rows_of(anchor.frame))
    rates, values = (np.array([getattr(row, n) for row in rows]) for n in ("bpp", "value"))
    apart = np.abs(np.log10(rates) - np.log10(rate))
    near = int(np.argmin(apart))
    if apart[near] < TIE:
        return _Around([(rows[near], 1.0)])
    if not rates.min() < rate < rates.max():
        return None
    moved = np.concatenate([STEP * np.eye(len(rows)), -STEP * np.eye(len(rows))])
    batch = Batch(np.broadcast_to(rates, moved.shape), values + moved)
    up, down = np.split(batch.accuracy_at(np.array([rate])), 2)
    weights = (up - down) / (2 * STEP)
    rest = float(accuracy_at(*arrays(anchor), np.array([rate]))[0] - weights @ values)
    used = np.abs(weights) > STEP
    return _Around([(rows[i], float(weights[i])) for i in np.flatnonzero(used)], rest)

"""Is a curve better than another at a rate? Paired tests over samples, corrected for their number.

At each rate of the test curve every sample's value is compared with the same sample's value on the
anchor curve: measured there, or on the straight line (in log rate) between the two measured points
around it, which makes it a number per sample. Right-or-wrong values at a measured rate give
McNemar's exact test, all else a paired t-test. The mean over tasks adds the tasks' variances (tasks
over the same samples are one), with Welch's and Satterthwaite's degrees of freedom; from three
seeds on, the variance over seeds is one more term. Holm's step-down method corrects the p-values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.curves.curve import Curve
from analysis.io.frames import rows_of
from analysis.io.schema import AnalysisError
from analysis.sampling.bd import TIE
from analysis.sampling.bootstrap import SEEDS, wide
from analysis.sampling.intervals import Floats
from analysis.stats.anchor import against_anchors
from analysis.stats.savings import CURVE

MCNEMAR, PAIRED_T, SIGN = "McNemar exact", "paired t", "sign"
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
            default all tests of the table are one family.

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
            result = _tested(
                samples, compared.pair.anchor, compared.curve.mllm, compared.parts, point
            )
            notes = [compared.note, result.pop("note", "")]
            note = "; ".join(filter(None, notes))
            rows.append({**curve, "rate": point.bpp, **result, "note": note})
    frame = pd.DataFrame(rows, columns=[*CURVE, *_COLUMNS])
    groups = frame.groupby(list(families), sort=False)["p"] if families else [("", frame["p"])]
    for _, p in groups:
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


class _Samples:
    """Values per sample of the points, a table per (mllm, task, metric), made when asked for."""

    def __init__(self, assembled: Assembled) -> None:
        self._samples = assembled.sweep.samples
        self._rows: dict[Any, Any] = {}
        if self._samples is not None:
            by = self._samples.groupby(["mllm", "task", "metric"], sort=False, observed=True)
            groups: dict[Any, Any] = dict(by.indices)
            self._rows = {tuple(map(str, key)): rows for key, rows in groups.items()}
        self._disagree = assembled.resampled.disagree
        self._tables: dict[tuple[str, str, str], tuple[int, dict[str, int], Floats]] = {}

    def of(self, mllm: str, task: str, metric: str, keys: list[str]) -> _Values | None:
        """Values of points, of the samples that all have; None where they are not known."""
        kind = (mllm, task, metric)
        if self._samples is None or kind not in self._rows or kind in self._disagree:
            return None
        if kind not in self._tables:
            rows = self._samples[["sample_id", "point_key", "value"]].iloc[self._rows[kind]]
            ids, points, (values,) = wide(rows, ["value"])
            columns = {str(key): i for i, key in enumerate(points)}
            # By columns, which are what is taken out.
            self._tables[kind] = hash(tuple(ids)), columns, np.asfortranarray(values)
        ids_hash, columns, values = self._tables[kind]
        if not set(keys) <= set(columns):
            return None
        taken = values[:, [columns[key] for key in keys]]
        complete = np.isfinite(taken).all(axis=1)
        whose = (ids_hash, b"" if complete.all() else complete.tobytes())
        return _Values(whose, dict(zip(keys, taken[complete].T, strict=True)))


@dataclass(frozen=True)
class _Values:
    """Values (n,) by point key, and an identifier of their samples."""

    whose: tuple[int, bytes]
    by_key: dict[str, Floats]

    def over_seeds(self, row: Any) -> Floats:
        """(n,) means over a point's seeds."""
        mean: Floats = np.mean([self.by_key[key] for key in row.point_keys], axis=0)
        return mean

    def over_samples(self, row: Any) -> Floats:
        """(S,) means of a point's seeds, in their order."""
        ordered = [key for _, key in sorted(zip(row.seeds, row.point_keys, strict=True))]
        return np.array([self.by_key[key].mean() for key in ordered])


def _tested(
    samples: _Samples, anchor: Curve, mllm: str, parts: list[tuple[str, str]], point: Any
) -> dict[str, Any]:
    """Test of one point of a curve against the anchor."""
    around = _around(anchor, point.bpp)
    if around is None:
        low, high = anchor.frame["bpp"].min(), anchor.frame["bpp"].max()
        return {"note": f"no test: outside {anchor.display_name}'s {low:.3g} to {high:.3g} bpp"}
    terms = [(point, 1.0), *((row, -share) for row, share in around)]
    seeds = {tuple(sorted(row.seeds)) for row, _ in terms}
    by_seed = next(iter(seeds)) if len(seeds) == 1 else ()
    strata: dict[tuple[int, bytes], list[Floats]] = {}
    of_seeds: list[Floats] = []
    for task, metric in parts:
        keys = [key for row, _ in terms for key in row.point_keys]
        values = samples.of(mllm, task, metric, keys)
        if values is None or len(values.by_key[keys[0]]) < 2:
            return {"note": "no test: per-sample values are not known"}
        total = np.sum([share * values.over_seeds(row) for row, share in terms], axis=0)
        strata.setdefault(values.whose, []).append(total)
        if len(by_seed) >= SEEDS:
            of_seeds.append(np.sum([share * values.over_samples(row) for row, share in terms], 0))
    mixed = [
        (np.mean(differences, axis=0), len(differences) / len(parts))
        for differences in strata.values()
    ]
    result = {
        "difference": float(sum(share * differences.mean() for differences, share in mixed)),
        "n_samples": sum(len(differences) for differences, _ in mixed),
    }
    first = mixed[0][0]
    if len(mixed) == 1 and not of_seeds and np.isin(first, (-1, 0, 1)).all():
        return {**result, "test": MCNEMAR, "p": mcnemar(first)}
    variances = [
        share**2 * differences.var(ddof=1) / len(differences) for differences, share in mixed
    ]
    freedom = [len(differences) - 1 for differences, _ in mixed]
    if of_seeds:
        means = np.mean(of_seeds, axis=0)
        variances.append(means.var(ddof=1) / len(means))
        freedom.append(len(means) - 1)
    return {**result, **_t_test(result["difference"], np.array(variances), np.array(freedom))}


def _t_test(difference: float, variances: Floats, freedom: Floats) -> dict[str, Any]:
    """t-test of a sum of independent means.

    Args:
        difference: the sum.
        variances: (T,) of the means.
        freedom: (T,) degrees of freedom of the variances.
    """
    from scipy.stats import t

    variance = variances.sum()
    if variance <= TIE**2:  # every sample differs by the same amount: test the signs
        n = int(freedom.max()) + 1
        return {"test": SIGN, "p": 1.0 if abs(difference) < TIE else 2.0 ** (1 - n)}
    df = variance**2 / (variances**2 / freedom).sum()
    return {"test": PAIRED_T, "p": float(2 * t.sf(abs(difference) / np.sqrt(variance), df))}


def _around(anchor: Curve, rate: float) -> list[tuple[Any, float]] | None:
    """The anchor's points around a rate and their shares; None outside its rates."""
    rows = list(rows_of(anchor.frame))
    log_rate, logs = np.log10(rate), np.log10([row.bpp for row in rows])
    near = int(np.argmin(np.abs(logs - log_rate)))
    if abs(logs[near] - log_rate) < TIE:
        return [(rows[near], 1.0)]
    after = int(np.searchsorted(logs, log_rate))
    if after in (0, len(rows)):
        return None
    share = float((log_rate - logs[after - 1]) / (logs[after] - logs[after - 1]))
    return [(rows[after - 1], 1 - share), (rows[after], share)]

"""What a saving costs: kMAC per pixel at the receiver against bits saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.curves.curve import MEAN, of_variant
from analysis.io.complexity import Costs
from analysis.io.frames import rows_of


def costs_and_savings(assembled: Assembled, comparison: pd.DataFrame, costs: Costs) -> pd.DataFrame:
    """A row per curve of the mean over tasks whose cost is known.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.
        costs: what `read_costs` gave.

    Returns:
        Columns `mllm, codec, variant, scenario, receiver_without_common, parameters, saved, low,
        high`: kMAC/pixel and parameters of the receiver's parts without those that every receiver
        of compressed images runs; bits saved in percent (minus the BD-rate) with its 95 % interval,
        0 for the anchor. A codec whose widths change with the rate counts with the mean of its
        sizes.
    """
    rows: list[dict[str, Any]] = []
    for row in rows_of(comparison[comparison["task"] == MEAN]):
        anchor = row.scenario == assembled.sweep.anchor
        sizes = costs.totals["codec"].str.replace(r" \d+/\d+$", "", regex=True) == row.codec
        whose = np.array(
            [
                not cost_variant or of_variant(cost_variant, row.variant)
                for cost_variant in costs.totals["variant"]
            ],
            dtype=bool,
        )
        curve_costs = costs.totals[sizes & whose & (costs.totals["scenario"] == row.scenario)]
        if curve_costs.empty or not (anchor or np.isfinite(row.bd_rate)):
            continue
        rows.append(
            {
                **{n: getattr(row, n) for n in ("mllm", "codec", "variant", "scenario")},
                "receiver_without_common": curve_costs["own"].mean(),
                "parameters": curve_costs["own_parameters"].mean(),
                "saved": 0.0 if anchor else -row.bd_rate,
                "low": np.nan if anchor else -row.bd_rate_high,
                "high": np.nan if anchor else -row.bd_rate_low,
            }
        )
    names = ["mllm", "codec", "variant", "scenario", "receiver_without_common", "parameters"]
    names += ["saved", "low", "high"]
    return pd.DataFrame(rows, columns=names)

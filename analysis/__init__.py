"""From rate-accuracy points to curves, comparisons, figures and the report.

    points.parquet, sweep.json, samples.parquet   (or an MLflow server)
        -> points.read_sweep   -> curves.curves    what is there, what is missing
                               -> compare.compare  BD-rate, bits saved, intervals
                               -> plots, report    PNG, SVG, one HTML page

Imports neither torch nor ray; MLflow only where points are read from it.
"""

from analysis.compare import compare
from analysis.curves import Curve, curves, mean_curves
from analysis.intervals import bootstrap_mean
from analysis.points import AnalysisError, Sweep, read_sweep, write_points

__all__ = [
    "AnalysisError",
    "Curve",
    "Sweep",
    "bootstrap_mean",
    "compare",
    "curves",
    "mean_curves",
    "read_sweep",
    "write_points",
]

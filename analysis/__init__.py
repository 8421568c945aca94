"""From rate-accuracy points to curves, comparisons, figures and the report.

    a sweep's files, MLflow, other people's results, several of these
        -> points.read_sweep     a `Sweep`: plain pandas frames
        -> curves.assemble       what is there, what is missing, test samples resampled
        -> compare.compare       BD-rate, BD-accuracy, bits saved, intervals: a row per curve
           savings.savings       bits saved at stated accuracies
           savings.gains         accuracy gained at stated rates
           significance          paired tests per rate, corrected for their number
           pairs.Pair            any two curves, and their relative difference
           axes.along, pareto    values over any axis; the front over all points
        -> plots, report         PNG, SVG, one HTML page

Imports neither torch nor ray; MLflow only where points are read from its server.
"""

from analysis.axes import along, pareto, settings, with_settings
from analysis.compare import compare
from analysis.curves import Assembled, Curve, assemble, curves, mean_curves
from analysis.intervals import bootstrap_mean
from analysis.pairs import Estimate, Pair
from analysis.points import AnalysisError, Sweep, read_sweep, write_points
from analysis.savings import gains, savings
from analysis.significance import significance
from analysis.sweep import EXAMPLE

__all__ = [
    "EXAMPLE",
    "AnalysisError",
    "Assembled",
    "Curve",
    "Estimate",
    "Pair",
    "Sweep",
    "along",
    "assemble",
    "bootstrap_mean",
    "compare",
    "curves",
    "gains",
    "mean_curves",
    "pareto",
    "read_sweep",
    "savings",
    "settings",
    "significance",
    "with_settings",
    "write_points",
]

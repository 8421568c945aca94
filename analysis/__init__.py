"""From rate-accuracy points to curves, comparisons, figures and the report.

    a sweep's files, MLflow, other people's results, several of these
        -> io.read.read_sweep           a `Sweep`: plain pandas frames
        -> curves.chosen.choose         some of its curves, or another anchor
           curves.assemble.assemble     curves, missing points, resampled test samples
           curves.tasks.above_chance    accuracies normalised by chance
           curves.axes.along, pareto    values over any axis; the front over all points
        -> stats.compare.compare        BD-rate, BD-accuracy, bits saved, intervals: a row per curve
           stats.savings.savings        bits saved at given accuracies
           stats.savings.gains          accuracy gained at given rates
           stats.gaps.gaps              accuracy lost at each rate, and what receivers get back
           stats.significance           paired tests per rate, corrected for their number
           stats.pairs.Pair             any two curves, and their relative difference
        -> figures, report              PNG, SVG, one HTML page

Folders import only folders named before them: io, sampling, curves, stats, qualitative, figures,
report. Nothing here imports torch or ray, and MLflow only where points are read from its server.
"""

from analysis.curves.assemble import Assembled, assemble, curves, mean_curves
from analysis.curves.axes import along, pareto, settings, with_settings
from analysis.curves.chosen import choose
from analysis.curves.curve import Curve
from analysis.curves.tasks import above_chance
from analysis.io.read import AnalysisError, Sweep, read_sweep, write_points
from analysis.io.sweep import EXAMPLE
from analysis.sampling.intervals import bootstrap_mean
from analysis.stats.compare import compare
from analysis.stats.gaps import gaps
from analysis.stats.pairs import Estimate, Pair
from analysis.stats.savings import gains, savings
from analysis.stats.significance import significance

__all__ = [
    "EXAMPLE",
    "AnalysisError",
    "Assembled",
    "Curve",
    "Estimate",
    "Pair",
    "Sweep",
    "above_chance",
    "along",
    "assemble",
    "bootstrap_mean",
    "choose",
    "compare",
    "curves",
    "gains",
    "gaps",
    "mean_curves",
    "pareto",
    "read_sweep",
    "savings",
    "settings",
    "significance",
    "with_settings",
    "write_points",
]

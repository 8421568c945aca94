"""Colours and Matplotlib settings that all figures share."""

from __future__ import annotations

from typing import Any, Final

INK: Final = "#1f2328"
"""Text and axes; the report makes it follow the page's colours."""
MUTED: Final = "#59636e"
GRID: Final = "#e3e6ea"
WARN: Final = "#a34700"
RIGHT: Final = "#188038"
WRONG: Final = "#c5221f"
"""Colours of right and wrong answers; a mark repeats them."""
PALE: Final = "#c3c8ce"
"""Curves in the background of a panel."""

STYLE: Final[dict[str, Any]] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 7.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 5.0,
    "figure.dpi": 100,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.6,
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "bridgesweep",  # the same figure gives the same file
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 7,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 7,
}
"""Of every figure: readable in print at the width of a column."""

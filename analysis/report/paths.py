"""The files of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # pandas takes a while
    import pandas as pd

REPORT: Final = "report.html"
PLOTS: Final = "plots"


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report, and its summary.

    Attributes:
        html: path or URI of the page.
        plots: paths or URIs of the PNG and SVG files.
        summary: the terminal's table, as `summary_table` gives it.
        sentence: the result in a sentence or two.
    """

    html: str
    plots: tuple[str, ...]
    summary: pd.DataFrame
    sentence: str

"""The files of a report."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from analysis.io.files import join, read_bytes, remove_file, write_bytes

if TYPE_CHECKING:  # pandas takes a while
    import pandas as pd

REPORT: Final = "report.html"
PLOTS: Final = "plots"
_NOTED: Final = ".figures.json"
"""Beside the page: the names of its figures."""
_FIGURE: Final = re.compile(r"[^/\\]+\.(png|svg|pdf)")


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


def remove_old_figures(directory: str, written: Sequence[str]) -> None:
    """Delete the figures of the report before that this one has not, and note those of this one.

    Only what a report has noted is deleted.

    Args:
        directory: of the page, or its URI.
        written: paths of all figures of this report.
    """
    record = join(directory, _NOTED)
    try:
        noted = json.loads(read_bytes(record))
    except (OSError, ValueError):
        noted = []
    names = {path.rpartition("/")[2] for path in written}
    before = noted if isinstance(noted, list) else []
    for name in before:
        if isinstance(name, str) and _FIGURE.fullmatch(name) and name not in names:
            remove_file(join(directory, PLOTS, name))
    write_bytes(record, json.dumps(sorted(names)).encode())

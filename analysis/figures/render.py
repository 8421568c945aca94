"""Figures as files, and the style in which all are drawn."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure

from analysis.figures.looks import Look
from analysis.figures.style import STYLE
from analysis.io.read import join, write_bytes

ENDINGS: Final = ("png", "svg", "pdf")


@dataclass(frozen=True)
class Plot:
    """A drawn figure.

    Attributes:
        name: file name without extension, e.g. `vqa`.
        title: what it shows, and of what.
        alt: the figure in words, for those who do not see it.
        figure: Matplotlib's, to change and to save again.
    """

    name: str
    title: str
    alt: str
    figure: Figure

    @cached_property
    def png(self) -> bytes:
        """Bytes of the PNG, 300 dpi."""
        return self._saved("png", facecolor="white")

    @cached_property
    def svg(self) -> str:
        """Text of the SVG; the background is transparent."""
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        return self._saved("svg", transparent=True, metadata=nothing).decode()

    @cached_property
    def pdf(self) -> bytes:
        """Bytes of the PDF, its fonts embedded."""
        nothing = dict.fromkeys(("Creator", "Producer", "CreationDate"))
        return self._saved("pdf", transparent=True, metadata=nothing)

    def save(self, directory: str, endings: Sequence[str] = ENDINGS) -> list[str]:
        """Write the files to a directory or fsspec URI; returns their paths.

        Args:
            directory: where to; made if it is not there.
            endings: of `png`, `svg`, `pdf`.
        """
        written = []
        for ending in endings:
            data = getattr(self, ending)
            written.append(join(directory, f"{self.name}.{ending}"))
            write_bytes(written[-1], data.encode() if isinstance(data, str) else data)
        return written

    def _repr_png_(self) -> bytes:
        return self.png

    def _saved(self, form: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        with styled():
            self.figure.savefig(buffer, format=form, **options)
        return buffer.getvalue()


def styled() -> Any:
    """Context in which figures are drawn."""
    return rc_context(STYLE)  # type: ignore[arg-type]  # the stubs want literal keys


def file_name(name: str) -> str:
    """A name with only letters, digits, dots and dashes, for a file."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")


def line_style(look: Look) -> dict[str, Any]:
    """A look as Matplotlib's arguments for a line with markers."""
    return {
        "color": look.colour,
        "marker": look.marker,
        "ls": look.line,
        # A letter is thin: its edge belongs to it.
        "markeredgecolor": look.colour if look.marker.startswith("$") else "white",
        "markeredgewidth": 0.5,
        # Stars and letters are drawn smaller than other markers of the same size.
        "markersize": 6.6 if look.marker.startswith(("*", "$")) else STYLE["lines.markersize"],
    }

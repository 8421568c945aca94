"""What the page of a report carries inside: figures in its colours, data, and Plotly's script."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from analysis.looks import GRID, INK, MUTED, PALE, WARN, Looks, on_dark

NAMES: Final = {INK: "ink", MUTED: "muted", GRID: "grid", WARN: "warn", PALE: "pale"}
"""Colours whose variables the page's own style uses."""
_DARK: Final = {
    INK: "#e6e9ee",
    MUTED: "#98a2ae",
    GRID: "#2a313a",
    WARN: "#ffa657",
    PALE: "#4a535e",
}
GLYPHS: Final = {
    **{"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "<": "◀", ">": "▶", "X": "✖"},
    **{"P": "✚", "*": "★", "h": "⬢", "p": "⬟", "d": "♦", "8": "◉", "H": "◈"},
}
"""Matplotlib's markers as letters of the page."""
Colours = Sequence[tuple[str, str, str]]
"""(colour, the page's variable in its place, the colour on a dark page)."""


def page_colours(looks: Looks) -> Colours:
    """Every colour of a sweep's figures."""
    found = dict.fromkeys(colour.lower() for colour in looks.colours())
    return [(c, NAMES.get(c, f"c-{c[1:]}"), _DARK.get(c) or on_dark(c)) for c in found]


def inline(svg: str, number: int, colours: Colours) -> str:
    """An SVG file as an element of the page, in the page's colours and font.

    Args:
        svg: the file's text.
        number: of the figure on the page, so that no two elements have one id.
        colours: what `page_colours` gave.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
    svg = re.sub(r'id="([^"]+)"', rf'id="f{number}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#f{number}-", svg)
    svg = svg.replace("'DejaVu Sans', ", "").replace("'DejaVu Sans'", "inherit")
    variables = {colour: f"var(--{variable})" for colour, variable, _ in colours}
    known = re.compile("|".join(map(re.escape, variables)), re.IGNORECASE)
    return known.sub(lambda found: variables[found[0].lower()], svg)


def mark(looks: Looks, owner: tuple[str, str, str]) -> str:
    """A curve's marker in its colour, as an element of the page.

    Args:
        looks: the sweep's.
        owner: codec, scenario and variant.
    """
    look = looks.owner(*owner)
    variable = NAMES.get(look.colour, f"c-{look.colour[1:]}")
    glyph = GLYPHS.get(look.marker, "✱")
    return f'<span class="dot" aria-hidden="true" style="color:var(--{variable})">{glyph}</span>'


def script_data(data: Any) -> str:
    """Data as JSON that can stand in a script element whatever it holds."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def plotly_script() -> str:
    """Plotly's script, compressed, as base64: a third of its bytes, unpacked by the browser.

    Plotly's Python package ships the complete bundle only. A browser that cannot unpack it keeps
    the figures as they stand in the page.
    """
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 6, mtime=0)).decode()

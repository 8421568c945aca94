"""Content that the report embeds: figures in its colours, images, data and Plotly's script."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from PIL import Image

from analysis.figures.common.colours import on_dark
from analysis.figures.common.looks import Looks
from analysis.figures.common.style import GRID, INK, MUTED, PALE, RIGHT, WARN, WRONG

NAMES: Final = {
    **{INK: "ink", MUTED: "muted", GRID: "grid", WARN: "warn", PALE: "pale"},
    **{RIGHT: "right", WRONG: "wrong"},
}
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
SMALL_PNG: Final = 6_000
"""Bytes up to which an image stays a PNG; larger ones become WebP of the quality below."""
QUALITY: Final = 92
_PNG: Final = re.compile(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)")
Colours = Sequence[tuple[str, str, str]]
"""(colour, the page's variable in its place, the colour on a dark page)."""


def page_colours(looks: Looks) -> Colours:
    """Every colour of a sweep's figures."""
    colours = dict.fromkeys(colour.lower() for colour in looks.colours())
    return [(c, NAMES.get(c, f"c-{c[1:]}"), _DARK.get(c) or on_dark(c)) for c in colours]


def inline(svg: str, number: int, colours: Colours) -> str:
    """An SVG file as an element of the page, in the page's colours and font.

    Args:
        svg: the file's text.
        number: of the figure on the page, so that no two elements have one id.
        colours: what `page_colours` gave.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _PNG.sub(lambda match: data_uri(_opened(match[1])), svg)
    # Matplotlib names images by their content, so equal ones would have one id.
    svg = re.sub(r'(<image [^>]*?) id="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
    svg = re.sub(r'id="([^"]+)"', rf'id="f{number}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#f{number}-", svg)
    svg = svg.replace("'DejaVu Sans', ", "").replace("'DejaVu Sans'", "inherit")
    variables = {colour: f"var(--{variable})" for colour, variable, _ in colours}
    known = re.compile("|".join(map(re.escape, variables)), re.IGNORECASE)
    return known.sub(lambda match: variables[match[0].lower()], svg)


def data_uri(image: Image.Image) -> str:
    """An image as PNG where that is small, else as WebP of a quality that hides nothing."""
    data = _encoded(image, "PNG", optimize=True)
    kind = "png"
    if len(data) > SMALL_PNG:
        kind, data = "webp", _encoded(image, "WEBP", quality=QUALITY, method=4)
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _opened(data: str) -> Image.Image:
    """An image from base64; without its alpha where nothing shines through."""
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        solid = image.convert("RGBA").getchannel("A").getextrema()[0] == 255
        return image.convert("RGB" if solid else "RGBA")


def mark(looks: Looks, owner: tuple[str, str, str]) -> str:
    """A curve's marker in its colour, as an element of the page.

    Args:
        looks: the sweep's.
        owner: codec, scenario and variant.
    """
    look = looks.owner(*owner)
    variable = NAMES.get(look.colour, f"c-{look.colour[1:]}")
    letter = look.marker.strip("$")[:1].upper()
    circled = (
        chr(ord("Ⓐ") + ord(letter) - ord("A")) if letter.isascii() and letter.isalpha() else "✱"
    )
    glyph = GLYPHS.get(look.marker, circled)
    return f'<span class="dot" aria-hidden="true" style="color:var(--{variable})">{glyph}</span>'


def script_data(data: Any) -> str:
    """Data as JSON that is safe inside a script element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def plotly_script() -> str:
    """Plotly's script, compressed, as base64: a third of its bytes, unpacked by the browser.

    Plotly's Python package ships only the complete bundle. A browser that cannot unpack it keeps
    the static figures.
    """
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 6, mtime=0)).decode()

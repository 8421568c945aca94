"""Stored example images for the report: some of every point, within limits."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

import pandas as pd
from PIL import Image

from analysis.curves import scenario_rank
from analysis.points import Sweep, join, read_bytes
from analysis.tables import rate_words

GALLERY_IMAGES: Final = 40
"""Example images on the page at the most."""
GALLERY_BYTES: Final = 6_000_000
"""And their bytes, all together."""
IMAGE_WIDTH: Final = 900
"""Pixels; wider example images are scaled down."""


def gallery(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Example images by rate: round by round, one of every point, until the limits are reached."""
    if sweep.directory is None:
        return
    said: dict[str, Any] = sweep.manifest.get("points", {})
    about = sweep.points.drop_duplicates("point_key").set_index("point_key")
    keys = [k for k in said if k in about.index and said[k].get("examples")]
    order = sorted(keys, key=lambda k: scenario_rank(str(about.loc[k, "scenario"])))
    chosen: dict[str, list[str]] = {}
    count = size = 0
    for turn in range(max((len(said[k]["examples"]) for k in keys), default=0)):
        for key in order:
            if turn >= len(said[key]["examples"]) or count >= GALLERY_IMAGES:
                continue
            data = _data_uri(join(sweep.directory, said[key]["examples"][turn]))
            if data is None or size + len(data) > GALLERY_BYTES:
                continue
            chosen.setdefault(key, []).append(data)
            count, size = count + 1, size + len(data)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for key, images in chosen.items():
        row = about.loc[key]
        rate = rate_words(row)
        codec: str = "" if pd.isna(row["codec"]) else str(row["codec"])
        picture = {
            "owner": (codec, row["scenario"], row["variant"]),
            "scenario": row["scenario"],
            "variant": row["variant"],
            "bpp": f"{row['bpp']:.3f}",
            "images": images,
        }
        groups.setdefault((codec, rate), []).append(picture)
    for group, pictures in sorted(groups.items(), key=lambda g: _rate_order(g[0])):
        yield {"title": " ".join(filter(None, group)), "pictures": pictures}


def _rate_order(group: tuple[str, str]) -> tuple[str, float]:
    return group[0], float((group[1].split() or ["0"])[-1])


def _data_uri(path: str) -> str | None:
    """A PNG as a data URI, scaled to the page's width; None where it is not there any more."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return None
    with Image.open(BytesIO(data)) as image:
        if image.width > IMAGE_WIDTH:
            height = round(image.height * IMAGE_WIDTH / image.width)
            smaller = BytesIO()
            image.convert("RGB").resize((IMAGE_WIDTH, height)).save(smaller, "PNG", optimize=True)
            data = smaller.getvalue()
    return "data:image/png;base64," + base64.b64encode(data).decode()

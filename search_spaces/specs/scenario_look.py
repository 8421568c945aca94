"""How figures and tables show a scenario: plain data that a sweep carries in its `sweep.json`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from search_spaces.specs.base import Spec


class ScenarioLook(Spec):
    """Name, place and style of a scenario's curves."""

    title: str
    """Name for people, such as `post-processing`."""
    order: int = 500
    """Position in legends and tables, lowest first."""
    family: str = "other"
    """Scenarios of one family share a panel where a figure is divided."""
    colour: Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")] | None = None
    """Colour in sweeps of one learned codec; null for a stable one that the figures choose."""
    marker: Annotated[str, Field(pattern=r"^([.,ov^<>12348spP*hH+xXDd|_]|\$[^$]+\$)$")] | None = (
        None
    )
    """Matplotlib marker; null for a stable one that the figures choose."""
    line: Literal["-", "--", "-.", ":"] = "-"
    """Matplotlib line style."""
    role: Literal["curve", "anchor", "bound"] = "curve"
    """`anchor`: the curve that others are compared with unless one is named. `bound`: a level
    across each figure, no curve."""
    codec: Literal["base", "own", "standard", "none"] = "base"
    """Whose bits it writes: `base`: a learned image codec of the space; `own`: a codec that only
    this scenario has; `standard`: a standard's codec, whose name the curve takes; `none`."""
    image: Literal["base", "own", "none"] = "base"
    """The image that people see: `base`: the base codec's, unchanged, so that such scenarios share
    one PSNR curve; `own`: another one; `none`: no image is decoded."""
    depends_on_seed: bool = True
    """Whether a point is one training of many that there may be."""
    sentence: str = ""
    """One sentence for the report: what the scenario does."""
    distribution: str = ""
    """Distribution and version of the plug-in that it comes from; empty for this project."""

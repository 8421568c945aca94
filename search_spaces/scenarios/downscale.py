"""downscale: the image is made smaller before the base codec and larger after it.

    image --resize--> codec --> bytes --> codec --resize back--> image --> complete encoder

The cheapest competitor of all: nothing is trained, and sender and receiver compute less than with
the codec alone. VTC-Bench (arXiv 2510.07143) found it hard to beat.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from search_spaces.scenarios.contract import Scenario, base_codec, settings_as
from search_spaces.specs.base import Spec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.space import Space
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages, rate_identity


class Downscaling(Spec):
    """downscale: by how much the image is made smaller. Ours."""

    factor: Annotated[float, Field(gt=1, le=16)] = 2.0
    """Sides of the image over sides of what is coded, above 1 and up to 16 (bicubic, antialiased;
    sides are rounded)."""


class Downscale(Scenario):
    """A smaller image through the base codec."""

    name = "downscale"
    key = "downscale"
    settings = Downscaling
    trains = False
    depends_on_seed = False
    enters = "image"
    look = ScenarioLook(
        title="downscale",
        order=15,
        family="image",
        colour="#117733",
        marker="d",
        line="--",
        image="own",
        sentence="The image is made smaller, coded by the base codec, and made larger again.",
    )

    def factor(self, space: Space) -> float:
        """The factor of a space."""
        return settings_as(space, self.key, Downscaling).factor

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """The base codec."""
        return base_codec(stages, point)

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """The factor, and the rate of a variable-rate codec."""
        assert point.codec is not None
        return {"factor": self.factor(stages.space), **rate_identity(point.codec)}

    def record(self, space: Space, point: OperatingPoint) -> dict[str, Any]:
        """The factor."""
        return {"downscale": {"factor": self.factor(space)}}


SCENARIO = Downscale()

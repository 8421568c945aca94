"""reconstruction: the encoder reads the image that the base codec decodes; the anchor.

image --codec--> bytes --codec--> y_hat --g_s--> image --> complete encoder
"""

from __future__ import annotations

from typing import Any

from search_spaces.scenarios.contract import Scenario, base_codec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages, rate_identity


class Reconstruction(Scenario):
    """The decoded image."""

    name = "reconstruction"
    default_list = "baselines"
    trains = False
    depends_on_seed = False
    enters = "image"
    look = ScenarioLook(
        title="reconstruction",
        order=10,
        family="image",
        colour="#5b6470",
        marker="s",
        line="--",
        role="anchor",
        sentence="The encoder reads the image that the base codec decodes.",
    )

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """The base codec."""
        return base_codec(stages, point)

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """The rate of a variable-rate codec."""
        assert point.codec is not None
        return rate_identity(point.codec)


SCENARIO = Reconstruction()

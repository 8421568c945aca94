"""uncompressed: the encoder reads the original image; the upper bound of every figure.

image --8 bits per component, 24 bits per pixel--> complete encoder
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from search_spaces.scenarios.contract import Scenario
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.space import Space
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages


class Uncompressed(Scenario):
    """The original image."""

    name = "uncompressed"
    default_list = "baselines"
    trains = False
    enters = "image"
    look = ScenarioLook(
        title="uncompressed",
        order=0,
        family="image",
        colour="#1f2328",
        marker="h",
        role="bound",
        codec="none",
        image="none",
        sentence="The encoder reads the original image, at 24 bits per pixel.",
    )

    def applies_to(self, space: Space, codec: CodecSpec) -> bool:
        """No codec is used."""
        return False

    def own_points(self, space: Space) -> Iterator[OperatingPoint]:
        """One point."""
        yield OperatingPoint(None, None, self.name, space.seeds[0])

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """Nothing."""
        return {}

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """No setting changes the point."""
        return {}


SCENARIO = Uncompressed()

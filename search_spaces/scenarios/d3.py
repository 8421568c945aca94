"""d3: codec and neck are trained together, for the machine only (paper, scenario d3).

    image --codec--> bytes --codec--> y_hat --> neck --> encoder blocks k ..

The loss is R + lambda delta L_dist: d2's without the image. The synthesis transform is not trained,
so no image is decoded.
"""

from __future__ import annotations

from typing import Any

from search_spaces.scenarios.d2 import Joint, JointTraining
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.stages import Stages


class D3(Joint):
    """Codec and neck, for the machine only."""

    name = "d3"
    key = "d3"
    search_roots = ("d3",)
    seconds_per_image = 0.02
    look = ScenarioLook(
        title="d3",
        order=60,
        family="bridge",
        colour="#009e73",
        marker="^",
        image="none",
        sentence="Codec and neck are trained together for the machine only; no image is decoded.",
    )

    def worth(self, training: JointTraining) -> tuple[float, float]:
        """d2's, without the image."""
        return 0.0, super().worth(training)[1]

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """d2's, without the weight of the image."""
        identity = super().identity(stages, point)
        del identity["train"]["gamma"]
        return identity


SCENARIO = D3()

"""transfer_tuned: d1's neck of one codec, trained for a few steps on the latents of another.

    image --codec B--> bytes --> y_hat of B --> tuned neck --> encoder blocks k ..

The loss is that of the surrogate loss's last phase.
"""

from __future__ import annotations

from typing import Any

from search_spaces.scenarios.contract import (
    base_codec,
    bridge_identity,
    frozen_latents,
    started_from,
)
from search_spaces.scenarios.d1 import SCENARIO as D1
from search_spaces.scenarios.transfer import Transferred
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages


class TransferTuned(Transferred):
    """d1's neck of another codec, after a few steps of training."""

    name = "transfer_tuned"
    seconds_per_image = D1.seconds_per_image
    look = ScenarioLook(
        title="transfer, tuned",
        order=90,
        family="transfer",
        colour="#56b4e9",
        marker=">",
        line="-.",
        sentence="d1's neck of another codec is trained for a few steps.",
    )

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """What d1 reads, and the neck of the other codec."""
        return {
            **base_codec(stages, point),
            **frozen_latents(stages, point),
            **stages.surrogate_targets(),
            **started_from(stages, point),
        }

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """Encoder, neck, the last phase of the loss, and training."""
        return bridge_identity(stages, point, stages.space.surrogate.phases[-1:])


SCENARIO = TransferTuned()

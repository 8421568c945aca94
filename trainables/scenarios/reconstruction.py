"""reconstruction: the base codec's decoded image enters the complete encoder."""

from __future__ import annotations

from trainables.points.building import complete_encoder
from trainables.points.contract import Method, Trained
from trainables.points.models import DecodedPoint
from trainables.scenarios.uncompressed import ENCODER_PARTS


class ReconstructionMethod(Method):
    """The decoded image."""

    receiver = ("entropy", "synthesis", *ENCODER_PARTS)

    def restore(self, trained: Trained) -> DecodedPoint:
        """The base codec and the complete encoder."""
        encoder = complete_encoder(trained.space, trained.tower)
        return DecodedPoint(encoder, trained.base_codec())


METHOD = ReconstructionMethod()

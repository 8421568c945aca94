"""The computing half of `grey.py`."""

from trainables.points.building import complete_encoder
from trainables.points.models import DecodedPoint
from trainables.scenarios.reconstruction import ReconstructionMethod


class GreyPoint(DecodedPoint):
    """Decoded images, each pixel the mean of its colours."""

    def image(self, received):
        """(B, 3, H, W)"""
        return super().image(received).mean(1, keepdim=True).expand(-1, 3, -1, -1)


class GreyMethod(ReconstructionMethod):
    """The decoded image in grey."""

    def restore(self, trained):
        """The base codec and the complete encoder."""
        return GreyPoint(complete_encoder(trained.space, trained.tower), trained.base_codec())


METHOD = GreyMethod()

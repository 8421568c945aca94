"""codec_tuned: the base codec, trained on with its own loss."""

from __future__ import annotations

from pathlib import Path

from search_spaces.scenarios.codec_tuned import SCENARIO
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.codecs import Codec
from trainables.points.building import complete_encoder
from trainables.points.contract import Method, Trained, updated_codec
from trainables.points.inputs import Inputs, base_codec
from trainables.points.models import DecodedPoint
from trainables.scenarios.base_codec import CodecLearner
from trainables.scenarios.uncompressed import ENCODER_PARTS


class CodecTunedMethod(Method):
    """The decoded image of a codec that was trained for longer."""

    receiver = ("entropy", "synthesis", *ENCODER_PARTS)

    def learner(self, space: Space, point: OperatingPoint, inputs: Inputs) -> CodecLearner:
        """The base codec, at the point's rate alone."""
        assert point.lmbda is not None
        codec = base_codec(point, inputs)
        return CodecLearner(codec, {codec.rate: point.lmbda}, SCENARIO.training(space, point).lr)

    def restore(self, trained: Trained) -> DecodedPoint:
        """The tuned codec and the complete encoder."""
        assert trained.codec_dir is not None
        codec = self.codec(trained.point, trained.codec_dir, trained.point_dir)
        return DecodedPoint(complete_encoder(trained.space, trained.tower), codec)

    def codec(self, point: OperatingPoint, codec_dir: Path, point_dir: Path) -> Codec:
        """The tuned codec."""
        assert point.codec is not None
        return updated_codec(point.codec, codec_dir, point_dir)


METHOD = CodecTunedMethod()

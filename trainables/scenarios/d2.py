"""d2, d3: codec and neck trained together, from d1's neck.

    images --> codec --> y_hat --+--> neck --> encoder blocks k .. --> L_dist
                                 +--> g_s --> MSE (d2)
    loss = R + lambda (gamma MSE + delta L_dist), R in bits per pixel, MSE on the [0, 1] scale

*Bridging Compressed Image Latents and Multimodal Large Language Models* (ICLR 2025, arXiv
2407.19651), section 3.4.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from search_spaces.scenarios.contract import settings_as
from search_spaces.scenarios.d2 import JointTraining
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.codecs import Codec
from trainables.datasets.rows import Batch
from trainables.encoders.load import load_tower
from trainables.encoders.tower import Tower
from trainables.networks.neck import TransformNeck
from trainables.points.building import partial_encoder
from trainables.points.contract import Trained, updated_codec
from trainables.points.inputs import Inputs, base_codec
from trainables.points.learning import (
    Group,
    Learner,
    bpp_estimated,
    codec_groups,
    distillation_terms,
    feature_columns,
    image_terms,
)
from trainables.points.models import BridgedPoint
from trainables.points.neck_method import NeckMethod, read_released, trained_neck


class JointLearner(Learner):
    """Codec and neck, with the image in the loss (d2) or without it (d3, which never runs g_s)."""

    def __init__(
        self,
        space: Space,
        training: JointTraining,
        codec: Codec,
        neck: TransformNeck,
        tower: Tower,
        lmbda: float,
        synthesis: bool,
    ) -> None:
        super().__init__()
        self.codec = codec.requires_grad_(True)
        self.neck = neck
        self.encoder = partial_encoder(space, tower)
        self._space = space
        self._training = training
        self._synthesis = synthesis
        self._lmbda = lmbda
        self.columns = ("image", *feature_columns(space))
        if not synthesis:
            self.codec.g_s.requires_grad_(False)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss`, its terms and `aux`."""
        return {**self._terms(batch), "aux": self.codec.aux_loss()}

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`: the rate-distortion objective, and its terms; `psnr` where there is an image."""
        return self._terms(batch)

    def groups(self) -> list[Group]:
        """The neck, the codec's parameters (without g_s in d3) and its quantiles."""
        codec = codec_groups(self.codec, self._training.codec_lr, self.codec.spec.train.aux_lr)
        return [Group(list(self.neck.parameters()), self._training.lr), *codec]

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.image is not None
        output = self.codec(batch.image, synthesis=self._synthesis)
        bpp = bpp_estimated(output, batch.image)
        terms = distillation_terms(self._space, self.encoder, self.neck(output.y_hat), batch)
        distortion = self._training.delta * terms["distill"]
        if self._synthesis:
            terms |= image_terms(output, batch.image, self.training)
            distortion = distortion + self._training.gamma * terms["mse"]
        return {**terms, "bpp_estimated": bpp, "loss": bpp + self._lmbda * distortion}


class JointMethod(NeckMethod):
    """Codec and neck; with the image in the loss or without.

    Args:
        key: of the scenario's settings.
        synthesis: whether the image is in the loss, so that g_s is trained.
    """

    def __init__(self, key: str, synthesis: bool) -> None:
        self._key = key
        self._synthesis = synthesis

    def learner(self, space: Space, point: OperatingPoint, inputs: Inputs) -> JointLearner:
        """The base codec and d1's neck."""
        assert point.lmbda is not None
        training = settings_as(space, self._key, JointTraining)
        tower = load_tower(space.teacher.model)
        neck = trained_neck(space, point, tower, inputs.start)
        base = base_codec(point, inputs)
        return JointLearner(space, training, base, neck, tower, point.lmbda, self._synthesis)

    def restore(self, trained: Trained) -> BridgedPoint:
        """The point's codec and neck, the encoder from block k on."""
        assert trained.codec_dir is not None
        neck = trained_neck(trained.space, trained.point, trained.tower, trained.point_dir)
        codec = self.codec(trained.point, trained.codec_dir, trained.point_dir)
        encoder = partial_encoder(trained.space, trained.tower)
        # Without training, g_s does not fit the latents any more.
        return BridgedPoint(encoder, codec, neck, has_image=self._synthesis)

    def codec(self, point: OperatingPoint, codec_dir: Path, point_dir: Path) -> Codec:
        """The trained codec; g_s is the base codec's where it was not trained."""
        assert point.codec is not None
        return updated_codec(point.codec, codec_dir, point_dir, self._untrained)

    def released(
        self, space: Space, point: OperatingPoint, file: Path
    ) -> tuple[dict[str, Tensor], str]:
        """The neck and the codec of a released file."""
        neck_state, codec_state, origin = read_released(space, point, file)
        state = {**neck_state, **codec_state}
        skip = self._untrained
        return {n: v for n, v in state.items() if not (skip and n.startswith(skip))}, origin

    @property
    def _untrained(self) -> str:
        """Beginning of the names of the codec's weights that are not trained; empty for none."""
        return "" if self._synthesis else "codec.net.g_s."


METHOD = JointMethod("d2", synthesis=True)

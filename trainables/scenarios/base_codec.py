"""Base codecs: trained for people, before any scenario.

image --> codec --> R + lambda 255^2 MSE
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.codecs import Codec
from trainables.datasets.rows import Batch
from trainables.points.learning import Group, Learner, bpp_estimated, codec_groups, image_terms


class CodecLearner(Learner):
    """A codec on the rate-distortion loss R + lambda * 255^2 * MSE.

    With several rates it sees one of them, drawn at random, per step, with the lambda of that rate;
    its validation is the mean over all.

    Args:
        codec: all its parameters are trained.
        lambdas: of each rate that is trained, by its index in the codec.
        lr: learning rate; the quantiles have that of the codec's own training.
    """

    columns = ("image",)

    def __init__(self, codec: Codec, lambdas: Mapping[int, float], lr: float) -> None:
        super().__init__()
        self.codec = codec.requires_grad_(True)
        self._lambdas = dict(lambdas)
        self._rates = tuple(lambdas)
        self._lr = lr

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss`, `bpp_estimated`, `mse` and `aux`."""
        if len(self._rates) > 1:
            self.codec.rate = self._rates[int(torch.randint(len(self._rates), ()))]
        return {**self._terms(batch), "aux": self.codec.aux_loss()}

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, `bpp_estimated`, `mse`, `psnr`."""
        of_rates: list[dict[str, Tensor]] = []
        for rate in self._rates:
            self.codec.rate = rate
            of_rates.append(self._terms(batch))
        names = of_rates[0]
        return {name: torch.stack([terms[name] for terms in of_rates]).mean(0) for name in names}

    def groups(self) -> list[Group]:
        """The codec's parameters and its quantiles."""
        return codec_groups(self.codec, self._lr, self.codec.spec.train.aux_lr)

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.image is not None
        output = self.codec(batch.image)
        bpp = bpp_estimated(output, batch.image)
        terms = {"bpp_estimated": bpp, **image_terms(output, batch.image, self.training)}
        weight = self._lambdas[self.codec.rate] * 255**2
        return {"loss": bpp + weight * terms["mse"], **terms}

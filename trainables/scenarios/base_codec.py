"""Base codecs: trained for people, before any scenario.

image --random crop, flip--> codec --> R + lambda 255^2 MSE
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.specs.codec import CodecSpec
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
        augments: train on random crops of the images, mirrored at random.
    """

    columns = ("image",)

    def __init__(
        self, codec: Codec, lambdas: Mapping[int, float], lr: float, augments: bool = False
    ) -> None:
        super().__init__()
        self.codec = codec.requires_grad_(True)
        self._lambdas = dict(lambdas)
        self._rates = tuple(lambdas)
        self._lr = lr
        self._augments = augments

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss`, `bpp_estimated`, `mse` and `aux`."""
        if len(self._rates) > 1:
            self.codec.rate = self._rates[int(torch.randint(len(self._rates), ()))]
        assert batch.image is not None
        image = batch.image
        if self._augments:
            image = random_crops(image, crop_side(self.codec.spec, image))
        return {**self._terms(image), "aux": self.codec.aux_loss()}

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, `bpp_estimated`, `mse`, `psnr`."""
        assert batch.image is not None
        of_rates: list[dict[str, Tensor]] = []
        for rate in self._rates:
            self.codec.rate = rate
            of_rates.append(self._terms(batch.image))
        names = of_rates[0]
        return {name: torch.stack([terms[name] for terms in of_rates]).mean(0) for name in names}

    def groups(self) -> list[Group]:
        """The codec's parameters and its quantiles."""
        return codec_groups(self.codec, self._lr, self.codec.spec.train.aux_lr)

    def _terms(self, image: Tensor) -> dict[str, Tensor]:
        output = self.codec(image)
        bpp = bpp_estimated(output, image)
        terms = {"bpp_estimated": bpp, **image_terms(output, image, self.training)}
        weight = self._lambdas[self.codec.rate] * 255**2
        return {"loss": bpp + weight * terms["mse"], **terms}


def crop_side(codec: CodecSpec, image: Tensor) -> int:
    """The side of a base codec's random crops of images (B, 3, H, W), in pixels."""
    shorter = min(image.shape[-2:])
    if codec.train.crop is not None:
        return min(codec.train.crop, shorter)
    whole_blocks = int(0.75 * shorter) // codec.pad_to
    return whole_blocks * codec.pad_to or shorter


def random_crops(image: Tensor, side: int) -> Tensor:
    """A square of each image (B, 3, H, W) at a random place, mirrored with probability 1/2.

    Three numbers are drawn per image, so that a batch's slices are cropped as the whole batch.
    """
    one_per_image = image[:, :1, :1, :1]
    top, left, flip = (torch.rand_like(one_per_image).flatten() for _ in range(3))
    tops = (top * (image.shape[-2] - side + 1)).long().tolist()
    lefts = (left * (image.shape[-1] - side + 1)).long().tolist()
    crops = torch.stack(
        [
            picture[:, y : y + side, x : x + side]
            for picture, y, x in zip(image, tops, lefts, strict=True)
        ]
    )
    return torch.where((flip < 0.5)[:, None, None, None], crops.flip(-1), crops)

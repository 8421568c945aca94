"""What the bridge is compared with and has to be trained: the encoder's tokens sent, the oracle.

    feature_coding     tokens at block k -> codec -> tokens   R + lambda MSE of the tokens
    end_to_end_oracle  latents -> neck -> MLLM -> answers     cross-entropy of the right answers

Shapes: `B` images, `T` tokens of the encoder, `D` width, `M` latent channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.specs.space import Space
from trainables.codecs import bits_estimated
from trainables.datasets.rows import Batch
from trainables.encoders.bridge import Entry
from trainables.mllms import Mllm
from trainables.networks.neck import TransformNeck
from trainables.networks.token_codec import TokenCodec
from trainables.scenarios.learners import Group, Learner, codec_groups


class FeatureCodingLearner(Learner):
    """feature_coding: both ends of a codec of tokens. Rate in bits per pixel of the image."""

    columns = ("image",)

    def __init__(self, space: Space, codec: TokenCodec, neck: TransformNeck, lmbda: float) -> None:
        super().__init__()
        self.codec = codec
        self.neck = neck
        self._spec = space.feature_coding
        self._lmbda = lmbda

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss`, `bpp_estimated`, `mse` of the tokens, and `aux`."""
        return {**self._terms(batch), "aux": self.codec.aux_loss()}

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, `bpp_estimated`, `mse` of the tokens."""
        return self._terms(batch)

    def groups(self) -> list[Group]:
        """The receiver's neck, the sender's analysis with its bottleneck, and the quantiles."""
        codec = codec_groups(self.codec, self._spec.lr, self._spec.aux_lr)
        return [Group(list(self.neck.parameters()), self._spec.lr), *codec]

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.image is not None
        tokens = self.codec.net.tokens(batch.image)
        y_hat, likelihoods = self.codec.of_tokens(tokens)
        pixels = batch.image.shape[-2] * batch.image.shape[-1]
        bpp = bits_estimated(likelihoods).mean() / pixels
        mse = F.mse_loss(self.neck(y_hat).float(), tokens)
        return {"loss": bpp + self._lmbda * mse, "bpp_estimated": bpp, "mse": mse}


@dataclass(frozen=True)
class Asked:
    """A prompt about one image, and its right answer."""

    prompt: str
    answer: str


def read_answers(world: Path, split: str, tasks: Sequence[str]) -> dict[str, list[Asked]]:
    """The prompts of some tasks with their right answers, by image.

    Raises:
        ValueError: there are none.
    """
    columns = ["task", "image_ids", "prompt", "answer"]
    table = pq.read_table(world / f"tasks_{split}.parquet", columns=columns)
    found: dict[str, list[Asked]] = {}
    for row in table.to_pylist():
        if row["task"] in tasks and len(row["image_ids"]) == 1:
            own = found.setdefault(row["image_ids"][0], [])
            own.append(Asked(row["prompt"], row["answer"]))
    if not found:
        raise ValueError(f"the {split} images have no answers for {', '.join(tasks)}")
    return found


class OracleLearner(Learner):
    """end_to_end_oracle: d1's neck through the MLLM itself, towards the right answers.

    The MLLM is frozen. A training step asks one thing about each image, in turn; validation asks
    everything.

    Args:
        asked: by image, of training and validation images.
    """

    columns = ("y_hat",)

    def __init__(
        self,
        space: Space,
        neck: TransformNeck,
        mllm: Mllm,
        asked: Mapping[str, Sequence[Asked]],
    ) -> None:
        super().__init__()
        self.neck = neck
        self.model = mllm.model
        self._mllm = mllm
        self._space = space
        self._asked = asked

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss`: mean cross-entropy of the answers' tokens, in nats, mean over the batch."""
        one_each = [own[step % len(own)] for own in self._of(batch)]
        return {"loss": self._losses(batch, list(range(len(batch))), one_each).mean()}

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`: the same over everything that is asked about an image, mean over images."""
        own = self._of(batch)
        places = [place for place, some in enumerate(own) for _ in some]
        losses = self._losses(batch, places, [one for some in own for one in some])
        weights = torch.tensor([1 / len(own[place]) for place in places], device=losses.device)
        return {"loss": (weights * losses).sum() / len(batch)}

    def groups(self) -> list[Group]:
        """The neck."""
        return [Group(list(self.neck.parameters()), self._space.end_to_end_oracle.lr)]

    def _of(self, batch: Batch) -> list[Sequence[Asked]]:
        return [self._asked[image_id] for image_id in batch.ids]

    def _losses(self, batch: Batch, places: Sequence[int], asked: Sequence[Asked]) -> Tensor:
        """Of each question, about the image at its place in the batch."""
        assert batch.y_hat is not None
        entry = Entry(self.neck(batch.y_hat), self._space.teacher.block)
        prompts, answers = [one.prompt for one in asked], [one.answer for one in asked]
        return self._mllm.answer_losses(entry, places, prompts, answers)

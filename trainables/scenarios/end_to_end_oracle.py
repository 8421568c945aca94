"""end_to_end_oracle: d1's neck, trained on through the MLLM itself towards the right answers.

    stored latents --> neck --> MLLM, frozen --> cross-entropy of the right answers

Shapes: `B` images, `M` latent channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from search_spaces.scenarios.contract import settings_as
from search_spaces.scenarios.end_to_end_oracle import OracleTraining
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.datasets.rows import Batch
from trainables.encoders.bridge import Entry
from trainables.encoders.load import load_tower
from trainables.mllms import Mllm
from trainables.networks.neck import TransformNeck
from trainables.points.inputs import Inputs
from trainables.points.learning import Group, Learner
from trainables.points.neck_method import NeckMethod, trained_neck


@dataclass(frozen=True)
class Question:
    """A prompt about one image, and its right answer."""

    prompt: str
    answer: str


def read_answers(
    directories: Iterable[Path], split: str, tasks: Sequence[str]
) -> dict[str, list[Question]]:
    """Read the prompts and right answers of some tasks, by image id.

    Samples about several images are left out.

    Args:
        directories: that hold `tasks_{split}.parquet`.

    Raises:
        ValueError: the tasks have no such samples.
    """
    columns = ["task", "image_ids", "prompt", "answer"]
    files = [directory / f"tasks_{split}.parquet" for directory in directories]
    asked: dict[str, list[Question]] = {}
    for row in pa.concat_tables(pq.read_table(f, columns=columns) for f in files).to_pylist():
        if row["task"] in tasks and len(row["image_ids"]) == 1:
            of_image = asked.setdefault(row["image_ids"][0], [])
            of_image.append(Question(row["prompt"], row["answer"]))
    if not asked:
        raise ValueError(f"the {split} images have no answers for {', '.join(tasks)}")
    return asked


class OracleLearner(Learner):
    """end_to_end_oracle: d1's neck through the MLLM itself, towards the right answers.

    The MLLM is frozen. A training step asks one question about each image, in turn; validation asks
    all questions.

    Args:
        block: k, at which the neck's tokens enter.
        asked: questions by image id, of training and validation images.
        lr: learning rate.
    """

    columns = ("y_hat",)

    def __init__(
        self,
        neck: TransformNeck,
        block: int,
        mllm: Mllm,
        asked: Mapping[str, Sequence[Question]],
        lr: float,
    ) -> None:
        super().__init__()
        self.neck = neck
        self.model = mllm.model
        self._mllm = mllm
        self._block = block
        self._lr = lr
        self._asked = asked

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss`: mean cross-entropy of the answers' tokens, in nats, mean over the batch."""
        asked = [questions[step % len(questions)] for questions in self._questions(batch)]
        return {"loss": self._losses(batch, list(range(len(batch))), asked).mean()}

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`: the same, mean over all questions about an image, then mean over images."""
        by_image = self._questions(batch)
        places = [place for place, questions in enumerate(by_image) for _ in questions]
        asked = [question for questions in by_image for question in questions]
        losses = self._losses(batch, places, asked)
        weights = torch.tensor([1 / len(by_image[place]) for place in places], device=losses.device)
        return {"loss": (weights * losses).sum() / len(batch)}

    def groups(self) -> list[Group]:
        """The neck."""
        return [Group(list(self.neck.parameters()), self._lr)]

    def _questions(self, batch: Batch) -> list[Sequence[Question]]:
        """The questions about each image of a batch."""
        return [self._asked[image_id] for image_id in batch.ids]

    def _losses(self, batch: Batch, places: Sequence[int], asked: Sequence[Question]) -> Tensor:
        """The loss of each question.

        Args:
            places: of the questions' images in the batch.
        """
        assert batch.y_hat is not None
        entry = Entry(self.neck(batch.y_hat), self._block)
        prompts = [question.prompt for question in asked]
        answers = [question.answer for question in asked]
        return self._mllm.answer_losses(entry, places, prompts, answers)


class EndToEndOracleMethod(NeckMethod):
    """d1's neck, trained on through the MLLM."""

    def learner(self, space: Space, point: OperatingPoint, inputs: Inputs) -> OracleLearner:
        """d1's neck and the first MLLM of the space."""
        training = settings_as(space, "end_to_end_oracle", OracleTraining)
        directories = [path for path in (inputs.world, inputs.answers) if path is not None]
        asked = {
            image_id: questions
            for split in ("train", "val")
            for image_id, questions in read_answers(directories, split, space.answered).items()
        }
        neck = trained_neck(space, point, load_tower(space.teacher.model), inputs.start)
        mllm = Mllm.load(space.mllms[0].model)
        return OracleLearner(neck, space.teacher.block, mllm, asked, training.lr)


METHOD = EndToEndOracleMethod()

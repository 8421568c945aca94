"""One shard of an evaluation: its images are coded, then its samples are answered."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import Tensor

from trainables.datasets.arrays import Pixels
from trainables.evaluation.image_pass import Answerer, Clock, ImagePass, batches
from trainables.evaluation.shard_results import ShardResult
from trainables.evaluation.test_set import Sample, TestImages
from trainables.mllms import Mllm
from trainables.tasks import TASKS, Task

log = logging.getLogger(__name__)

_IMAGES_SHARE = 0.6
"""The share of a shard's time that its images take, for the progress that is reported."""


class ShardPass:
    """Runs the shards of an evaluation one after another.

    Features of images are kept in memory between shards, until `forget` drops them.

    Args:
        images: the test images.
        image_pass: codes images and computes their features.
        answerer: answers prompts about features.
        batch_size: prompts that are answered together.
        clock: counts the seconds of answering.
    """

    def __init__(
        self,
        images: TestImages,
        image_pass: ImagePass,
        answerer: Answerer,
        batch_size: int,
        clock: Clock,
    ) -> None:
        self._images, self._image_pass, self._answerer = images, image_pass, answerer
        self._batch_size, self._clock = batch_size, clock
        self._features: dict[str, Tensor] = {}

    def run(self, samples: Sequence[Sample], progress: Callable[[float], None]) -> ShardResult:
        """Code the images of a shard that have no features yet, and answer its samples.

        A sample with an unreadable image gets no answer.

        Args:
            progress: called with the share of the shard that is done, 0 to 1.
        """
        result = ShardResult()
        uncoded = {i for sample in samples for i in sample.image_ids} - self._features.keys()
        for batch in batches(self._readable(uncoded, result)):
            for image in self._image_pass.run(batch):
                self._features[image.rate.image_id] = image.features
                result.rates[image.rate.image_id] = image.rate
            progress(_IMAGES_SHARE * len(result.rates) / max(1, len(uncoded)))
        tasks = dict.fromkeys(sample.task for sample in samples)
        for number, name in enumerate(tasks):
            answerable = [
                sample
                for sample in samples
                if sample.task == name and self._features.keys() >= set(sample.image_ids)
            ]
            result.answers |= self._clock.time("answer", self._answers, name, answerable, result)
            progress(_IMAGES_SHARE + (1 - _IMAGES_SHARE) * (number + 1) / len(tasks))
        return result

    def forget(self, image_ids: Iterable[str]) -> None:
        """Drop the features of images that no later shard needs."""
        for image_id in image_ids:
            self._features.pop(image_id, None)

    def _readable(self, image_ids: set[str], result: ShardResult) -> Iterator[tuple[str, Pixels]]:
        """The images that can be read; why the rest cannot goes into `result`."""
        for image_id, pixels in self._images.read(image_ids):
            if isinstance(pixels, str):
                result.unreadable[image_id] = pixels
            else:
                yield image_id, pixels

    def _answers(
        self, task_name: str, samples: Sequence[Sample], result: ShardResult
    ) -> dict[str, str]:
        """The answers by sample id.

        If answering all samples fails, each sample is tried alone; why a sample failed even so goes
        into `result`.
        """
        task = TASKS.get(task_name)
        try:
            return self._ask(task, samples, self._batch_size)
        except Exception:
            # Whatever it was (memory, a prompt that the model cannot take): the rest is answered.
            log.warning(
                "task %s: answering %d samples together failed; each is now tried alone",
                task_name,
                len(samples),
                exc_info=True,
            )
        answers: dict[str, str] = {}
        for sample in samples:
            try:
                answers |= self._ask(task, [sample], 1)
            except Exception as error:
                text = (str(error).strip().splitlines() or [""])[0]
                result.failed[sample.sample_id] = f"{type(error).__name__}: {text}"
        return answers

    def _ask(self, task: Task, samples: Sequence[Sample], batch_size: int) -> dict[str, str]:
        """The answers by sample id; of a task by likelihood, JSON lists of log-likelihoods."""
        prompts = [sample.prompt for sample in samples]
        features = [[self._features[i] for i in sample.image_ids] for sample in samples]
        if task.by_likelihood:
            assert isinstance(self._answerer, Mllm)
            choices = [json.loads(sample.reference)["choices"] for sample in samples]
            likelihoods = self._answerer.likelihoods(prompts, features, choices, batch_size)
            answers = [json.dumps(values) for values in likelihoods]
        else:
            answers = self._answerer.answer(prompts, features, task.max_new_tokens, batch_size)
        return {sample.sample_id: answer for sample, answer in zip(samples, answers, strict=True)}

"""One shard of an evaluation: its images are coded, then its samples are answered."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import Tensor

from trainables.codecs.entropy.bitstream import BitstreamError
from trainables.datasets.arrays import Pixels
from trainables.evaluation.image_pass import Answerer, Clock, CodedImage, ImagePass, batches
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
        clock: counts the seconds of answering; the one of `image_pass`.
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
        self._originals: dict[str, Tensor] = {}

    def run(self, samples: Sequence[Sample], progress: Callable[[float], None]) -> ShardResult:
        """Code the images of a shard that have no features yet, and answer its samples.

        A sample gets no answer if one of its images is unreadable, or if the decoder refuses the
        image's stream.

        Args:
            progress: called with the share of the shard that is done, 0 to 1.
        """
        result = ShardResult()
        self._clock.seconds.clear()
        uncoded = {i for sample in samples for i in sample.image_ids} - self._features.keys()
        for batch in batches(self._readable(uncoded, result)):
            for image in self._coded(batch, result):
                self._features[image.rate.image_id] = image.features
                result.rates[image.rate.image_id] = image.rate
            progress(_IMAGES_SHARE * len(result.rates) / max(1, len(uncoded)))
        self._look_at_originals(samples)
        tasks = dict.fromkeys(sample.task for sample in samples)
        for number, name in enumerate(tasks):
            answerable = [
                sample
                for sample in samples
                if sample.task == name and self._features.keys() >= set(sample.image_ids)
            ]
            result.answers |= self._clock.time("answer", self._answers, name, answerable, result)
            progress(_IMAGES_SHARE + (1 - _IMAGES_SHARE) * (number + 1) / len(tasks))
        result.coded, result.step_seconds = len(result.rates), dict(self._clock.seconds)
        return result

    def forget(self, image_ids: Iterable[str]) -> None:
        """Drop the features of images that no later shard needs."""
        for image_id in image_ids:
            self._features.pop(image_id, None)
            self._originals.pop(image_id, None)

    def _look_at_originals(self, samples: Sequence[Sample]) -> None:
        """Compute the features of the originals that answers are compared with."""
        compared = {
            image_id
            for sample in samples
            if TASKS.get(sample.task).compares_with_original
            for image_id in sample.image_ids
        }
        lacking = (compared & self._features.keys()) - self._originals.keys()
        for batch in batches(self._images.readable(lacking).items()):
            self._originals |= self._image_pass.originals(batch)

    def _readable(self, image_ids: set[str], result: ShardResult) -> Iterator[tuple[str, Pixels]]:
        """The images that can be read; why the rest cannot goes into `result`."""
        for image_id, pixels in self._images.read(image_ids):
            if isinstance(pixels, str):
                result.unreadable[image_id] = pixels
            else:
                yield image_id, pixels

    def _coded(
        self, batch: Sequence[tuple[str, Pixels]], result: ShardResult
    ) -> Sequence[CodedImage]:
        """The images whose streams decode; why those of the rest do not goes into `result`.

        A refused stream is no reason to lose the other images: it is logged, listed, and counts
        against `data.max_unreadable`.
        """
        try:
            areas = [self._images.area(image_id) for image_id, _ in batch]
            return self._image_pass.run(batch, areas)
        except BitstreamError as error:
            if len(batch) == 1:
                ((image_id, _),) = batch
                log.exception("the decoder refuses the stream of image %s", image_id)
                result.undecodable[image_id] = str(error)
                return []
        return [image for single in batch for image in self._coded([single], result)]

    def _answers(
        self, task_name: str, samples: Sequence[Sample], result: ShardResult
    ) -> dict[str, str]:
        """The answers by sample id.

        If answering the samples fails, each half of them is tried, in batches of at most half as
        many; why a sample failed even alone goes into `result`.
        """
        if not samples:
            return {}
        return self._answers_in_parts(task_name, samples, self._batch_size, result, trace=True)

    def _answers_in_parts(
        self,
        task_name: str,
        samples: Sequence[Sample],
        batch_size: int,
        result: ShardResult,
        trace: bool,
    ) -> dict[str, str]:
        try:
            return self._ask(TASKS.get(task_name), samples, batch_size)
        except Exception as error:
            # Whatever it was (memory, a prompt that the model cannot take): the rest is answered.
            reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
            message = "task %s: answering %d samples in batches of %d failed (%s)"
            log.warning(message, task_name, len(samples), batch_size, reason, exc_info=trace)
            if len(samples) == 1:
                result.failed[samples[0].sample_id] = reason
                return {}
        half = len(samples) // 2
        answers: dict[str, str] = {}
        for part in (samples[:half], samples[half:]):
            # A batch that did not fit the memory: the next are smaller.
            smaller = max(1, min(batch_size // 2, len(part)))
            answers |= self._answers_in_parts(task_name, part, smaller, result, trace=False)
        return answers

    def _ask(self, task: Task, samples: Sequence[Sample], batch_size: int) -> dict[str, str]:
        """The answers by sample id.

        Of a task by likelihood they are JSON lists of log-likelihoods; of one that compares,
        JSON lists of the answer and that about the original.
        """
        prompts = [sample.prompt for sample in samples]
        features = [[self._features[i] for i in sample.image_ids] for sample in samples]
        if task.by_likelihood:
            assert isinstance(self._answerer, Mllm)
            choices = [json.loads(sample.reference)["choices"] for sample in samples]
            likelihoods = self._answerer.likelihoods(prompts, features, choices, batch_size)
            answers = [json.dumps(values) for values in likelihoods]
        else:
            answers = self._answerer.answer(prompts, features, task.max_new_tokens, batch_size)
        if task.compares_with_original:
            features = [[self._originals[i] for i in sample.image_ids] for sample in samples]
            originals = self._clock.time(
                *("originals", self._answerer.answer, prompts, features),
                *(task.max_new_tokens, batch_size),
            )
            answers = [json.dumps(pair) for pair in zip(answers, originals, strict=True)]
        return {sample.sample_id: answer for sample, answer in zip(samples, answers, strict=True)}

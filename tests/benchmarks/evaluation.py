"""Samples/s of an evaluation against a bare batched `generate` loop over the same inputs.

    python -m tests.benchmarks.evaluation [--images 64] [--episodes 48] [--rounds 3] [--threads 1]
                                          [--device cpu]

The demo's MLLM (`shipped:llava-scenes`) and codec on scenes that it writes. An evaluation is all of
`evaluate_point`: loading the operating point, reading the images, writing and reading streams,
PSNR and surrogate terms against the teacher, answers, scores, files and example pictures. As in a
process that evaluates one operating point after the other, the MLLM and the teacher are loaded
before, and what the teacher says of the images is known; `first evaluation` is one for which it is
not. The bare loops call `generate` with `input_ids` and `pixel_values`, no more: prompts are token
ids, images are preprocessed tensors in memory, and batches are the evaluation's (prompts of a task
and a length, at most `evaluation.batch_size`). They are

    generate            on the decoded images, which lie there
    codec + generate    the same, after writing and reading each image's stream and decoding it

The bare loops run the tower for every prompt, the evaluation once for every image.

Rounds are interleaved; the ratio of a round is that of its evaluation and its loop. The answers
must be the same. By CPU time with one thread they do not depend on what else the machine does; by
the clock they do.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch import Tensor

from search_spaces import OperatingPoint, Space, load_space
from trainables.codecs import Codec, build_codec, load_codec, save_codec, start_codec
from trainables.datasets.tensors import to_tensor
from trainables.datasets.worlds.write import write_world
from trainables.encoders.pretrained import resolve_pretrained
from trainables.evaluation.evaluate import PointFiles, TaskEvaluation, evaluate_point
from trainables.evaluation.loaded_models import load_known_teacher
from trainables.evaluation.test_set import Sample, TestImages, read_samples
from trainables.mllms import Mllm
from trainables.tasks import TASKS, scene_tasks

LMBDA = 0.00018


class Bare:
    """What the loops need, in memory: images by id, token ids by sample."""

    def __init__(self, space: Space, world: Path, codec: Codec, mllm: Mllm) -> None:
        self.samples = read_samples(world, space.tasks)
        images = TestImages([world])
        wanted = [i for sample in self.samples for i in sample.image_ids]
        self.pixels = {
            i: to_tensor([p]).to(mllm.device) for i, p in images.readable(wanted).items()
        }
        self._codec, self._mllm = codec, mllm
        self._size = space.evaluation.batch_size
        side = (mllm.preprocess.size,) * 2
        self._ids = {
            sample.sample_id: mllm.prompts.encode(sample.prompt, [side] * len(sample.image_ids)).ids
            for sample in self.samples
        }

    def decoded(self) -> dict[str, Tensor]:
        """Write, read and decode every image, image by image, then preprocess it."""
        decoded = {}
        for image_id, pixels in self.pixels.items():
            x_hat = self._codec.synthesis(self._codec.decode(self._codec.encode(pixels)))
            decoded[image_id] = self._mllm.preprocess(x_hat)
        return decoded

    @torch.no_grad()
    def generate(self, images: dict[str, Tensor]) -> dict[str, str]:
        """The loop: answers by sample."""
        answers: dict[str, str] = {}
        for batch in self._batches():
            ids = torch.tensor([self._ids[s.sample_id] for s in batch], device=self._mllm.device)
            pixels = torch.cat([images[i] for s in batch for i in s.image_ids])
            generated = self._mllm.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=pixels,
                max_new_tokens=TASKS.get(batch[0].task).max_new_tokens,
                do_sample=False,
            )
            texts = self._mllm.tokenizer.batch_decode(
                generated[:, ids.shape[1] :], skip_special_tokens=True
            )
            answers |= {s.sample_id: text.strip() for s, text in zip(batch, texts, strict=True)}
        return answers

    def _batches(self) -> Iterator[list[Sample]]:
        groups: dict[Any, list[Sample]] = defaultdict(list)
        for sample in self.samples:
            groups[sample.task, len(self._ids[sample.sample_id])].append(sample)
        for group in groups.values():
            for start in range(0, len(group), self._size):
                yield group[start : start + self._size]


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Tensor, Any]:
    """Seconds by the clock and of CPU time, and the result."""
    started, worked = time.perf_counter(), time.process_time()
    result = function(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    spent = (time.perf_counter() - started, time.process_time() - worked)
    return torch.tensor(spent, dtype=torch.float64), result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--episodes", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    space = load_space("demo")
    point = OperatingPoint(space.codecs[0], LMBDA, "reconstruction", 0)
    mllm = Mllm.load(space.mllms[0].model).to(device)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write_world(
            root / "world",
            scene_tasks(),
            size=space.data.size,
            seed=0,
            n_train=0,
            n_val=0,
            n_test=options.images,
            n_episodes=options.episodes,
        )
        spec = space.codecs[0]
        shipped = build_codec(spec)
        start_codec(shipped, resolve_pretrained(str(spec.weights)))
        save_codec(shipped, root / "codec")
        codec = load_codec(spec, root / "codec").to(device)
        world, files = root / "world", PointFiles(root, root / "codec")

        def evaluate(name: str) -> dict[str, str]:
            evaluations = [
                TaskEvaluation(measurement, world, world, root / name / measurement.task)
                for measurement in space.measurements
            ]
            evaluate_point(space, point, evaluations, files, root / f"{name}-work", device)
            rows = [
                row
                for evaluation in evaluations
                for row in pq.read_table(evaluation.out / "samples.parquet").to_pylist()
            ]
            return {row["sample_id"]: row["answer"] for row in rows}

        bare = Bare(space, root / "world", codec, mllm)
        expected = bare.generate(bare.decoded())
        assert evaluate("warm") == expected
        n = len(expected)
        seconds: dict[str, list[Tensor]] = defaultdict(list)
        for number in range(options.rounds):
            decoding, images = timed(bare.decoded)
            generating, generated = timed(bare.generate, images)
            evaluating, evaluated = timed(evaluate, str(number))
            load_known_teacher.cache_clear()
            first, again = timed(evaluate, f"{number}-first")
            assert again == evaluated == generated == expected
            seconds["generate"].append(generating)
            seconds["codec + generate"].append(decoding + generating)
            seconds["first evaluation"].append(first)
            seconds["evaluation"].append(evaluating)
    threads = torch.get_num_threads()
    print(
        f"{n} samples of {len(images)} images, {device}, {threads} threads, {options.rounds} rounds"
    )
    for place, how in enumerate(("by the clock", "by CPU time")):
        for name, rounds in seconds.items():
            spent = [float(each[place]) for each in rounds]
            print(f"{how}: {name:<18} {n / statistics.median(spent):6.1f} samples/s")
        for measured in ("evaluation", "first evaluation"):
            for loop in ("generate", "codec + generate"):
                pairs = zip(seconds[loop], seconds[measured], strict=True)
                ratios = [
                    float(loop_spent[place] / evaluation_spent[place])
                    for loop_spent, evaluation_spent in pairs
                ]
                print(
                    f"{how}: {measured} / {loop}: {statistics.median(ratios):.2f} "
                    f"({min(ratios):.2f} to {max(ratios):.2f})"
                )


if __name__ == "__main__":
    main()

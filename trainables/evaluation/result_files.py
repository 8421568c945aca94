"""The values of an evaluation's samples, their means, and the files that hold them.

samples.parquet   a row per sample and metric, with the image that it asks about
images.parquet    a row per image: its rate and what coding changed
summary.json      per task: means over samples, and the metrics of the set
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trainables.datasets.images.files import write_json
from trainables.evaluation.image_pass import Rate
from trainables.evaluation.shard_results import ShardResult
from trainables.evaluation.test_set import Sample
from trainables.tasks import TASKS
from trainables.tasks.common.set_metrics import set_values

ROUNDING: Final = 1e-9
"""How far a score may be outside its metric's range, as a part of the bound: sums round."""

SAMPLES_SCHEMA = pa.schema(
    [
        ("mllm", pa.string()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("sample_id", pa.string()),
        ("image_id", pa.string()),
        ("value", pa.float64()),
        ("bpp", pa.float64()),
        ("answer", pa.string()),
        ("reference", pa.string()),
        ("prompt", pa.string()),
    ]
)
_NUMBER = pa.float64()
_TYPES = {"str": pa.string(), "int": pa.int64(), "float": _NUMBER, "float | None": _NUMBER}
IMAGES_SCHEMA = pa.schema([(field.name, _TYPES[str(field.type)]) for field in fields(Rate)])
_RATE_MEANS = ("bpp", "bpp_estimated", "psnr", "pooled", "tokens")


@dataclass(frozen=True)
class TaskScores:
    """The answered samples of one task.

    Attributes:
        task: its name.
        samples: N of them.
        answers: of the samples, in their order.
        values: metric -> values (N,) in the metric's unit.
    """

    task: str
    samples: list[Sample]
    answers: list[str]
    values: Mapping[str, NDArray[np.float64]]

    @property
    def primary(self) -> dict[str, float]:
        """The value of the task's primary metric by sample id."""
        values = self.values[TASKS.get(self.task).primary].tolist()
        return {s.sample_id: value for s, value in zip(self.samples, values, strict=True)}


def score_task(task: str, samples: Sequence[Sample], result: ShardResult) -> TaskScores:
    """Score the answers of a task.

    Args:
        task: its name.
        samples: the answered ones, of this and of further tasks.

    Raises:
        ValueError: no answered sample is of this task, or its values are not what its metrics
            declare.
    """
    of_task = [sample for sample in samples if sample.task == task]
    if not of_task:
        raise ValueError(f"no sample of task {task} is left")
    answers = [result.answers[sample.sample_id] for sample in of_task]
    values = TASKS.get(task).score(answers, [sample.reference for sample in of_task])
    _check_values(task, values, len(of_task))
    return TaskScores(task, of_task, answers, values)


def _check_values(task: str, values: Mapping[str, NDArray[np.float64]], count: int) -> None:
    """Refuse what a task's metrics do not declare, before anything is written.

    Raises:
        ValueError: a metric is missing or unknown, or a value is outside its range.
    """
    metrics = {m.name: m for m in TASKS.get(task).metrics if not m.of_set}
    if set(values) != set(metrics):
        raise ValueError(
            f"task {task}: its scores are {', '.join(values)}; it declares {', '.join(metrics)}"
        )
    for name, metric in metrics.items():
        if np.shape(values[name]) != (count,):
            raise ValueError(f"task {task}: {name} has {np.size(values[name])} values, not {count}")
        low = metric.low - ROUNDING * max(1.0, abs(metric.low))
        high = metric.high + ROUNDING * max(1.0, abs(metric.high))
        inside = (values[name] >= low) & (values[name] <= high)
        if not inside.all():
            wrong = values[name][~inside][0]  # NaN is outside any range
            raise ValueError(
                f"task {task}: {name} is {wrong:g}, outside {metric.low:g} to {metric.high:g}"
            )


def write_results(
    out: Path,
    answerer: str,
    scores: TaskScores,
    rates: Mapping[str, Rate],
    image_ids: Sequence[str],
) -> None:
    """Write `samples.parquet`, `images.parquet` and `summary.json` to a directory.

    Args:
        answerer: name of the MLLM or encoder.
        scores: of the task.
        rates: by image id.
        image_ids: the order of the rows of `images.parquet`.
    """
    rows = list(_sample_rows(answerer, scores, rates))
    images = [asdict(rates[image_id]) for image_id in image_ids]
    pq.write_table(pa.Table.from_pylist(rows, SAMPLES_SCHEMA), out / "samples.parquet")
    pq.write_table(pa.Table.from_pylist(images, IMAGES_SCHEMA), out / "images.parquet")
    write_json(out / "summary.json", {scores.task: _summary(scores, rates)}, indent=2)


def _sample_rows(
    answerer: str, scores: TaskScores, rates: Mapping[str, Rate]
) -> Iterator[dict[str, Any]]:
    for metric, values in scores.values.items():
        for sample, answer, value in zip(scores.samples, scores.answers, values, strict=True):
            yield {
                "mllm": answerer,
                "task": scores.task,
                "metric": metric,
                "sample_id": sample.sample_id,
                "image_id": sample.subject,
                "value": float(value),
                "bpp": _mean(rates[i].bpp for i in sample.image_ids),
                "answer": answer,
                "reference": sample.reference,
                "prompt": sample.prompt,
            }


def _summary(scores: TaskScores, rates: Mapping[str, Rate]) -> dict[str, Any]:
    """Means over samples; a sample's rate and errors are means over its images."""
    rates_of_samples = [[rates[i] for i in sample.image_ids] for sample in scores.samples]

    def mean(name: str) -> float | None:
        values = [[getattr(rate, name) for rate in of_images] for of_images in rates_of_samples]
        if any(value is None for of_sample in values for value in of_sample):
            return None
        return _mean(_mean(of_sample) for of_sample in values)

    references = [sample.reference for sample in scores.samples]
    subjects = [sample.subject for sample in scores.samples]
    sets = set_values(TASKS.get(scores.task), scores.answers, references, subjects)
    return {
        "n_samples": len(scores.samples),
        **{name: mean(name) for name in _RATE_MEANS},
        "metrics": {metric: _mean(values.tolist()) for metric, values in scores.values.items()},
        "set_metrics": {name: asdict(value) for name, value in sets.items()},
    }


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))

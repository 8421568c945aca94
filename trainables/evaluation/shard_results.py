"""The results of an evaluation's shards, each kept on disk as soon as the shard is done.

A shard is named by its samples. Whatever shards a data set is cut into, and whichever tasks are
measured, answers that are kept already are not given again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import BaseModel

from trainables.datasets.images.files import parse_json, remove, write_json
from trainables.evaluation.image_pass import Rate
from trainables.evaluation.test_set import Sample

_FILE = "answered.json"
log = logging.getLogger(__name__)


def shard_directory(work: Path, samples: Sequence[Sample]) -> Path:
    """Where the result of a shard is kept.

    Args:
        work: the evaluation's working directory.
    """
    ids = "\n".join(sample.sample_id for sample in samples)
    return work / f"shard-{hashlib.sha256(ids.encode()).hexdigest()[:16]}"


def kept_shards(work: Path) -> list[Path]:
    """The directories of all shards that are kept."""
    return [path for path in _named(work) if path.is_dir() and not path.is_symlink()]


def _named(work: Path) -> list[Path]:
    return sorted(path for path in work.glob("shard-*") if not path.suffix)


def read_kept(work: Path) -> list[ShardResult]:
    """The results of all shards that are kept; what cannot be read is deleted, to be made again."""
    results = []
    for directory in _named(work):
        try:
            results.append(ShardResult.read(directory))
        except ValueError:
            log.warning("%s is damaged and is made again", directory)
            remove(directory)
    return results


@dataclass
class ShardResult:
    """Answers, rates and failures of one shard, or of all shards so far.

    Attributes:
        answers: by sample id.
        rates: by image id.
        unreadable: the reason by image id.
        undecodable: the decoder's error by image id, for images whose streams it refuses.
        failed: the reason by sample id, for samples that could not be answered.
        seconds: that the shards took.
        step_seconds: of these, the seconds of each step, as `Clock` names them.
        coded: number of images that were coded; one that lies in the shards of several processes
            counts for each of them.
    """

    answers: dict[str, str] = field(default_factory=dict)
    rates: dict[str, Rate] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    undecodable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    step_seconds: dict[str, float] = field(default_factory=dict)
    coded: int = 0

    def add(self, shard: ShardResult) -> None:
        """Add the result of a further shard; an image keeps the rate that it had first."""
        self.answers |= shard.answers
        self.rates = {**shard.rates, **self.rates}
        self.unreadable |= shard.unreadable
        self.undecodable |= shard.undecodable
        self.failed |= shard.failed
        self.seconds += shard.seconds
        self.coded += shard.coded
        for step, seconds in shard.step_seconds.items():
            self.step_seconds[step] = self.step_seconds.get(step, 0.0) + seconds

    @property
    def milliseconds_per_image(self) -> dict[str, float]:
        """Of each step, whichever processes took it: per image coded, of answers per image."""
        counts = dict.fromkeys(self.step_seconds, self.coded) | {"answer": len(self.rates)}
        return {
            step: 1e3 * seconds / max(1, counts[step])
            for step, seconds in self.step_seconds.items()
        }

    def of(self, samples: Sequence[Sample]) -> ShardResult:
        """What concerns some samples; with the seconds and the coded images of all shards."""
        sample_ids = {sample.sample_id for sample in samples}
        image_ids = {image_id for sample in samples for image_id in sample.image_ids}
        return ShardResult(
            {i: answer for i, answer in self.answers.items() if i in sample_ids},
            {i: rate for i, rate in self.rates.items() if i in image_ids},
            {i: reason for i, reason in self.unreadable.items() if i in image_ids},
            {i: reason for i, reason in self.undecodable.items() if i in image_ids},
            {i: reason for i, reason in self.failed.items() if i in sample_ids},
            self.seconds,
            self.step_seconds,
            self.coded,
        )

    def lacking(self, samples: Sequence[Sample]) -> list[Sample]:
        """Those of some samples that have no answer, and no reason to have none."""
        lost_images = self.unreadable.keys() | self.undecodable.keys()
        settled = self.answers.keys() | self.failed.keys()
        return [
            sample
            for sample in samples
            if sample.sample_id not in settled and lost_images.isdisjoint(sample.image_ids)
        ]

    def write(self, directory: Path) -> None:
        """Write the result to a directory, which appears as a whole or not at all.

        What has its place lacks answers: it was another's, or was damaged.
        """
        scratch = directory.with_name(f"{directory.name}.part")
        remove(scratch)
        scratch.mkdir(parents=True)
        write_json(
            scratch / _FILE,
            {
                "answers": self.answers,
                "rates": [asdict(rate) for rate in self.rates.values()],
                "unreadable": self.unreadable,
                "undecodable": self.undecodable,
                "failed": self.failed,
                "seconds": self.seconds,
                "step_seconds": self.step_seconds,
                "coded": self.coded,
            },
            indent=2,
        )
        with (scratch / _FILE).open("rb") as file:  # a loss of power leaves it whole, or not there
            os.fsync(file.fileno())
        remove(directory)
        scratch.rename(directory)

    @classmethod
    def read(cls, directory: Path) -> ShardResult:
        """Read a result that `write` has written.

        Raises:
            ValueError: it is not there, or it is damaged.
        """
        if not (directory / _FILE).is_file():
            raise ValueError(f"it has no file {_FILE}")
        stored = _Stored.model_validate(parse_json((directory / _FILE).read_bytes()))
        return cls(**{**dict(stored), "rates": {rate.image_id: rate for rate in stored.rates}})


class _Stored(BaseModel, extra="forbid", allow_inf_nan=False):
    """What a file of a shard's result holds; it may lie where others write."""

    answers: dict[str, str]
    rates: list[Rate]
    unreadable: dict[str, str]
    undecodable: dict[str, str]
    failed: dict[str, str]
    seconds: float
    step_seconds: dict[str, float]
    coded: int

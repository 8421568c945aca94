"""The results of an evaluation's shards, each kept on disk as soon as the shard is done."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from trainables.datasets.images.files import write_json
from trainables.evaluation.image_pass import Rate

_FILE = "answered.json"


@dataclass
class ShardResult:
    """Answers, rates and failures of one shard, or of all shards so far.

    Attributes:
        answers: by sample id.
        rates: by image id.
        unreadable: the reason by image id.
        undecodable: the decoder's error by image id, for images whose streams it refuses.
        failed: the reason by sample id, for samples that could not be answered.
    """

    answers: dict[str, str] = field(default_factory=dict)
    rates: dict[str, Rate] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    undecodable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, shard: ShardResult) -> None:
        """Add the result of a further shard; an image keeps the rate that it had first."""
        self.answers |= shard.answers
        self.rates = {**shard.rates, **self.rates}
        self.unreadable |= shard.unreadable
        self.undecodable |= shard.undecodable
        self.failed |= shard.failed

    def write(self, directory: Path) -> None:
        """Write the result to a new directory, which appears as a whole or not at all."""
        scratch = directory.with_name(f"{directory.name}.part")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        write_json(
            scratch / _FILE,
            {
                "answers": self.answers,
                "rates": [asdict(rate) for rate in self.rates.values()],
                "unreadable": self.unreadable,
                "undecodable": self.undecodable,
                "failed": self.failed,
            },
            indent=2,
        )
        scratch.replace(directory)

    @classmethod
    def read(cls, directory: Path) -> ShardResult:
        """Read a result that `write` has written."""
        content = json.loads((directory / _FILE).read_text(encoding="utf-8"))
        rates = {rate["image_id"]: Rate(**rate) for rate in content.pop("rates")}
        return cls(rates=rates, **content)

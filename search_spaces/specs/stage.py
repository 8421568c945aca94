"""A stage: one content-addressed output, and how its key is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces.specs.benchmark import BenchmarkSpec
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint

# Raise a stage's version whenever its code changes what it writes.
VERSIONS = {
    "train_images": 1,
    "test_images": 2,
    "episodes": 1,
    "samples": 1,
    "features": 2,
    "codec": 2,
    "latents": 2,
    "point": 4,
    "evaluation": 6,
    "text": 1,
    "benchmark": 2,
    "neck": 3,
}

Reads = Mapping[str, "Stage | tuple[Stage, ...]"]
"""The stages that another one reads, by the name that its code gives them, in the key's order."""


@dataclass(frozen=True)
class Subject:
    """What a stage is made for: the arguments of the code that makes it.

    Attributes:
        variant: of the space, whose settings it is made with.
        tasks: whose samples are made.
    """

    variant: str = ""
    tasks: tuple[str, ...] = ()
    codec: CodecSpec | None = None
    lmbda: float | None = None
    point: OperatingPoint | None = None
    benchmark: BenchmarkSpec | None = None


@dataclass(frozen=True)
class Stage:
    """One content-addressed output.

    Attributes:
        kind: what makes it; a key of `VERSIONS`.
        key: 16 hex digits.
        spec: its own settings, JSON data.
        reads: the stages it reads.
        subject: what it is made for; no part of its key.
    """

    kind: str
    key: str
    spec: Mapping[str, Any] = field(compare=False, hash=False)
    reads: Reads = field(compare=False, hash=False, default_factory=dict)
    subject: Subject = field(compare=False, hash=False, default=Subject())

    @property
    def path(self) -> str:
        """Where its output lies under the storage: `stages/<kind>/<key>`."""
        return f"stages/{self.kind}/{self.key}"

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """All stages it reads, in the key's order."""
        return tuple(
            stage
            for read in self.reads.values()
            for stage in (read if isinstance(read, tuple) else (read,))
        )


def make_stage(kind: str, spec: Mapping[str, Any], reads: Reads, subject: Subject) -> Stage:
    """A stage with the key of its content.

    Args:
        kind: a key of `VERSIONS`.
        spec: JSON data without NaN.
    """
    stage = Stage(kind, "", dict(spec), dict(reads), subject)
    text = json.dumps(
        {
            "kind": kind,
            "version": VERSIONS[kind],
            "spec": spec,
            "inputs": [read.key for read in stage.inputs],
        },
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Stage(kind, key, stage.spec, stage.reads, subject)

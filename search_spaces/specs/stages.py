"""Stages of a sweep, their inputs and their content-addressed keys.

    world --+--> features (teacher, per split) -------+
            +--> text (class names) ------------------+
            +--> codec (per codec x lambda) --+-------+--> point (per scenario; may start from
            |                                 |       |           another point)
            |                                 +-> latents
    point + MLLM + (world or benchmark) --> evaluation
    benchmark: a published one's test images and samples, in the form of a world

This module makes the stages that scenarios read. Each scenario decides what its points read and
what enters their keys (`search_spaces.scenarios.contract`).

A variant of a space is an ordinary space (`Space.of`): stages that it does not touch have the same
keys in all variants, and so are made once.

A stage's key is a hash of its own spec, the keys of its inputs and the version of its code, so a
finished stage is found again and a changed setting re-runs exactly what depends on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces.facts.tasks import plugin_identities
from search_spaces.specs.benchmark import BenchmarkSpec
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from search_spaces.specs.space_fields import Measurement

# Raise a stage's version whenever its code changes what it writes.
VERSIONS = {
    "world": 2,
    "features": 2,
    "codec": 2,
    "latents": 2,
    "point": 2,
    "evaluation": 3,
    "text": 1,
    "benchmark": 1,
    "neck": 1,
}

Reads = Mapping[str, "Stage | tuple[Stage, ...]"]
"""The stages that another one reads, by the name that its code gives them, in the key's order."""


@dataclass(frozen=True)
class Subject:
    """What a stage is made for: the arguments of the code that makes it.

    Attributes:
        variant: of the space, whose settings it is made with.
    """

    variant: str = ""
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


class Stages:
    """The stages of one space that do not depend on a scenario.

    Args:
        space: what is swept.
        fingerprints: for each model or weights name in the space, for the data set's `uri` and for
            each benchmark's name, a checksum of what it resolves to; for each standard's codec the
            version of its library. A name that is absent is its own fingerprint.
        variant: this space's name as a variant; empty if it is not one.
    """

    def __init__(
        self, space: Space, fingerprints: Mapping[str, str] | None = None, variant: str = ""
    ) -> None:
        self.space = space
        self.variant = variant
        self._fingerprints = dict(fingerprints or {})
        self._of: dict[str, Stages] = {}

    def of(self, variant: str) -> Stages:
        """The stages of one variant of the space, named as `Space.of` takes it."""
        if not self.space.variants:
            return self
        if variant not in self._of:
            self._of[variant] = Stages(self.space.of(variant), self._fingerprints, variant)
        return self._of[variant]

    def fingerprint(self, name: str | None) -> str | None:
        """The checksum of a model, file or library; the name itself where none is known."""
        return None if name is None else self._fingerprints.get(name, name)

    def world(self) -> Stage:
        """Images of all splits and the tasks over them."""
        data = self.space.data
        spec = data.identity
        if added := plugin_identities(self.space.tasks):
            spec |= {"tasks": added}
        if data.uri is not None:
            spec |= {"uri": None, "names": None, "listing": self.fingerprint(data.uri)}
        return make_stage("world", spec, {}, Subject(self.variant))

    def benchmark(self, benchmark: BenchmarkSpec) -> Stage:
        """A published benchmark's images, at the size of the space's own, and its samples."""
        files = self.fingerprint(f"benchmark {benchmark.label}")
        spec = {**benchmark.identity, "size": self.space.data.size, "files": files}
        return make_stage("benchmark", spec, {}, Subject(self.variant, benchmark=benchmark))

    def dataset(self, benchmark: BenchmarkSpec | None) -> Stage:
        """What is measured on: a benchmark, or the space's own data (None)."""
        return self.world() if benchmark is None else self.benchmark(benchmark)

    def features(self) -> Stage:
        """The teacher's features of the training and validation images that the loss uses."""
        space, surrogate = self.space, self.space.surrogate
        spec: dict[str, Any] = {
            "teacher": self.fingerprint(space.teacher.model),
            "shard_size": space.data.shard_size,
        }
        if surrogate.pooled:
            spec["pooled"] = {"double_norm": surrogate.double_norm}
        if surrogate.tokens:
            spec["tokens"] = {"layer": surrogate.token_layer}
        return make_stage("features", spec, {"world": self.world()}, Subject(self.variant))

    def text(self, benchmark: BenchmarkSpec | None = None) -> Stage:
        """The text embeddings of class names, from the teacher's text tower.

        Args:
            benchmark: whose classes; None for those of the space's own data.
        """
        surrogate = self.space.surrogate
        spec = {
            "teacher": self.fingerprint(self.space.teacher.model),
            "templates": self.fingerprint(surrogate.templates),
            "classes": self.fingerprint(surrogate.classes),
        }
        reads = {"world": self.dataset(benchmark)}
        return make_stage("text", spec, reads, Subject(self.variant, benchmark=benchmark))

    def surrogate_targets(self) -> dict[str, Stage]:
        """The teacher's features and, where the loss uses them, the text embeddings of classes."""
        texts = {"text": self.text()} if self.space.trains_on_classes else {}
        return {"features": self.features(), **texts}

    def codec(self, codec: CodecSpec, lmbda: float) -> Stage:
        """A base codec, trained with the rate-distortion loss or taken as it is.

        A variable-rate codec has one for all its lambdas.
        """
        codec = codec.at(lmbda)
        subject = Subject(self.variant, codec, lmbda)
        spec = codec.identity
        assert codec.weights is None or isinstance(codec.weights, str)
        spec["weights"] = self.fingerprint(codec.weights)
        if not codec.is_variable_rate:
            spec["lmbda"] = lmbda
        if codec.train.steps:
            return make_stage("codec", spec, {"world": self.world()}, subject)
        return make_stage("codec", spec, {}, subject)

    def latents(self, codec: CodecSpec, lmbda: float) -> Stage:
        """A frozen base codec's latents of the training and validation images."""
        codec = codec.at(lmbda)
        spec = {"shard_size": self.space.data.shard_size, **rate_identity(codec)}
        base = self.codec(codec, lmbda)
        # A codec that was trained here depends on the images already.
        world = {} if base.reads else {"world": self.world()}
        reads = {"codec": base, **world}
        return make_stage("latents", spec, reads, Subject(self.variant, codec, lmbda))

    def encoder_identity(self) -> dict[str, Any]:
        """The settings that decide how an encoder is entered, for a key."""
        teacher = self.space.teacher
        return {
            "teacher": {"model": self.fingerprint(teacher.model), "block": teacher.block},
            "neck": self.space.neck.model_dump(mode="json"),
        }

    def surrogate_identity(self) -> dict[str, Any]:
        """The surrogate loss, for a key; without its texts, which are a stage of their own."""
        return self.space.surrogate.model_dump(mode="json", exclude={"templates", "classes"})

    def evaluation(self, point: Stage, measurement: Measurement) -> Stage:
        """An operating point measured with one answerer on one data set.

        Args:
            point: the operating point's stage.
            measurement: one of this space's.
        """
        spec = {
            "mllm": self.fingerprint(measurement.answerer),
            "tasks": list(measurement.tasks),
            "evaluation": self.space.evaluation.model_dump(mode="json", exclude={"shard_size"}),
            "teacher": self.fingerprint(self.space.teacher.model),
        }
        reads = {"point": point, "dataset": self.dataset(measurement.benchmark)}
        if measurement.by_encoder:
            reads["text"] = self.text(measurement.benchmark)
        return make_stage("evaluation", spec, reads, point.subject)


def rate_identity(codec: CodecSpec) -> dict[str, int]:
    """The rate index, which distinguishes the points of one variable-rate base codec."""
    return {"rate": codec.rate} if codec.is_variable_rate else {}

"""The stages of a sweep, their inputs and their content-addressed keys.

    world --+--> features (teacher, per split) ----------------------+
            +--> text (class names, where the loss or a task needs) -+
            |                                                        |
            +--> codec (per codec x lambda) --> latents (d1's) ------+--> point d1 --> point d2, d3,
            |       |                                                |      end_to_end_oracle,
            |       |                                                |      transfer, transfer_tuned
            |       |                                                +--> point post_processing
            |       |                           latents of all rates +--> neck --> point shared_neck
            |       +------------------------------------------------------> point reconstruction
            +--------------------------------------------------------------> point feature_coding
    point + MLLM + (world or benchmark) --> evaluation
    benchmark: a published one's test images and samples, as a world has them

A variant of a space is an ordinary space (`Space.of`): stages that it does not touch have the same
keys in all variants, and so are made once.

A stage's key is a hash of its own spec, the keys of its inputs and the version of its code, so a
finished stage is found again and a changed setting re-runs exactly what depends on it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces.facts.compressai_zoo import is_vbr
from search_spaces.facts.tasks import plugin_identities
from search_spaces.specs.benchmark import BenchmarkSpec
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Measurement, Space

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


@dataclass(frozen=True)
class Stage:
    """One content-addressed piece of work; `spec` is JSON data, `inputs` are stages it reads."""

    kind: str
    key: str
    spec: Mapping[str, Any] = field(compare=False, hash=False)
    inputs: tuple[Stage, ...] = ()

    @property
    def path(self) -> str:
        """Where its output stands under the storage: `stages/<kind>/<key>`."""
        return f"stages/{self.kind}/{self.key}"


def _stage(kind: str, spec: Mapping[str, Any], *inputs: Stage) -> Stage:
    text = json.dumps(
        {
            "kind": kind,
            "version": VERSIONS[kind],
            "spec": spec,
            "inputs": [stage.key for stage in inputs],
        },
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return Stage(kind, hashlib.sha256(text.encode()).hexdigest()[:16], dict(spec), inputs)


class Stages:
    """The stages of one space. Where it has variants, a point's are those of its variant.

    Args:
        space: what is swept.
        fingerprints: for each model or weights name in the space, for the data set's `uri` and for
            each benchmark's name, a checksum of what it resolves to; for each classical format the
            version of its library. A name that is absent stands for itself.
    """

    def __init__(self, space: Space, fingerprints: Mapping[str, str] | None = None) -> None:
        self.space = space
        self._fingerprints = dict(fingerprints or {})
        self._of: dict[str, Stages] = {}

    def of(self, variant: str) -> Stages:
        """The stages of one variant of the space; see `Space.of`."""
        if not self.space.variants:
            return self
        if variant not in self._of:
            self._of[variant] = Stages(self.space.of(variant), self._fingerprints)
        return self._of[variant]

    def _weights(self, name: str | None) -> str | None:
        return None if name is None else self._fingerprints.get(name, name)

    def world(self) -> Stage:
        """Images of all splits and the tasks over them."""
        data = self.space.data
        spec = data.identity
        if added := plugin_identities(self.space.tasks):
            spec |= {"tasks": added}
        if data.uri is not None:
            spec |= {"uri": None, "names": None, "listing": self._weights(data.uri)}
        return _stage("world", spec)

    def benchmark(self, benchmark: BenchmarkSpec) -> Stage:
        """A published benchmark's images, at the size of the space's own, and its samples."""
        files = self._weights(f"benchmark {benchmark.label}")
        spec = {**benchmark.identity, "size": self.space.data.size, "files": files}
        return _stage("benchmark", spec)

    def features(self) -> Stage:
        """What the loss uses of the teacher: features of the training and validation images."""
        space, surrogate = self.space, self.space.surrogate
        spec: dict[str, Any] = {
            "teacher": self._weights(space.teacher.model),
            "shard_size": space.data.shard_size,
        }
        if surrogate.pooled:
            spec["pooled"] = {"double_norm": surrogate.double_norm}
        if surrogate.tokens:
            spec["tokens"] = {"layer": surrogate.token_layer}
        return _stage("features", spec, self.world())

    def text(self, benchmark: BenchmarkSpec | None = None) -> Stage:
        """The text embeddings of the classes' names, from the teacher's text tower.

        Args:
            benchmark: whose classes; None for those of the space's own data.
        """
        surrogate = self.space.surrogate
        spec = {
            "teacher": self._weights(self.space.teacher.model),
            "templates": self._weights(surrogate.templates),
            "classes": self._weights(surrogate.classes),
        }
        return _stage("text", spec, self.dataset(benchmark))

    def codec(self, codec: CodecSpec, lmbda: float) -> Stage:
        """A base codec, trained with the rate-distortion loss or taken as it is.

        A variable-rate codec has one for all its lambdas.
        """
        codec = codec.at(lmbda)
        unused = {"lambdas", "name", "qualities", "released"}
        unused |= set() if codec.arch == "tic" else {"depths"}
        unused |= set() if codec.rate_lambdas else {"rate_lambdas"}
        spec = codec.model_dump(mode="json", exclude=unused)
        assert codec.weights is None or isinstance(codec.weights, str)
        spec["weights"] = self._weights(codec.weights)
        if not is_vbr(codec.arch):
            spec["lmbda"] = lmbda
        if codec.train.steps:
            return _stage("codec", spec, self.world())
        spec["train"] = {"steps": 0}
        return _stage("codec", spec)

    def latents(self, codec: CodecSpec, lmbda: float) -> Stage:
        """A frozen base codec's latents of the training and validation images."""
        spec = {"shard_size": self.space.data.shard_size, **_rate(codec.at(lmbda))}
        return _stage("latents", spec, self.codec(codec, lmbda))

    def point(self, point: OperatingPoint) -> Stage:
        """An operating point; its key is the `point_key` of the points file."""
        if self.space.variants:
            return self.of(point.variant).point(point)
        space = self.space
        if point.classical is not None:
            form = point.classical.format
            how = {"format": form, "quality": point.quality, "library": self._weights(form)}
            return _stage("point", {"scenario": "classical", **how})
        own: dict[str, Any] = {"scenario": point.scenario, "seed": point.seed}
        if point.scenario == "feature_coding":
            own |= {"lmbda": point.lmbda, **self._encoder()}
            own["train"] = space.feature_coding.model_dump(mode="json", exclude={"lambdas"})
            return _stage("point", own, self.world())
        if point.codec is None or point.lmbda is None:
            return _stage("point", own, self.world())
        codec, rate = self.codec(point.codec, point.lmbda), _rate(point.codec)
        if point.scenario == "reconstruction":
            return _stage("point", {"scenario": "reconstruction", **rate}, codec)
        if point.scenario == "shared_neck":
            return _stage("point", {"scenario": "shared_neck", **rate}, codec, self.neck(point))
        if point.scenario == "transfer":
            return _stage("point", {"scenario": "transfer", **rate}, codec, self.start(point))
        own |= {**rate, **self._encoder()}
        own["surrogate"] = self._surrogate()
        training = space.training(point.scenario)
        assert training is not None
        own["train"] = training.model_dump(mode="json", exclude={"source"})
        if point.scenario == "post_processing":
            del own["teacher"]["block"]
            if space.post_processing.channels != "neck":
                del own["neck"]
            return _stage("point", own, codec, self.features(), *self._class_texts())
        if (file := point.released) is not None:
            used = {name: own[name] for name in ("scenario", "teacher", "surrogate", "neck")}
            return _stage("point", {**used, **rate, "released": self._weights(file)}, codec)
        if point.scenario == "d1":
            latents = self.latents(point.codec, point.lmbda)
            return _stage("point", own, codec, latents, self.features(), *self._class_texts())
        start = self.start(point)
        if point.scenario == "transfer_tuned":
            read = (self.latents(point.codec, point.lmbda), self.features(), *self._class_texts())
            return _stage("point", own, codec, *read, start)
        if point.scenario == "end_to_end_oracle":
            own |= {"mllm": self._weights(space.mllms[0]), "tasks": list(space.answered)}
            latents = self.latents(point.codec, point.lmbda)
            return _stage("point", own, codec, latents, start, self.world())
        own["lmbda"] = point.lmbda
        return _stage("point", own, codec, self.features(), start)

    def _encoder(self) -> dict[str, Any]:
        """How the encoder is entered, and with what."""
        teacher = self.space.teacher
        return {
            "teacher": {"model": self._weights(teacher.model), "block": teacher.block},
            "neck": self.space.neck.model_dump(mode="json"),
        }

    def _surrogate(self) -> dict[str, Any]:
        """The loss without its texts: they are the stage `text`, which not every loss reads."""
        return self.space.surrogate.model_dump(mode="json", exclude={"templates", "classes"})

    def start(self, point: OperatingPoint) -> Stage:
        """The d1 whose neck a point starts from or takes."""
        return self.point(start_of(self.space, point))

    def neck(self, point: OperatingPoint) -> Stage:
        """The one neck for all rates of a variable-rate codec, trained as d1's."""
        if self.space.variants:
            return self.of(point.variant).neck(point)
        assert point.codec is not None
        whole = self.space.codec(point.codec.label)
        own = {
            "seed": point.seed,
            **self._encoder(),
            "surrogate": self._surrogate(),
            "train": self.space.d1.model_dump(mode="json"),
        }
        rates = [self.latents(whole, lmbda) for lmbda in whole.lambdas]
        read = (*rates, self.features(), *self._class_texts())
        return _stage("neck", own, self.codec(whole, whole.lambdas[0]), *read)

    def _class_texts(self) -> tuple[Stage, ...]:
        return (self.text(),) if self.space.trains_on_classes else ()

    def dataset(self, benchmark: BenchmarkSpec | None) -> Stage:
        """What is measured on: a benchmark, or the space's own data (None)."""
        return self.world() if benchmark is None else self.benchmark(benchmark)

    def evaluation(self, point: OperatingPoint, measurement: Measurement) -> Stage:
        """An operating point measured with one answerer on one data set: the point, the data set,
        and the text embeddings of its classes where the encoder answers."""
        if self.space.variants:
            return self.of(point.variant).evaluation(point, measurement)
        how = self.space.evaluation.model_dump(mode="json", exclude={"shard_size"})
        spec = {
            "mllm": self._weights(measurement.answerer),
            "tasks": list(measurement.tasks),
            "evaluation": how,
            "teacher": self._weights(self.space.teacher.model),
        }
        inputs = [self.point(point), self.dataset(measurement.benchmark)]
        if measurement.by_encoder:
            inputs.append(self.text(measurement.benchmark))
        return _stage("evaluation", spec, *inputs)


def start_of(space: Space, point: OperatingPoint) -> OperatingPoint:
    """The d1 whose neck a point starts from or takes: of its own codec and rate, but for transfer
    of the source codec's rate whose lambda is nearest."""
    assert point.codec is not None
    assert point.lmbda is not None
    codec, lmbda = point.codec, point.lmbda
    if point.scenario in ("transfer", "transfer_tuned"):
        wanted = lmbda
        lmbda = min(space.source.lambdas, key=lambda one: abs(math.log(one / wanted)))
        codec = space.source.at(lmbda)
    return OperatingPoint(codec, lmbda, "d1", point.seed, point.variant)


def _rate(codec: CodecSpec) -> dict[str, int]:
    """What tells the points of a variable-rate codec apart, which share its base codec."""
    return {"rate": codec.rate} if is_vbr(codec.arch) else {}

"""What has to be done for a space, and in which order it may be.

    Stages (search_spaces) + what the storage already holds  -->  jobs with their needs and costs

A job makes one stage; an operating point's job also makes its evaluations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.storage.provenance import benchmark_images, image_counts
from orchestrator.storage.store import Store
from search_spaces import (
    BenchmarkSpec,
    Measurement,
    OperatingPoint,
    Space,
    Stage,
    Stages,
    operating_points,
    variants_of,
)
from search_spaces.facts.compressai_zoo import is_vbr
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.stages import start_of

WAVES = (
    "base codecs, features, latents",
    "d1 and what else needs no neck",
    "d2, d3 and what else starts from a neck",
)
DATA = ("images", "features", "text", "latents")
"""The kinds of jobs that run as passes of Ray Data; all others are trials of Ray Tune."""

# Rough seconds on one core per image at 128 x 128: they decide what starts first and how time left
# is guessed, nothing else.
_TRAIN_COST = {
    "codec": 0.02,
    "d1": 0.003,
    "d2": 0.03,
    "d3": 0.025,
    "post_processing": 0.02,
    "feature_coding": 0.006,
    "end_to_end_oracle": 0.01,
    "transfer_tuned": 0.003,
}
_EVALUATION_COST = 0.02
_WORLD_COST = 0.003
_IMAGE_COST = 0.02
_FEATURE_COST = 0.005


@dataclass(frozen=True)
class Job:
    """One thing to run.

    Attributes:
        key: of the stage it makes; also names its log and its work in progress.
        needs: keys of the jobs that must be done first.
        inputs: the stages it reads, by the name that the training functions give them.
        rates: the latents of each rate, which a neck for all rates reads.
        evaluations: of an operating point, those that are still to be made, with their stages.
        cost: rough seconds on one core.
        wave: 0, 1, 2 as in `WAVES`.
        variant: whose settings it runs under, as in `OperatingPoint`.
    """

    key: str
    kind: str
    label: str
    stage: Stage
    wave: int
    cost: float
    needs: tuple[str, ...] = ()
    inputs: Mapping[str, Stage] = field(default_factory=dict)
    rates: tuple[Stage, ...] = ()
    codec: CodecSpec | None = None
    lmbda: float | None = None
    point: OperatingPoint | None = None
    evaluations: tuple[tuple[Measurement, Stage], ...] = ()
    variant: str = ""
    benchmark: BenchmarkSpec | None = None


class Plan:
    """The jobs of a space that are not done yet.

    Args:
        space: what is swept.
        points: the operating points that are wanted.
        fingerprints: see `Stages`.
        store: the storage; None plans as if nothing were there.
    """

    def __init__(
        self,
        space: Space,
        points: Iterable[OperatingPoint],
        fingerprints: Mapping[str, str],
        store: Store | None,
    ) -> None:
        self.space = space
        self.points = tuple(points)
        self.stages = Stages(space, fingerprints)
        self._variants = variants_of(self.stages)
        self.jobs: dict[str, Job] = {}
        self.done: dict[str, Stage] = {}
        self._store = store
        self._images = image_counts(space.data)
        for benchmark in space.benchmarks:
            self._benchmark(benchmark)
        for point in self.points:
            self._point(point, evaluate=True)

    def key(self, point: OperatingPoint) -> str:
        """The `point_key` of an operating point."""
        return self.stages.point(point).key

    def evaluations(self, point: OperatingPoint) -> tuple[tuple[Measurement, Stage], ...]:
        """What a point is measured on and with whom, and the stages of that."""
        all_ = self.stages.of(point.variant).space.measurements
        return tuple((one, self.stages.evaluation(point, one)) for one in all_)

    def is_complete(self, point: OperatingPoint) -> bool:
        """Whether everything that a point's row needs is in the storage."""
        stages = [self.stages.point(point), *(s for _, s in self.evaluations(point))]
        return all(self._has(stage) for stage in stages)

    def complete_points(self) -> tuple[OperatingPoint, ...]:
        """Those of the whole space that the storage holds, wanted this time or not."""
        return tuple(p for p in operating_points(self.space) if self.is_complete(p))

    def _has(self, stage: Stage) -> bool:
        if self._store is None or not self._store.has(stage.path):
            return False
        self.done[stage.key] = stage
        return True

    def _add(self, job: Job) -> None:
        self.jobs[job.key] = job

    def _needs(self, *stages: Stage) -> tuple[str, ...]:
        return tuple(stage.key for stage in stages if stage.key in self.jobs)

    def _world(self) -> Stage:
        stage, data = self.stages.world(), self.space.data
        if stage.key not in self.jobs and not self._has(stage):
            images = sum(self._images.values())
            if data.kind == "scenes":
                cost = _WORLD_COST * (images + 6 * data.episodes)
                self._add(Job(stage.key, "world", "world", stage, 0, cost))
            else:
                cost, label = _IMAGE_COST * images, f"images of {data.label}"
                self._add(Job(stage.key, "images", label, stage, 0, cost))
        return stage

    def _benchmark(self, benchmark: BenchmarkSpec) -> Stage:
        stage = self.stages.benchmark(benchmark)
        if stage.key not in self.jobs and not self._has(stage):
            cost = _IMAGE_COST * benchmark_images(benchmark)
            label = f"benchmark {benchmark.label}"
            self._add(Job(stage.key, "benchmark", label, stage, 0, cost, benchmark=benchmark))
        return stage

    def _dataset(self, benchmark: BenchmarkSpec | None) -> Stage:
        return self._world() if benchmark is None else self._benchmark(benchmark)

    def _trained_on(self) -> int:
        return self._images["train"] + self._images["val"]

    def _features(self, variant: str) -> Stage:
        stage = self.stages.of(variant).features()
        if stage.key not in self.jobs and not self._has(stage):
            world = self._world()
            cost = _FEATURE_COST * self._trained_on()
            self._add(
                Job(
                    stage.key,
                    "features",
                    self._label("teacher features", stage),
                    stage,
                    0,
                    cost,
                    self._needs(world),
                    {"world": world},
                    variant=variant,
                )
            )
        return stage

    def _text(self, variant: str, benchmark: BenchmarkSpec | None = None) -> Stage:
        stage = self.stages.of(variant).text(benchmark)
        if stage.key not in self.jobs and not self._has(stage):
            data = self._dataset(benchmark)
            of = "the classes" if benchmark is None else f"the classes of {benchmark.label}"
            self._add(
                Job(
                    stage.key,
                    "text",
                    self._label(f"text embeddings of {of}", stage),
                    stage,
                    0,
                    1.0,
                    self._needs(data),
                    {"world": data},
                    variant=variant,
                )
            )
        return stage

    def _codec(self, codec: CodecSpec, lmbda: float, variant: str) -> Stage:
        stage = self.stages.of(variant).codec(codec, lmbda)
        if stage.key not in self.jobs and not self._has(stage):
            world = self._world()
            self._add(
                Job(
                    stage.key,
                    "codec",
                    self._label(_codec_label(codec, lmbda), stage),
                    stage,
                    0,
                    _TRAIN_COST["codec"] * codec.train.steps * codec.train.batch_size,
                    self._needs(world),
                    {"world": world},
                    codec=codec,
                    lmbda=lmbda,
                    variant=variant,
                )
            )
        return stage

    def _latents(self, codec: CodecSpec, lmbda: float, variant: str) -> Stage:
        codec = codec.at(lmbda)
        stage = self.stages.of(variant).latents(codec, lmbda)
        if stage.key not in self.jobs and not self._has(stage):
            inputs = {"world": self._world(), "codec": self._codec(codec, lmbda, variant)}
            self._add(
                Job(
                    stage.key,
                    "latents",
                    self._label(f"{codec.label} latents lambda={lmbda:g}", stage),
                    stage,
                    0,
                    _FEATURE_COST * self._trained_on(),
                    self._needs(*inputs.values()),
                    inputs,
                    codec=codec,
                    lmbda=lmbda,
                    variant=variant,
                )
            )
        return stage

    def _label(self, text: str, stage: Stage) -> str:
        """A job's label, with the variants it is for where not all share it."""
        variant = self._variants.get(stage.key, "")
        return f"{text} ({variant})" if variant else text

    def _point(self, point: OperatingPoint, evaluate: bool) -> Stage:
        stage = self.stages.point(point)
        known = self.jobs.get(stage.key)
        trained = known is None and self._has(stage)
        left = tuple(e for e in self.evaluations(point) if evaluate and not self._has(e[1]))
        if trained and not left:
            return stage
        if known is not None and (known.evaluations or not left):
            return stage
        inputs: dict[str, Stage] = {"world": self._world()}
        space = self.stages.of(point.variant).space
        read: list[Stage] = []
        for measurement, _ in left:
            read.append(self._dataset(measurement.benchmark))
            if measurement.by_encoder:
                read.append(self._text(point.variant, measurement.benchmark))
        if point.codec is not None and point.lmbda is not None:
            inputs["codec"] = self._codec(point.codec, point.lmbda, point.variant)
        rank = 1
        if not trained and point.released is None:
            inputs |= self._read_in_training(point)
            rank = 2 if "neck" in inputs else 1
        cost = sum((self._evaluation_cost(one.benchmark) for one, _ in left), 1.0)
        training = space.training(point.scenario)
        if training is not None and not trained and point.released is None:
            cost += _TRAIN_COST[point.scenario] * training.steps * training.batch_size
        self._add(
            Job(
                stage.key,
                "point",
                point.label,
                stage,
                rank,
                cost,
                tuple(dict.fromkeys(self._needs(*inputs.values(), *read))),
                inputs,
                codec=point.codec,
                lmbda=point.lmbda,
                point=point,
                evaluations=left,
                variant=point.variant,
            )
        )
        return stage

    def _read_in_training(self, point: OperatingPoint) -> dict[str, Stage]:
        """What a point reads besides the world and its codec, by the name in `Inputs`."""
        scenario, variant = point.scenario, point.variant
        if scenario in ("uncompressed", "classical", "reconstruction", "feature_coding"):
            return {}
        assert point.codec is not None
        assert point.lmbda is not None
        if scenario == "shared_neck":
            return {"neck": self._neck(point)}
        if scenario == "transfer":
            return {"neck": self._start(point)}
        inputs: dict[str, Stage] = {}
        if scenario != "end_to_end_oracle":
            inputs["features"] = self._features(variant)
        if scenario in ("d1", "transfer_tuned", "end_to_end_oracle"):
            inputs["latents"] = self._latents(point.codec, point.lmbda, variant)
        trains_on_classes = self.stages.of(variant).space.trains_on_classes
        if trains_on_classes and scenario in ("d1", "post_processing", "transfer_tuned"):
            inputs["text"] = self._text(variant)
        if scenario not in ("d1", "post_processing"):
            inputs["neck"] = self._start(point)
        return inputs

    def _neck(self, point: OperatingPoint) -> Stage:
        """One neck for all rates of the point's codec."""
        variant, own = point.variant, self.stages.of(point.variant)
        assert point.codec is not None
        stage, space = own.neck(point), own.space
        if stage.key in self.jobs or self._has(stage):
            return stage
        whole = space.codec(point.codec.label)
        inputs = {"world": self._world(), "codec": self._codec(whole, whole.lambdas[0], variant)}
        inputs["features"] = self._features(variant)
        if space.trains_on_classes:
            inputs["text"] = self._text(variant)
        rates = tuple(self._latents(whole, lmbda, variant) for lmbda in whole.lambdas)
        self._add(
            Job(
                stage.key,
                "neck",
                self._label(f"{whole.label} neck for all rates seed={point.seed}", stage),
                stage,
                1,
                _TRAIN_COST["d1"] * space.d1.steps * space.d1.batch_size,
                tuple(dict.fromkeys(self._needs(*inputs.values(), *rates))),
                inputs,
                rates=rates,
                point=point,
                variant=variant,
            )
        )
        return stage

    def _evaluation_cost(self, benchmark: BenchmarkSpec | None) -> float:
        own = self._images["test"] + self.space.data.episodes
        return _EVALUATION_COST * (own if benchmark is None else benchmark_images(benchmark))

    def _start(self, point: OperatingPoint) -> Stage:
        """The d1 whose neck a point starts from or takes, which more variants may share."""
        d1 = start_of(self.stages.of(point.variant).space, point)
        d1 = replace(d1, variant=self._variants.get(self.key(d1), point.variant))
        return self._point(d1, evaluate=False)


def _codec_label(codec: CodecSpec, lmbda: float) -> str:
    return f"{codec.label} codec" + ("" if is_vbr(codec.arch) else f" lambda={lmbda:g}")

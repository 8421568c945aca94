"""What has to be done for a space, and in which order it may be.

    stages (search_spaces) + what the storage already holds  -->  jobs with their needs and costs

A job makes one stage; an operating point's job also makes its evaluations. A stage names all that
the code that makes it reads; the plan follows these from stage to stage.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from orchestrator.plan.costs import describe, pass_cost
from orchestrator.plan.stored_stages import StoredStages
from orchestrator.storage.provenance import image_counts
from orchestrator.storage.store import Store
from search_spaces import (
    Measurement,
    OperatingPoint,
    Space,
    Stage,
    Stages,
    evaluation_stage,
    operating_points,
    point_stage,
    variants_of,
)
from search_spaces.scenarios import evaluation_pass, scenario_of
from search_spaces.specs.points import JOINED
from search_spaces.specs.stage import Subject

WAVES: Final = (
    "base codecs, features, latents",
    "points from the codec",
    "points that start from others",
)
DATA: Final = ("images", "features", "text", "latents")
"""The kinds of jobs that run as passes of Ray Data; all others are trials of Ray Tune."""


@dataclass(frozen=True)
class PassPart:
    """The shards of a pass that one of several processes answers: every `count`-th from `index`."""

    index: int
    count: int


@dataclass(frozen=True)
class EvaluationPass:
    """Evaluations of an operating point, with one answerer and data set, made in one pass.

    Attributes:
        key: the same whichever of its evaluations are to be made; names its working directory.
        evaluations: each with its stage; at least one.
    """

    key: str
    evaluations: tuple[tuple[Measurement, Stage], ...]

    @property
    def answerer(self) -> str:
        """The MLLM, or the teacher where the encoder answers alone."""
        return self.evaluations[0][0].answerer

    @property
    def by_encoder(self) -> bool:
        """Whether the visual encoder answers alone."""
        return self.evaluations[0][0].by_encoder


@dataclass(frozen=True)
class Job:
    """One thing to run.

    Attributes:
        key: of the stage it makes, or of the operating point (`Plan.key`) that it measures; also
            names its log and its work in progress.
        kind: the stage's; but `images` for those of a data set, `scenes` for those that are made,
            and `point` for all that scenarios train.
        needs: keys of the jobs that must be done first.
        inputs: the stages it reads, by the name that the training functions give them.
        rates: the latents of each rate, which one training for all rates reads.
        passes: of an operating point, the evaluations that are still to be made.
        cost: rough seconds on one core.
        costs: of making each of its stages, by the stage's key.
        wave: 0, 1, 2 as in `WAVES`.
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
    passes: tuple[EvaluationPass, ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)

    @property
    def evaluations(self) -> tuple[tuple[Measurement, Stage], ...]:
        """The evaluations of all passes, with their stages."""
        return tuple(pair for made in self.passes for pair in made.evaluations)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that it makes: its output, and its evaluations."""
        return (self.stage, *(stage for _, stage in self.evaluations))

    @property
    def subject(self) -> Subject:
        """What the stage is made for: codec, lambda, operating point, benchmark, variant."""
        return self.stage.subject


class Plan:
    """The jobs of a space that are not done yet.

    Args:
        space: what is swept.
        points: the operating points that are wanted.
        fingerprints: see `Stages`.
        store: the storage; None plans as if it were empty.

    Attributes:
        wanted: these points by their `key`.
    """

    def __init__(
        self,
        space: Space,
        points: Iterable[OperatingPoint],
        fingerprints: Mapping[str, str],
        store: Store | None,
    ) -> None:
        self.space, self._stored = space, StoredStages(store)
        self.points, self.fingerprints = tuple(points), fingerprints
        self.stages = Stages(space, fingerprints)
        self._variants = variants_of(self.stages)
        self.jobs: dict[str, Job] = {}
        self._row_stages: dict[OperatingPoint, tuple[Stage, ...]] = {}
        self._images = image_counts(space.data)
        self.wanted = {self.key(point): point for point in self.points}
        with self._stored.listed(map(self._stages, self.points)):
            for benchmark in space.benchmarks:
                self._require(self.stages.benchmark(benchmark))
            for point in self.points:
                stage = self._stages(point)[0]
                self._point(self.key(point), stage, point, self.evaluations(point))

    def __getstate__(self) -> dict[str, object]:
        """What is pickled: other threads may learn of stages meanwhile."""
        return {**self.__dict__, "_row_stages": {**self._row_stages}}

    def jobs_added_by(self, larger: Plan) -> dict[str, Job]:
        """The jobs of a larger space that this plan lacks, or that measure what it only trains."""
        return {
            key: job
            for key, job in larger.jobs.items()
            if key not in self.jobs or (job.evaluations and not self.jobs[key].evaluations)
        }

    def grow(self, larger: Plan, jobs: Mapping[str, Job]) -> None:
        """Become the plan of a larger space, in which every stage of this one has the same key.

        Other threads may read it meanwhile.

        Args:
            jobs: of `jobs_added_by`, to do besides those of this plan, or in their place.
        """
        self._row_stages = {**self._row_stages, **larger._row_stages}
        self._stored.by_key.update(larger.done)
        self.jobs = {**self.jobs, **jobs}
        self.space, self.fingerprints = larger.space, larger.fingerprints
        self.stages, self._variants, self._images = larger.stages, larger._variants, larger._images
        self.points, self.wanted = larger.points, larger.wanted

    @property
    def done(self) -> dict[str, Stage]:
        """Stages by key that are known to be complete; more may be added."""
        return self._stored.by_key

    def job_done(self, key: str) -> None:
        """Know the stages of a job that the runner has seen: nobody asks the storage for them."""
        self.done.update({stage.key: stage for stage in self.jobs[key].stages})

    def key(self, point: OperatingPoint) -> str:
        """The `point_key` of an operating point: the key of the stage of its training.

        Variants may measure in several ways what they train alike, as with other texts. Such points
        share a stage; all but those of the first variant have keys of their measurements.
        """
        stage, *evaluations = self._stages(point)
        variants = self._variants.get(stage.key, "")
        first = variants.split(JOINED)[0] or next(iter(self.space.variants), "")
        if point.variant == variants or point.variant.split(JOINED)[0] == first:
            return stage.key
        keys = ",".join([stage.key, *(evaluation.key for evaluation in evaluations)])
        return hashlib.sha256(keys.encode()).hexdigest()[:16]

    def evaluations(self, point: OperatingPoint) -> tuple[tuple[Measurement, Stage], ...]:
        """What a point is measured on and with whom, and the stages of that."""
        measurements = self.stages.of(point.variant).space.measurements
        return tuple(zip(measurements, self._stages(point)[1:], strict=True))

    def is_complete(self, point: OperatingPoint) -> bool:
        """Whether everything that a point's row needs is in the storage."""
        return all(self._stored.has(stage) for stage in self._stages(point))

    def complete_points(self) -> tuple[OperatingPoint, ...]:
        """Those of the whole space that the storage holds, wanted this time or not."""
        points = operating_points(self.space)
        with self._stored.listed(map(self._stages, points)):
            return tuple(point for point in points if self.is_complete(point))

    def known_points(self) -> tuple[OperatingPoint, ...]:
        """Those of the whole space that are known to be complete; the storage is not asked."""
        return tuple(
            point
            for point in operating_points(self.space)
            if all(stage.key in self.done for stage in self._stages(point))
        )

    def _stages(self, point: OperatingPoint) -> tuple[Stage, ...]:
        """The stages that a point's row needs: that of its training, and one per measurement."""
        if point not in self._row_stages:
            measurements = self.stages.of(point.variant).space.measurements
            self._row_stages[point] = (
                point_stage(self.stages, point),
                *(evaluation_stage(self.stages, point, measured) for measured in measurements),
            )
        return self._row_stages[point]

    def _needs(self, stages: Iterable[Stage]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(stage.key for stage in stages if stage.key in self.jobs))

    def _require(self, stage: Stage) -> None:
        """Plan a stage and what it reads, unless it is planned or in the storage."""
        if stage.key in self.jobs or self._stored.has(stage):
            return
        if stage.subject.point is not None:
            point = stage.subject.point
            owners = self._variants.get(stage.key, point.variant)
            self._point(stage.key, stage, replace(point, variant=owners), ())
            return
        for read in stage.inputs:
            self._require(read)
        kind, label, cost = describe(stage, self.space.data, self._images)
        owners = self._variants.get(stage.key, "")
        self.jobs[stage.key] = Job(
            stage.key,
            kind,
            f"{label} ({owners})" if owners else label,
            stage,
            0,
            cost or 1.0,  # also a codec that is taken as it is takes a while
            self._needs(stage.inputs),
            _named(stage),
            costs={stage.key: cost},
        )

    def _point(
        self,
        key: str,
        stage: Stage,
        point: OperatingPoint,
        evaluations: Iterable[tuple[Measurement, Stage]],
    ) -> None:
        """Plan an operating point and the evaluations of it that are wanted.

        Args:
            key: of the point; that of its stage, unless another point's job trains it.
        """
        known = self.jobs.get(key)
        trained_elsewhere = [stage] if key != stage.key and not self._stored.has(stage) else []
        if trained_elsewhere:
            self._require(stage)
        trained = key != stage.key or (known is None and self._stored.has(stage))
        left = tuple(pair for pair in evaluations if not self._stored.has(pair[1]))
        if (trained and not left) or (known is not None and (known.evaluations or not left)):
            return
        reads = _named(stage)
        rates = () if trained else _rates(stage)
        if trained:
            reads = {name: read for name, read in reads.items() if name == "codec"}
        measured_on = [
            read for _, evaluation in left for read in evaluation.inputs if read.key != stage.key
        ]
        for read in (*reads.values(), *rates, *measured_on):
            self._require(read)
        space, passes = self.stages.of(point.variant).space, self._passes(point, left)
        costs = dict[str, float]()
        for made in passes:
            stages = [evaluation for _, evaluation in made.evaluations]
            of_pass = pass_cost(stages, space.data, self._images)
            costs |= {evaluation.key: of_pass / len(stages) for evaluation in stages}
        if not trained:
            is_released = point.released is not None
            costs[stage.key] = (
                0.0 if is_released else scenario_of(point.scenario).cost(space, point)
            )
        self.jobs[key] = Job(
            key,
            "point",
            point.label,
            replace(stage, subject=replace(stage.subject, point=point, variant=point.variant)),
            2 if "start" in reads else 1,
            1.0 + sum(costs.values()),
            self._needs((*trained_elsewhere, *reads.values(), *rates, *measured_on)),
            reads,
            rates,
            passes,
            costs,
        )

    def _passes(
        self, point: OperatingPoint, evaluations: Iterable[tuple[Measurement, Stage]]
    ) -> tuple[EvaluationPass, ...]:
        """The passes over images that some evaluations of a point need."""
        groups = itertools.groupby(evaluations, key=lambda pair: pair[0].shared)
        return tuple(
            EvaluationPass(evaluation_pass(self.stages, point, pairs[0][0]), pairs)
            for pairs in [tuple(group) for _, group in groups]
        )


def _named(stage: Stage) -> dict[str, Stage]:
    """The stages that a stage reads one by one, by name."""
    return {name: read for name, read in stage.reads.items() if isinstance(read, Stage)}


def _rates(stage: Stage) -> tuple[Stage, ...]:
    rates = stage.reads.get("rates", ())
    assert isinstance(rates, tuple)
    return rates

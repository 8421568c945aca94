"""Stages of a sweep, their inputs and their content-addressed keys.

    train_images --+--> features (teacher) --------------+
                   +--> text (class names) --------------+
                   +--> codec (per codec x lambda) --+---+--> point (per scenario; may start from
                   |                                 |   |           another point)
                   |                                 +-> latents
    point + MLLM + (test_images, episodes or benchmark) --> evaluation, one per task
    train_images or test_images --> samples of the tasks of other distributions

`train_images` are for training and validation. They and `test_images` of scenes have the samples of
the project's tasks, `episodes` the scenes with one digit and the samples of few-shot tasks, and a
benchmark its images and samples, in the same form.

This module makes the stages that scenarios read. Each scenario decides what its points read and
what enters their keys (`search_spaces.scenarios.contract`).

A variant of a space is an ordinary space (`Space.of`): stages that it does not touch have the same
keys in all variants, and so are made once.

A stage's key is a hash of what changes its content: the settings that it uses, the keys of its
inputs and the version of its code. So a finished stage is found again, and a changed setting makes
again what depends on it. How a stage is computed is in no key. What each setting makes again is
listed in `tests/orchestrator/plan/key_effects.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, Literal

from search_spaces.facts.tasks import TASK_FACTS, plugin_identities
from search_spaces.specs.benchmark import BenchmarkSpec
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.data import SceneCount
from search_spaces.specs.space import Space
from search_spaces.specs.space_fields import Measurement
from search_spaces.specs.stage import Stage, Subject, make_stage
from search_spaces.specs.training import Phase

LIKELIHOODS_VERSION: Final = 2
"""Of the code of evaluations by likelihood alone, as `VERSIONS` is of a whole kind of stages."""


class Stages:
    """The stages of one space that do not depend on a scenario.

    Args:
        space: what is swept.
        fingerprints: for each model or weights name in the space, for the data set's `train images`
            and `test images` and for each `benchmark NAME`, a checksum of what it resolves to; for
            each standard's codec the version of its library. A name that is absent is its own
            fingerprint; images are then those that the settings select.
        variant: this space's name as a variant; empty if it is not one.
    """

    def __init__(
        self, space: Space, fingerprints: Mapping[str, str] | None = None, variant: str = ""
    ) -> None:
        self.space = space
        self.variant = variant
        self._fingerprints = dict(fingerprints or {})
        self._of: dict[str, Stages] = {}
        self._made: dict[Hashable, Stage] = {}

    def of(self, variant: str) -> Stages:
        """The stages of one variant of the space, named as `Space.of` takes it."""
        if not self.space.variants:
            return self
        if variant not in self._of:
            self._of[variant] = Stages(self.space.of(variant), self._fingerprints, variant)
        return self._of[variant]

    def once(self, subject: Hashable, make: Callable[[], Stage]) -> Stage:
        """The stage of a subject, made when it is asked for first: a space has thousands."""
        if subject not in self._made:
            self._made[subject] = make()
        return self._made[subject]

    def fingerprint(self, name: str | None) -> str | None:
        """The checksum of a model, file or library; the name itself where none is known."""
        return None if name is None else self._fingerprints.get(name, name)

    def train_images(self) -> Stage:
        """The images for training and validation, of scenes with samples of tasks."""
        return self.once("train_images", lambda: self._images("train", ("train", "val")))

    def test_images(self) -> Stage:
        """The test images of the space's own data, with samples of tasks."""
        return self.once("test_images", lambda: self._images("test", ("test",)))

    def _images(self, part: Literal["train", "test"], counts: Sequence[SceneCount]) -> Stage:
        """The images of a part of the space's data.

        Args:
            counts: settings that say of how many scenes it consists.
        """
        data = self.space.data
        if data.is_made:
            spec = data.scenes(*counts)
        else:
            listed = self._fingerprints.get(f"{part} images", data.selection)
            spec = data.form | {"images": listed}
        return make_stage(f"{part}_images", spec, {}, Subject(self.variant))

    def episodes(self) -> Stage:
        """The scenes of few-shot episodes, with the episodes."""
        spec = self.space.data.scenes("episodes")
        return self.once(
            "episodes", lambda: make_stage("episodes", spec, {}, Subject(self.variant))
        )

    def samples(self, tasks: Sequence[str], images: Stage) -> Stage:
        """The samples of tasks of other distributions.

        Args:
            images: `train_images` or `test_images`.
        """
        spec = {"tasks": plugin_identities(tasks)}
        subject = Subject(self.variant, tasks=tuple(tasks))
        return make_stage("samples", spec, {"images": images}, subject)

    def benchmark(self, benchmark: BenchmarkSpec) -> Stage:
        """A published benchmark's images, at the size of the space's own, and its samples."""
        files = self.fingerprint(f"benchmark {benchmark.label}")
        spec = {**benchmark.identity, "size": self.space.data.size, "files": files}
        return make_stage("benchmark", spec, {}, Subject(self.variant, benchmark=benchmark))

    def dataset(self, measurement: Measurement) -> dict[str, Stage]:
        """What is measured on: the `images` and, where they are a stage of their own, `samples`."""
        task = measurement.task
        if measurement.benchmark is not None:
            return {"images": self.benchmark(measurement.benchmark)}
        if TASK_FACTS.get(task).in_episodes:
            return {"images": self.episodes()}
        images = self.test_images()
        if TASK_FACTS.origin(task).is_project:
            return {"images": images}
        return {"images": images, "samples": self.samples((task,), images)}

    def features(self) -> Stage:
        """The teacher's features of the training and validation images that the loss uses."""
        spec, reads = self.targets_identity(), {"world": self.train_images()}
        return self.once(
            "features", lambda: make_stage("features", spec, reads, Subject(self.variant))
        )

    def targets_identity(self) -> dict[str, Any]:
        """The settings that decide the teacher's features, for a key."""
        surrogate = self.space.surrogate
        spec: dict[str, Any] = {"teacher": self.fingerprint(self.space.teacher.model)}
        if surrogate.pooled:
            spec["pooled"] = {"double_norm": surrogate.double_norm}
        if surrogate.tokens:
            spec["tokens"] = {"layer": surrogate.token_layer}
        return spec

    def text(self, images: Stage) -> Stage:
        """The text embeddings of class names, from the teacher's text tower.

        Args:
            images: whose classes.
        """
        surrogate = self.space.surrogate
        spec = {
            "teacher": self.fingerprint(self.space.teacher.model),
            "templates": self.fingerprint(surrogate.templates),
            "classes": self.fingerprint(surrogate.classes),
        }
        subject = Subject(self.variant, benchmark=images.subject.benchmark)
        return make_stage("text", spec, {"world": images}, subject)

    def surrogate_targets(self) -> dict[str, Stage]:
        """The teacher's features and, where the loss uses them, the text embeddings of classes."""
        images = self.train_images()
        texts = {"text": self.text(images)} if self.space.trains_on_classes else {}
        return {"features": self.features(), **texts}

    def codec(self, codec: CodecSpec, lmbda: float) -> Stage:
        """A base codec, trained with the rate-distortion loss or taken as it is.

        A variable-rate codec has one for all its lambdas.
        """
        return self.once(("codec", codec, lmbda), lambda: self._codec(codec, lmbda))

    def _codec(self, codec: CodecSpec, lmbda: float) -> Stage:
        codec = codec.at(lmbda)
        subject = Subject(self.variant, codec=codec, lmbda=lmbda)
        spec = codec.identity
        assert codec.weights is None or isinstance(codec.weights, str)
        spec["weights"] = self.fingerprint(codec.weights)
        if not codec.is_variable_rate:
            spec["lmbda"] = lmbda
        if codec.train.steps:
            return make_stage("codec", spec, {"world": self.train_images()}, subject)
        return make_stage("codec", spec, {}, subject)

    def latents(self, codec: CodecSpec, lmbda: float) -> Stage:
        """A frozen base codec's latents of the training and validation images."""
        codec = codec.at(lmbda)
        reads = {"world": self.train_images(), "codec": self.codec(codec, lmbda)}
        subject = Subject(self.variant, codec=codec, lmbda=lmbda)
        return make_stage("latents", rate_identity(codec), reads, subject)

    def teacher_identity(self, entered: bool) -> dict[str, Any]:
        """The encoder, for a key.

        Args:
            entered: whether tokens enter it at block k.
        """
        teacher = self.space.teacher
        block = {"block": teacher.block} if entered else {}
        return {"model": self.fingerprint(teacher.model), **block}

    def neck_sizes(self) -> dict[str, Any]:
        """The settings that decide the neck's size, for a key."""
        return self.space.neck.model_dump(mode="json", exclude={"init"})

    def encoder_identity(self) -> dict[str, Any]:
        """The settings that decide how an encoder is entered, for a key."""
        return {"teacher": self.teacher_identity(entered=True), "neck": self.neck_sizes()}

    def surrogate_identity(self, phases: Sequence[Phase]) -> dict[str, Any]:
        """The surrogate loss, for a key; without its texts, which are a stage of their own.

        Args:
            phases: that are used; none where the loss is the distillation alone.
        """
        surrogate = self.space.surrogate
        used = {"pooled", "tokens"}
        if surrogate.tokens:
            used.add("token_layer")
        if surrogate.pooled or any(phase.ce for phase in phases):
            used.add("double_norm")
        settings = surrogate.model_dump(mode="json", include=used)
        return settings | {"phases": [phase.model_dump(mode="json") for phase in phases]}

    def evaluation(self, point: Stage, measurement: Measurement) -> Stage:
        """An operating point measured on one task with one answerer.

        Args:
            point: the operating point's stage.
            measurement: one of this space's.
        """
        task = measurement.task
        origin = TASK_FACTS.origin(task).identity
        spec = {
            "answerer": self.fingerprint(measurement.answerer),
            "task": task,
            **({"plugin": origin} if origin else {}),
            "targets": self.targets_identity(),
            **self._answering(measurement),
        }
        dataset = self.dataset(measurement)
        texts = {"text": self.text(dataset["images"])} if measurement.by_encoder else {}
        return make_stage("evaluation", spec, {"point": point, **dataset, **texts}, point.subject)

    def _answering(self, measurement: Measurement) -> dict[str, Any]:
        """The settings that decide how an answerer answers, for a key."""
        if measurement.by_encoder:
            return {"double_norm": self.space.surrogate.double_norm}
        evaluation = self.space.evaluation
        if TASK_FACTS.get(measurement.task).by_likelihood:
            return {"precision": evaluation.precision, "likelihoods": LIKELIHOODS_VERSION}
        return {"precision": evaluation.precision, "beams": evaluation.beams}

    def pass_key(self, point: Stage, measurement: Measurement) -> str:
        """The key of what the evaluations of a point that share a pass over images have in common.

        That is the answerer and the data set, with all samples that it may have. Answers that were
        given under the same key serve for every task.
        """
        if measurement.benchmark is not None:
            dataset = [self.benchmark(measurement.benchmark)]
        elif self.space.data.has_episodes:
            dataset = [self.test_images(), self.episodes()]
        else:
            dataset = [self.test_images()]
        spec: dict[str, Any] = {
            "answerer": self.fingerprint(measurement.answerer),
            "tasks": plugin_identities(sorted({*self.space.tasks, measurement.task})),
            "targets": self.targets_identity(),
            "evaluation": self.space.evaluation.model_dump(include={"beams", "precision"}),
            "double_norm": self.space.surrogate.double_norm,
            "by_encoder": measurement.by_encoder,
        }
        if measurement.by_encoder:
            spec["text"] = [self.text(images).key for images in dataset]
        return make_stage(
            "evaluation", spec, {"point": point, "images": tuple(dataset)}, Subject()
        ).key


def rate_identity(codec: CodecSpec) -> dict[str, int]:
    """The rate index, which distinguishes the points of one variable-rate base codec."""
    return {"rate": codec.rate} if codec.is_variable_rate else {}

"""What a scenario is, without computing anything: the contract of `search_spaces/scenarios/`.

    settings --> problems()                    is the space right?
             --> applies_to(), own_points()    which operating points does it have?
    point    --> start()                       whose weights does it start from?
             --> reads(), identity()           which stages does it read, what else is in its key?
             --> training(), cost(), ...       how is it trained, and what does that cost?
    look                                       style and title in figures

`implementation` names the computing half, a `trainables.points.contract.Method`; it is imported
only where something is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeVar, cast

from pydantic import BaseModel

from search_spaces.plugins import implementation
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.scenario_rules import SCENARIOS, ScenarioRules
from search_spaces.specs.space import Space
from search_spaces.specs.space_fields import Measurement
from search_spaces.specs.stage import Reads, Stage, Subject, make_stage
from search_spaces.specs.stages import Stages, rate_identity
from search_spaces.specs.training import Optimiser, Phase

Settings = TypeVar("Settings", bound=BaseModel)

Counts = Mapping[str, float]
"""Rough numbers of parameters: `codec`, `neck`, `encoder_block`."""


class Environment(Protocol):
    """What a scenario needs of a machine besides the project's own packages. Imports no torch."""

    def versions(self, space: Space) -> Mapping[str, str]:
        """Versions of libraries that its results depend on, by the name that its `identity` gives
        to `Stages.fingerprint`."""
        ...

    def problems(self, space: Space) -> Iterable[str]:
        """What this machine lacks, a line per setting."""
        ...


class Scenario(ScenarioRules[Space]):
    """One way from an image to the MLLM's tokens, and how it is trained.

    A scenario is stateless. Methods that take an operating point get the space of its variant.
    """

    implementation: ClassVar[str] = ""
    """`module:attribute` of its `Method`; empty for `trainables.scenarios.<name>:METHOD`."""
    environment: ClassVar[str] = ""
    """`module:attribute` of its `Environment`; empty where it needs nothing from outside."""
    depends_on_seed: ClassVar[bool] = True
    """False: it has points of the first seed only."""
    enters: ClassVar[Literal["image", "block"]] = "block"
    """What it gives to the encoder: an image, or tokens at the input of block k. The latter needs
    an MLLM whose tower is the teacher."""
    updates_codec: ClassVar[bool] = False
    """Whether its points have codec weights of their own, and so a rate-distortion curve."""
    uses_surrogate: ClassVar[bool] = True
    """Whether its training loss is made of the surrogate loss."""
    uses_neck: ClassVar[bool] = True
    """Whether it has a transform-neck of the space's size."""
    trains_through_mllm: ClassVar[bool] = False
    """Whether it is trained through the first MLLM of the space, which must then read whole
    images."""
    is_cost_reference: ClassVar[bool] = False
    """Whether the complexity table states savings against it."""
    seconds_per_image: ClassVar[float] = 0.0
    """Rough cost of a training step per image, on one core at 128 x 128. It orders jobs and guesses
    the time left."""

    # Operating points

    def applies_to(self, space: Space, codec: CodecSpec) -> bool:
        """Whether it has operating points at every rate of a learned codec."""
        return True

    def own_points(self, space: Space) -> Iterator[OperatingPoint]:
        """Its operating points that belong to no learned codec of the space."""
        return iter(())

    def start(self, space: Space, point: OperatingPoint) -> OperatingPoint | None:
        """The operating point whose trained weights this one starts from or takes."""
        return None

    # Keys

    def stage(self, stages: Stages, point: OperatingPoint) -> Stage:
        """The stage of an operating point; its key is the `point_key` of the points file.

        A released point reads only its codec, and its key has the file's checksum.

        Args:
            stages: of the point's variant.
        """
        subject = Subject(stages.variant, codec=point.codec, lmbda=point.lmbda, point=point)
        origin = SCENARIOS.origin(self.name).identity
        plugin = {"plugin": origin} if origin else {}
        if point.released is not None:
            assert point.codec is not None
            assert point.lmbda is not None
            base = stages.codec(point.codec, point.lmbda)
            taken = {
                "scenario": self.name,
                **stages.encoder_identity(),
                **rate_identity(point.codec),
                "released": stages.fingerprint(point.released),
            }
            return make_stage("point", taken | plugin, {"codec": base}, subject)
        kind = self.kind(point)
        name = {"scenario": self.name} if kind == "point" else {}
        identity = {**name, **self.identity(stages, point), **plugin}
        reads = self.reads(stages, point)
        if self.training(stages.space, point) is not None:
            reads = {"world": stages.train_images(), **reads}
        return make_stage(kind, identity, reads, subject)

    def kind(self, point: OperatingPoint) -> str:
        """The kind of its stage: `point`, or another key of `stages.VERSIONS`."""
        return "point"

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """The stages that its training reads, by the field of `trainables.points.inputs.Inputs`.

        They enter its key in this order. Whatever has a `training` reads the training images, too,
        as `world`.
        """
        raise NotImplementedError

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """The settings that decide what it trains and gives, for its key, as JSON data.

        Its name, and of a plug-in its distribution, enter the key by themselves.
        """
        raise NotImplementedError

    # Training

    def training(self, space: Space, point: OperatingPoint) -> Optimiser | None:
        """How a point is trained; None where it trains nothing.

        The scenario's settings, where these are an `Optimiser`'s.
        """
        settings = space.settings_of(self.key) if self.trains and self.key else None
        return settings if isinstance(settings, Optimiser) else None

    def trained_parameters(self, space: Space, counts: Counts) -> float:
        """Parameters that a point keeps, to within a factor of two."""
        return 0.0

    def cost(self, space: Space, point: OperatingPoint) -> float:
        """Rough seconds of training on one core."""
        training = self.training(space, point)
        if training is None:
            return 0.0
        return self.seconds_per_image * training.steps * training.batch_size

    def record(self, space: Space, point: OperatingPoint) -> dict[str, Any]:
        """The settings of its training, for the points file and MLflow, as JSON data."""
        training = self.training(space, point)
        if training is None:
            return {}
        record: dict[str, Any] = {"train": training.model_dump(mode="json")}
        if self.uses_surrogate:
            record["surrogate"] = space.surrogate.model_dump(mode="json")
        if self.uses_neck:
            record["neck"] = space.neck.model_dump(mode="json")
        return record


def scenario_of(name: str) -> Scenario:
    """The installed scenario of a name.

    Raises:
        UnknownPluginError, BrokenPluginError: see `Registry.get`.
    """
    scenario = SCENARIOS.get(name)
    assert isinstance(scenario, Scenario), f"{name} is no {Scenario.__name__}"
    return scenario


def scenarios_of(space: Space) -> tuple[Scenario, ...]:
    """The scenarios that have operating points in a space."""
    return tuple(scenario_of(name) for name in space.scenario_names)


def environments_of(space: Space) -> tuple[Environment, ...]:
    """What the scenarios of a space need of a machine."""
    paths = dict.fromkeys(s.environment for s in scenarios_of(space) if s.environment)
    return tuple(cast(Environment, implementation(path)) for path in paths)


def looks() -> dict[str, ScenarioLook]:
    """Name -> look of every installed scenario, with its dependence on the seed; plug-ins say their
    distribution."""
    shown = {}
    for name in SCENARIOS.working():
        scenario, origin = scenario_of(name), SCENARIOS.origin(name)
        known: dict[str, Any] = {"depends_on_seed": scenario.depends_on_seed}
        if not origin.is_project:
            known["distribution"] = f"{origin.distribution} {origin.version}"
        shown[name] = scenario.look.model_copy(update=known)
    return shown


def point_stage(stages: Stages, point: OperatingPoint) -> Stage:
    """The stage of an operating point, of whatever scenario and variant."""
    of_variant = stages.of(point.variant)
    scenario = scenario_of(point.scenario)
    return of_variant.once(point, lambda: scenario.stage(of_variant, point))


def evaluation_stage(stages: Stages, point: OperatingPoint, measurement: Measurement) -> Stage:
    """The stage of one measurement of an operating point."""
    return stages.of(point.variant).evaluation(point_stage(stages, point), measurement)


def evaluation_pass(stages: Stages, point: OperatingPoint, measurement: Measurement) -> str:
    """The key that the evaluations of an operating point share which are made in one pass."""
    return stages.of(point.variant).pass_key(point_stage(stages, point), measurement)


def settings_as(space: Space, key: str, kind: type[Settings]) -> Settings:
    """A scenario's settings in a space, with their type."""
    settings = space.settings_of(key)
    assert isinstance(settings, kind)
    return settings


def space_in_use(space: Space, point: OperatingPoint) -> Space:
    """The space that a trained point is used in: of a released one, with the authors' two final
    LayerNorms, behind which its neck was trained.

    Args:
        space: of the point's variant.
    """
    if point.released is None:
        return space
    surrogate = space.surrogate.model_copy(update={"double_norm": True})
    return space.model_copy(update={"surrogate": surrogate})


# Parts of reads and identities that several scenarios share.


def base_codec(stages: Stages, point: OperatingPoint) -> dict[str, Stage]:
    """The base codec of a point."""
    assert point.codec is not None
    assert point.lmbda is not None
    return {"codec": stages.codec(point.codec, point.lmbda)}


def frozen_latents(stages: Stages, point: OperatingPoint) -> dict[str, Stage]:
    """The stored latents of a point's base codec."""
    assert point.codec is not None
    assert point.lmbda is not None
    return {"latents": stages.latents(point.codec, point.lmbda)}


def started_from(stages: Stages, point: OperatingPoint) -> dict[str, Stage]:
    """The stage of the point that a point starts from."""
    start = scenario_of(point.scenario).start(stages.space, point)
    assert start is not None
    return {"start": scenario_of(start.scenario).stage(stages, start)}


def bridge_identity(
    stages: Stages, point: OperatingPoint, phases: Sequence[Phase] | None = None
) -> dict[str, Any]:
    """The identity of points that are trained before a frozen encoder, of what they use.

    That is the seed, the rate, the encoder, the neck and its start, the loss and the training.

    Args:
        phases: of the surrogate loss; None for all.
    """
    assert point.codec is not None
    scenario, space = scenario_of(point.scenario), stages.space
    training = scenario.training(space, point)
    assert training is not None
    identity: dict[str, Any] = {"seed": point.seed, **rate_identity(point.codec)}
    identity["teacher"] = stages.teacher_identity(entered=scenario.enters == "block")
    if scenario.uses_neck:
        identity["neck"] = stages.neck_sizes()
        if scenario.start(space, point) is None:
            identity["neck_start"] = space.neck.init
    if scenario.uses_surrogate:
        used = space.surrogate.phases if phases is None else phases
        identity["surrogate"] = stages.surrogate_identity(used)
    return {**identity, "train": training.identity}

"""The computing half of a scenario: the contract of `trainables/scenarios/`.

    space, point, inputs --> learner()  --> training loop --> weights
    weights              --> restore()  --> PointModel    --> evaluation, other people's MLLMs
    space                --> parts()    --> complexity table

The data half is a `search_spaces.scenarios.contract.Scenario`; its `implementation` is the path
of the `Method` instance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from search_spaces.plugins import BrokenPluginError, implementation
from search_spaces.scenarios import scenario_of, space_in_use
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.codecs import Codec, load_codec
from trainables.encoders.load import load_tower
from trainables.encoders.tower import Tower
from trainables.points.counting import Counting, Part
from trainables.points.inputs import Inputs
from trainables.points.learning import Learner
from trainables.points.models import PointModel
from trainables.points.weights import load_trained, named, overlay


@dataclass(frozen=True)
class Finished:
    """A finished operating point on disk.

    Attributes:
        space: of the point's variant.
        codec_dir: of its base codec; None where it has none.
        point_dir: of the point itself.
    """

    space: Space
    point: OperatingPoint
    codec_dir: Path | None
    point_dir: Path


@dataclass(frozen=True)
class Trained(Finished):
    """A finished operating point with its space's teacher, `tower`."""

    tower: Tower

    def base_codec(self) -> Codec:
        """The base codec, frozen, ready to encode and decode."""
        assert self.point.codec is not None
        assert self.codec_dir is not None
        return load_codec(self.point.codec, self.codec_dir)


class Method(ABC):
    """The computing half of a scenario. It has no state."""

    sender: ClassVar[tuple[str, ...]] = ("analysis", "hyper_analysis", "entropy")
    """Names of the parts that its sender runs."""
    receiver: ClassVar[tuple[str, ...]]
    """Names of the parts that its receiver runs, up to the layer that the MLLM reads."""

    def learner(self, space: Space, point: OperatingPoint, inputs: Inputs) -> Learner:
        """The learner of a point before its first step. The caller has seeded torch.

        Raises:
            ValueError: the inputs do not fit together.
        """
        raise NotImplementedError(f"{point.scenario} has no training")

    @abstractmethod
    def restore(self, trained: Trained) -> PointModel:
        """Load a finished point, ready to use.

        Raises:
            ValueError: the stored weights are not exactly those that the scenario trains.
        """

    def codec(self, point: OperatingPoint, codec_dir: Path, point_dir: Path) -> Codec:
        """Load a finished point's image codec, frozen, ready to encode and decode.

        Raises:
            ValueError: as `restore`.
        """
        assert point.codec is not None
        return load_codec(point.codec, codec_dir)

    def released(
        self, space: Space, point: OperatingPoint, file: Path
    ) -> tuple[dict[str, Tensor], str]:
        """Read trained weights from a released file.

        Returns:
            The weights that the scenario trains, and the file's origin in words.

        Raises:
            ValueError: the file does not hold exactly the weights that the scenario trains.
        """
        raise NotImplementedError(f"{point.scenario} has no released format")

    def parts(self, counting: Counting) -> Iterator[Part]:
        """Count the parts that only this scenario has, besides those of codecs and encoder."""
        return iter(())


def updated_codec(spec: CodecSpec, codec_dir: Path, point_dir: Path, skip: str = "") -> Codec:
    """Load a base codec and replace those of its weights that an operating point has trained.

    Args:
        codec_dir: of the base codec.
        point_dir: of the point; its weights `codec.*` are exactly the codec's, without `skip`.
        skip: how the names of the codec's untrained weights begin; empty if all were trained.

    Raises:
        ValueError: names or shapes differ.
    """
    codec = load_codec(spec, codec_dir)
    parameters = named(codec=codec)
    trained = {n: v for n, v in parameters.items() if not (skip and n.startswith(skip))}
    stored = load_trained(point_dir)
    overlay(trained, {n: v for n, v in stored.items() if n.startswith("codec.")})
    codec.update()
    return codec


def method_of(scenario: str) -> Method:
    """The computing half of a scenario.

    Raises:
        UnknownPluginError: no such scenario.
        BrokenPluginError: the scenario cannot be imported.
    """
    path = scenario_of(scenario).implementation or f"trainables.scenarios.{scenario}:METHOD"
    method = implementation(path)
    if not isinstance(method, Method):
        raise BrokenPluginError(f"{path} is {type(method).__name__}, not an instance of Method")
    return method


def load_point(
    space: Space,
    point: OperatingPoint,
    codec_dir: Path | None,
    point_dir: Path,
    tower: Tower | None = None,
) -> PointModel:
    """Load a trained operating point, ready to use.

    Args:
        space: of the point's variant.
        codec_dir: the base codec's directory; None where the point has none.
        point_dir: the operating point's own directory.
        tower: the space's teacher, where it is loaded already.

    Raises:
        ValueError: the stored weights are not exactly those that the scenario trains.
    """
    tower = tower or load_tower(space.teacher.model)
    trained = Trained(space_in_use(space, point), point, codec_dir, point_dir, tower)
    return method_of(point.scenario).restore(trained)

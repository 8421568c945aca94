"""Settings of learned codecs: what all families share, and the registry of families.

    {arch: tic, N: 128, ...} --> CODECS.get("tic") --> TicCodec, the family's settings class

A family is a settings class and the module that computes it. The project's settings are in
`search_spaces/codecs/`, those of third parties are entry points of the group `bridgesweep.codecs`,
one per architecture. A settings class names its computing half (`implementation`), so that a space
can be read without importing it.
"""

from __future__ import annotations

import inspect
import typing
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Self

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from search_spaces.facts.compressai_zoo import ZOO
from search_spaces.plugins import ClassRegistry
from search_spaces.settings.family import validate_by_family
from search_spaces.settings.paths import LocationOrName
from search_spaces.specs.base import Positive, Rate, Spec
from search_spaces.specs.training import BaseCodecTraining


class CodecSpec(Spec):
    """Settings of one learned codec: its architecture, its rates, the weights it starts from.

    Abstract: `CodecSpec.model_validate` gives an instance of the family's class. That class
    declares `arch` as a `Literal` of its architectures, `M`, `implementation`, `stride` where it
    is not 16, `pad_to` where it is not four times that, and settings of its own; those of them that
    do not shape the network are named in `not_architecture`. A variable-rate family overrides
    `is_variable_rate`, `rate` and `rate_table`.
    """

    not_architecture: ClassVar[tuple[str, ...]] = ()
    """A family's own settings that do not shape the network."""

    arch: str
    """Name of the architecture."""
    name: str = ""
    """Name of the codec in points and plots; empty for the architecture's name."""
    M: Positive
    """Channels of the latents."""
    lambdas: tuple[Rate, ...] = (0.004, 0.008, 0.016, 0.032)
    """One base codec each; CompressAI's convention, loss = bpp + lambda * 255^2 * MSE."""
    weights: LocationOrName | tuple[LocationOrName, ...] | None = None
    """Weights that base codecs start from, one for all or one per rate: `shipped:NAME`, a file,
    `compressai:mse` or `compressai:ms-ssim` (CompressAI's pretrained models), null for scratch."""
    released: dict[str, tuple[LocationOrName, ...]] = Field(default_factory=dict)
    """Finished operating points of this codec, which are then used and not trained: scenario ->
    files of the paper's format, one per rate."""
    train: BaseCodecTraining = BaseCodecTraining()
    """Training of base codecs. `compressai:` weights are taken as they are unless this is given."""

    def __hash__(self) -> int:
        return hash((self.arch, self.name, self.lambdas))

    @property
    @abstractmethod
    def implementation(self) -> str:
        """`module:function` that makes a `trainables.codecs.Codec` of these settings."""

    @property
    def stride(self) -> int:
        """Pixels per latent position, in both directions."""
        return 16

    @property
    def pad_to(self) -> int:
        """Pixels; images are padded to sides that are multiples of this. By default there is a
        hyper-latent position for 4 x 4 positions of the latents."""
        return 4 * self.stride

    def latent_sides(self, height: int, width: int) -> tuple[int, int]:
        """Latent positions (h, w) that cover an image of a size in pixels, without its padding."""
        return -(-height // self.stride), -(-width // self.stride)

    @property
    def widths(self) -> tuple[int, ...]:
        """The numbers of channels that tell sizes of this codec apart."""
        return (self.M,)

    @property
    def parameter_estimate(self) -> float:
        """Number of parameters, to within a factor of two; for a plan's sizes."""
        return hyperprior_parameters(self.M, self.M)

    @property
    def is_variable_rate(self) -> bool:
        """Whether one set of weights serves all rates."""
        return False

    @property
    def rate(self) -> int:
        """Index of the (first) rate of a variable-rate codec; 0 for all others."""
        return 0

    @property
    def rate_table(self) -> tuple[float, ...]:
        """The lambda that each rate index of one set of weights is trained for."""
        return self.lambdas[:1]

    @property
    def pretrained(self) -> tuple[str, ...]:
        """The metrics that CompressAI has pretrained models of this architecture for."""
        return ()

    @property
    def lambda_is_of_mse(self) -> bool:
        """Whether lambda weighs the MSE, as it does in the loss of d2 and d3."""
        return self.zoo_metric != "ms-ssim"

    @property
    def label(self) -> str:
        """The name in points and plots."""
        return self.name or self.arch

    @property
    def architecture(self) -> dict[str, Any]:
        """The settings that shape the network, as JSON data."""
        shared = CodecSpec.model_fields.keys() - {"arch", "M"}
        return self.model_dump(mode="json", exclude={*shared, *self.not_architecture})

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the content of a base codec at one rate, as JSON data, for its stage key.

        The lambda is not in it. A third party's codec has its distribution in it.
        """
        train = self.train.identity if self.train.steps else {"steps": 0}
        origin = CODECS.origin(self.arch).identity
        plugin = {"plugin": origin} if origin else {}
        return {**self.architecture, "weights": self.weights, "train": train, **plugin}

    @property
    def zoo_metric(self) -> str | None:
        """The metric of CompressAI's pretrained models that `weights` names; None without them."""
        if not isinstance(self.weights, str) or not self.weights.startswith(ZOO):
            return None
        return self.weights.removeprefix(ZOO).split(":")[0]

    def at(self, lmbda: float) -> Self:
        """This codec at one of its rates alone, with the files of that rate.

        Raises:
            ValueError: lmbda is none of its lambdas.
        """
        if lmbda not in self.lambdas:
            raise ValueError(f"{self.label} has lambdas {self.lambdas}, not {lmbda:g}")
        return self.model_copy(update=self.settings_of_rate(self.lambdas.index(lmbda)))

    def at_each(self) -> Iterator[tuple[float, Self]]:
        """Each lambda, and this codec at it alone (`at`)."""
        for place, lmbda in enumerate(self.lambdas):
            yield lmbda, self.model_copy(update=self.settings_of_rate(place))

    def settings_of_rate(self, place: int) -> dict[str, Any]:
        """The settings that `at` changes for the lambda at a place of `lambdas`."""
        released = {scenario: (files[place],) for scenario, files in self.released.items()}
        settings: dict[str, Any] = {
            "lambdas": (self.lambdas[place],),
            "released": released,
        }
        if isinstance(self.weights, tuple):
            settings["weights"] = self.weights[place]
        return settings

    def problems(self) -> list[str]:
        """What is wrong with settings that are each valid, a line per mistake."""
        problems = []
        rates = len(self.lambdas)
        if len(set(self.lambdas)) != rates or not self.lambdas:
            problems.append(f"lambdas {[*self.lambdas]}: one or more different values are needed")
        if isinstance(self.weights, tuple):
            if len(self.weights) != rates:
                problems.append(f"weights names {len(self.weights)} files for {rates} rates")
            if self.is_variable_rate or any(name.startswith(ZOO) for name in self.weights):
                problems.append("weights is one name for all rates of a -vbr or compressai: codec")
        elif self.zoo_metric is not None and self.zoo_metric not in self.pretrained:
            valid = ", ".join(ZOO + metric for metric in self.pretrained) or "none"
            problems.append(f"weights {self.weights!r}: pretrained {self.arch} are {valid}")
        if self.weights is None and not self.train.steps:
            problems.append("train.steps is 0 and there are no weights to take as they are")
        for scenario, files in self.released.items():
            if len(files) != rates:
                problems.append(f"released.{scenario} names {len(files)} files for {rates} rates")
        return problems

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problems := self.problems():
            raise ValueError("\n".join(problems))
        return self

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        if not inspect.isabstract(cls):
            return schema
        # Settings of any codec, as in a space's `codecs`, are validated and dumped by their family.
        as_it_is = core_schema.simple_ser_schema("any")
        return core_schema.no_info_wrap_validator_function(
            lambda data, _: _of_family(data), schema, serialization=as_it_is
        )


def hyperprior_parameters(N: int, M: int, context_width: float = 1.0) -> float:
    """Parameters of a codec with 5x5 transforms and a hyperprior, to within a factor of two.

    Args:
        N, M: channels of the transforms and of the latents.
        context_width: of the context and parameter networks, relative to ELIC's.
    """
    transforms = 2 * 25 * (3 * N + 2 * N * N + N * M)
    return transforms + 2 * (9 * M * N + 50 * N * N) + 10.0 * M * M * context_width


def _of_family(data: Any) -> CodecSpec:
    return data if isinstance(data, CodecSpec) else validate_by_family(data, CODECS, "arch")


def _architectures(family: type[CodecSpec]) -> tuple[str, ...]:
    """The names that a family's `arch` may have."""
    return typing.get_args(family.model_fields["arch"].annotation)


CODECS: Final = ClassRegistry(
    "bridgesweep.codecs",
    "search_spaces.codecs",
    "CODEC",
    CodecSpec,  # type: ignore[type-abstract]  # families are subclasses
    _architectures,
)
"""The families' settings classes by the names of their architectures."""

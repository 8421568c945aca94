"""classical: the encoder reads what a standard's codec decodes (JPEG, JPEG 2000, WebP, AVIF, VVC).

image --> file --> image --> complete encoder
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, Field, RootModel, model_validator

from search_spaces.scenarios.contract import Scenario, settings_as
from search_spaces.specs.base import Spec
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.space import Space
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages

ClassicalFormat = Literal["jpeg", "jpeg2000", "webp", "avif", "vvc"]

QUALITIES: Final[dict[str, tuple[int, int]]] = {
    "jpeg": (1, 95),
    "jpeg2000": (15, 60),
    "webp": (0, 100),
    "avif": (0, 100),
    "vvc": (0, 63),
}
"""Lowest and highest quality: of JPEG 2000 the PSNR in dB that it aims at, of VVC the QP, of which
less is better."""
_DEFAULTS: Final[dict[str, tuple[int, ...]]] = {
    "jpeg": (2, 5, 10, 20, 40),
    "jpeg2000": (18, 21, 24, 28, 32),
    "webp": (0, 5, 15, 30, 60),
    "avif": (2, 10, 20, 35, 55),
    "vvc": (57, 51, 45, 38, 30),
}


class ClassicalSpec(Spec):
    """A standard's codec at several qualities, through Pillow; VVC intra through ffmpeg."""

    format: ClassicalFormat
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = ""
    """Its `codec` in points; empty for its format."""
    qualities: tuple[int, ...] = ()
    """One per point; empty for five that span the rates. JPEG 1 to 95, WebP and AVIF 0 to 100, JPEG
    2000 the PSNR in dB that it aims at, 15 to 60; VVC the QP, 63 (worst) to 0."""

    @property
    def label(self) -> str:
        """The name in points and plots."""
        return self.name or self.format

    @property
    def rates(self) -> tuple[int, ...]:
        """The qualities."""
        return self.qualities or _DEFAULTS[self.format]

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = QUALITIES[self.format]
        wrong = [quality for quality in self.rates if not low <= quality <= high]
        if wrong:
            raise ValueError(f"qualities of {self.format} are {low} to {high}, not {wrong[0]}")
        if len(set(self.rates)) != len(self.rates):
            raise ValueError(f"qualities names something twice: {self.rates}")
        return self


class ClassicalCodecs(RootModel[tuple[ClassicalSpec, ...]]):
    """The standards' codecs of a space: `classical: [{format: avif}, ...]`."""

    model_config = Spec.model_config | {"extra": None}
    root: tuple[ClassicalSpec, ...] = ()


class Classical(Scenario):
    """A standard's codec. A space that lists one under `classical` has the scenario."""

    name = "classical"
    key = "classical"
    settings = ClassicalCodecs
    environment = "trainables.standards.files:ENVIRONMENT"
    trains = False
    depends_on_seed = False
    enters = "image"
    look = ScenarioLook(
        title="standard",
        order=20,
        family="image",
        colour="#882255",
        marker="X",
        line=":",
        codec="standard",
        image="own",
        sentence="The encoder reads the image that a standard's codec decodes.",
    )

    def codecs(self, space: Space) -> tuple[ClassicalSpec, ...]:
        """The standards' codecs of a space."""
        return settings_as(space, self.key, ClassicalCodecs).root

    def is_asked_for(self, settings: BaseModel) -> bool:
        """Whether a codec is listed."""
        assert isinstance(settings, ClassicalCodecs)
        return bool(settings.root)

    def problems(self, space: Space) -> Iterator[str]:
        """Reports names that clash, and a scenario without a codec."""
        specs = self.codecs(space)
        if not specs:
            yield "baselines: classical needs codecs, such as classical: [{format: avif}]"
        labels = [codec.label for codec in space.codecs] + [spec.label for spec in specs]
        if len(set(labels)) != len(labels):
            yield f"two codecs share a name ({', '.join(labels)}): give each a `name`"

    def applies_to(self, space: Space, codec: CodecSpec) -> bool:
        """No learned codec is used."""
        return False

    def own_points(self, space: Space) -> Iterator[OperatingPoint]:
        """A point per codec and quality."""
        for spec in self.codecs(space):
            for quality in spec.rates:
                yield OperatingPoint(
                    None, None, self.name, space.seeds[0], coder=spec.label, quality=quality
                )

    def format_of(self, space: Space, point: OperatingPoint) -> ClassicalFormat:
        """The format of a point's codec."""
        return next(spec.format for spec in self.codecs(space) if spec.label == point.coder)

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """Nothing."""
        return {}

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """The format, the quality, and the version of the library."""
        form = self.format_of(stages.space, point)
        return {"format": form, "quality": point.quality, "library": stages.fingerprint(form)}


SCENARIO = Classical()

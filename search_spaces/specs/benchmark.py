"""Published benchmarks: what the settings of all formats have in common.

A format is a file in `trainables/datasets/benchmarks/` with its own settings, its prompt and its
task; it is imported when a space names the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from search_spaces.facts.texts import class_lists
from search_spaces.plugins import ClassRegistry
from search_spaces.settings.family import validate_by_family
from search_spaces.settings.paths import locate
from search_spaces.settings.secrets import NO_SECRET, has_secret
from search_spaces.specs.base import Positive, Spec

IMAGE: Final = "<image>"
"""Where an image stands in a prompt."""


class BenchmarkSpec(Spec):
    """A published benchmark to measure on, besides the space's own data; base of the formats."""

    default_task: ClassVar[str]
    """The task in `trainables.tasks` that scores it."""
    default_prompt: ClassVar[str] = IMAGE
    """The prompt's template where `prompt` is null."""
    prompt_fields: ClassVar[tuple[str, ...]] = ()
    """What the format fills in: the names in braces that a template may have."""
    file_settings: ClassVar[tuple[str, ...]] = ("annotations",)
    """The settings that name files."""
    default_seed: ClassVar[int | None] = None
    """What `seed: null` means; None takes the first samples."""
    default_fit: ClassVar[Literal["crop", "pad"]] = "crop"
    """What `fit: null` means."""
    remark: ClassVar[str] = ""
    """What a reader of its numbers has to know, for the plan; empty for nothing."""
    asks_all: ClassVar[bool] = False
    """Whether it asks about all images of its directory, which then must not be trained on."""
    limits_itself: ClassVar[bool] = False
    """Whether the format's reader draws as many samples as `limit` says."""

    format: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]*$")] = ""
    """Its `dataset` in points; empty for its format. Letters, digits, `.`, `_`, `+` and `-`."""
    annotations: str
    """The file of the annotations: a path, or a URI that fsspec supports."""
    limit: Positive | None = None
    """How many samples are used; null for all."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Draws the samples that `limit` leaves; null takes the first."""
    prompt: str | None = None
    """Template with an `<image>` and, in braces, what the format fills in. null: the format's."""
    fit: Literal["crop", "pad"] | None = None
    """How an image becomes a square of `data.size`: the shorter side resized and the centre
    cropped, as the space's own images; or the longer one resized and grey added. null: pad for
    boxes, so that none is lost, and crop for all others."""

    @property
    def label(self) -> str:
        """The name in points and plots."""
        return self.name or self.format

    @property
    def task(self) -> str:
        """The task in `trainables.tasks` that scores it."""
        return self.default_task

    @property
    def template(self) -> str:
        """The prompt's template."""
        return self._default_template() if self.prompt is None else self.prompt

    @property
    def drawn_from(self) -> int | None:
        """The seed that `limit` draws samples with; None takes the first samples."""
        return self.default_seed if self.seed is None else self.seed

    @property
    def fitted(self) -> Literal["crop", "pad"]:
        """How an image becomes a square."""
        return self.fit or self.default_fit

    @property
    def image_directory(self) -> str | None:
        """The directory of the images, or its URI; None where the annotations hold them."""
        return None

    @property
    def chosen_split(self) -> str | None:
        """The split of the annotations that is used; None for all, or where there are none."""
        return None

    @property
    def shown_split(self) -> str:
        """The split in points: the benchmark's own name of it, or `test`."""
        return self.chosen_split or "test"

    @property
    def files(self) -> dict[str, str]:
        """Setting -> path or URI of every file that is read, without the images."""
        values = {setting: getattr(self, setting) for setting in self.file_settings}
        return {setting: uri for setting, uri in values.items() if uri is not None}

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that decide what the samples are, as JSON data; files by their checksum."""
        without = {"name", "prompt", "fit", "images", *self.file_settings}
        settings = self.model_dump(mode="json", exclude=without)
        if self.limit is not None:
            settings["seed"] = self.drawn_from
        elif not self.limits_itself:
            settings["seed"] = None
        origin = FORMATS.origin(self.format).identity
        plugin = {"plugin": origin} if origin else {}
        return {**settings, "prompt": self.template, "fit": self.fitted, **plugin}

    def _default_template(self) -> str:
        return self.default_prompt

    @model_validator(mode="before")
    @classmethod
    def _make_absolute(cls, settings: object) -> object:
        if not isinstance(settings, Mapping):
            return settings
        paths = (*cls.file_settings, "images")
        return {k: _located(value) if k in paths else value for k, value in settings.items()}

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = self._prompt_problems()
        for uri in (*self.files.values(), self.image_directory or ""):
            if has_secret(uri):
                problems.append(f"a URI {NO_SECRET}")
        if problems:
            raise ValueError("\n".join(dict.fromkeys(problems)))
        return self

    def _prompt_problems(self) -> list[str]:
        if self.prompt is None:
            return []
        setting = f"prompt = {self.prompt!r}"
        try:
            names = [name for _, name, _, _ in Formatter().parse(self.prompt) if name is not None]
        except ValueError as error:
            return [f"{setting}: {error}; write {{{{ and }}}} for braces"]
        problems = []
        if self.prompt.count(IMAGE) != 1:
            problems.append(f"{setting}: must hold {IMAGE} once")
        if wrong := [name for name in names if name not in self.prompt_fields]:
            valid = ", ".join(f"{{{name}}}" for name in self.prompt_fields) or "none"
            problems.append(
                f"{setting}: {{{wrong[0]}}} is no field of {self.format}; valid: {valid}"
            )
        return problems


class ImageDirectorySpec(BenchmarkSpec):
    """A benchmark whose images stand in a directory."""

    images: str
    """The directory (or its URI) of the images. An image is found by its path there, or else by its
    name wherever it stands below; COCO's names with and without their `COCO_val2014_`."""

    @property
    def image_directory(self) -> str | None:
        """The directory of the images, or its URI."""
        return self.images


def _located(value: Any) -> Any:
    """A list of classes by its name, or the absolute path of a file."""
    return value if value in class_lists() else locate(value)


FORMATS: Final = ClassRegistry(
    "bridgesweep.benchmarks", "trainables.datasets.benchmarks", "FORMAT", BenchmarkSpec
)
"""The classes of the formats' settings."""


def benchmark_spec(settings: object) -> BenchmarkSpec:
    """A benchmark's settings, of the class that belongs to their `format`.

    Raises:
        ValidationError: no such format is installed, or the settings are not the format's.
    """
    if isinstance(settings, BenchmarkSpec):
        return settings
    return validate_by_family(settings, FORMATS, "format")


AnyBenchmark = Annotated[SerializeAsAny[BenchmarkSpec], BeforeValidator(benchmark_spec)]
"""A benchmark of any format, validated by the format's own class."""

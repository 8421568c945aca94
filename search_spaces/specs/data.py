"""The images and the tasks over them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from search_spaces.settings.paths import LocationOrName
from search_spaces.settings.secrets import NO_SECRET, has_secret
from search_spaces.specs.base import Fraction, Positive, Spec

MADE_KINDS: Final = ("scenes", "tabletop")
"""The kinds of data that the project makes itself."""
_OF_MADE: Final = {"scenes": {"episodes"}, "tabletop": {"levels"}}
"""The settings that one of them has alone."""
SceneCount = Literal["train", "val", "test", "episodes"]
"""The settings that say how many scenes there are."""
_COLUMNS: Final = {"image_column", "label_column"}


class SplitNames(Spec):
    """Which of a data set's own splits each of ours is taken from."""

    train: str
    val: str
    test: str


class DataSpec(Spec):
    """The images and the tasks over them.

    `scenes` and `tabletop` are made; of the other kinds, which are data sets, `uri` says where they
    are. Their images are resized to `size` on the shorter side (bicubic, as Pillow and torchvision
    do) and cropped in the centre, once, and kept without loss.
    """

    kind: Literal["scenes", "tabletop", "folder", "parquet", "datasets"] = "scenes"
    """`scenes`: digits on photographs, made from bundled data. `tabletop`: textured things, of
    which some are partly hidden, and a card to read, made from nothing. `folder`: image files, a
    folder per class, with or without a folder per split above them. `parquet`: Parquet files with a
    column of images. `datasets`: a directory of Hugging Face datasets, as `save_to_disk` writes it
    (Arrow) or as it stands on the hub (Parquet)."""
    name: str = ""
    """How the data set is called in points; empty for the last part of `uri`, or for
    the kind where it is made."""
    uri: LocationOrName | None = None
    """A data set's directory (or a Parquet file): a path, or a URI that fsspec knows."""
    splits: SplitNames | None = None
    """null: the data set's own train, val (validation, valid, dev) and test. Where it lacks one,
    test is taken from its val, and what else is lacking from its train; where it has none, all
    from all of its images. Splits of one origin never share an image."""
    names: LocationOrName | None = None
    """What names the classes: `imagenet-1000` (the names that CLIP's authors chose for ImageNet's
    synsets), or a file: lines `KEY NAME`, of which the name counts up to its first comma (the usual
    list of synsets), or JSON, {KEY: NAME} or a list. KEY is the class's folder or the value in
    `label_column`. null: what the data set itself says."""
    image_column: str = "image"
    """Of Parquet and datasets: encoded images, bare or beside their path (`bytes`, `path`)."""
    label_column: str | None = "label"
    """Of Parquet and datasets: a whole number or a text; null for images without classes."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the scenes; of which images of a data set are taken, and in which order."""
    size: Positive = 128
    """Height and width in pixels of the image given to the codec; a multiple of every codec's
    `pad_to` (64 for most)."""
    train: Positive | None = None
    """Training images; null for 4096 scenes, or for all that the data set has."""
    val: Positive | None = None
    """Validation images: checkpoints are chosen on them. null for 128 scenes; of a data set, for
    all that are in a split of their own, else for a twentieth of those that they are taken from."""
    test: Positive | None = None
    """Test images: every number that is reported comes from them. null for 256 scenes; of a data
    set as for `val`."""
    episodes: Positive = 256
    """Test episodes of few-shot classification on scenes."""
    levels: Annotated[tuple[Annotated[int, Field(ge=0, le=3)], ...], Field(min_length=1)] = (
        *(0, 1, 2, 3),
    )
    """How difficult tables are, each scene of one that is drawn: from 0, two or three large things
    and large text, to 3, five or six things that may hide each other, small text and noise."""
    shard_size: Positive = 512
    """Images per file of pre-computed features and latents that are made now. Those that are
    stored in files of another size serve as well; training reads them in the same order."""
    max_unreadable: Fraction = 0.01
    """Share of unreadable images above which a sweep stops: of training and validation images
    together, and of test images; in an evaluation also of images whose stream does not decode."""

    @property
    def is_made(self) -> bool:
        """Whether the project makes the images itself, with samples of tasks."""
        return self.kind in MADE_KINDS

    @property
    def has_episodes(self) -> bool:
        """Whether few-shot episodes are made of it."""
        return "episodes" in _OF_MADE.get(self.kind, ())

    @property
    def label(self) -> str:
        """The name in points and plots."""
        if self.name or self.uri is None:
            return self.name or self.kind
        return self.uri.rstrip("/").rpartition("/")[2] or self.kind

    def scenes(self, *counts: SceneCount) -> dict[str, Any]:
        """The settings that decide what made images are, as JSON data.

        Args:
            counts: settings that say how many.
        """
        used = {"kind", "seed", "size", *counts}
        return self.model_dump(mode="json", include=used | (_OF_MADE[self.kind] - {"episodes"}))

    @property
    def form(self) -> dict[str, Any]:
        """The settings that decide what becomes of a data set's images, as JSON data."""
        columns = set() if self.kind == "folder" else _COLUMNS
        return self.model_dump(mode="json", include={"kind", "size", *columns})

    @property
    def selection(self) -> dict[str, Any]:
        """The settings that decide which images of a data set are used, as JSON data."""
        used = {"uri", "splits", "names", "seed", "train", "val", "test"}
        return self.model_dump(mode="json", include=used)

    @model_validator(mode="before")
    @classmethod
    def _scenes(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("kind", "scenes") in MADE_KINDS:
            return {"train": 4096, "val": 128, "test": 256, **values}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        valid = {**_OF_MADE, "folder": set[str]()}.get(self.kind, _COLUMNS)
        if not self.is_made:
            valid = valid | {"name", "uri", "splits", "names"}
            if not self.uri:
                problems.append(f"uri must be given where kind is {self.kind!r}")
        elif None in (self.train, self.val, self.test):
            problems.append(f"train, val and test must be numbers where kind is {self.kind!r}")
        if len(set(self.levels)) < len(self.levels):
            problems.append(f"levels {[*self.levels]}: each may stand once")
        for setting in sorted({"episodes", "levels", "uri", "splits", "names", *_COLUMNS} - valid):
            if getattr(self, setting) != type(self).model_fields[setting].default:
                problems.append(f"{setting} is no setting of kind {self.kind!r}")
        for uri in (self.uri, self.names):
            if uri is not None and has_secret(uri):
                problems.append(f"uri and names {NO_SECRET}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

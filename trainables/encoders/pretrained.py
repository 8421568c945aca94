"""Pretrained models by name, and what they make of an image before they look at it.

Shapes: `B` images, `S` side of the encoder's input in pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedTokenizerFast

from search_spaces.facts.mllm_families import Family, find_family
from search_spaces.plugins import implementation
from search_spaces.settings.paths import split_revision

SHIPPED = Path(__file__).parents[1] / "shipped"
_PREFIX = "shipped:"
_RESAMPLING = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, as they stand in a preprocessor's configuration."""


def resolve_pretrained(name: str) -> str:
    """The directory of a model inside this package; any other name as it is.

    Args:
        name: `shipped:NAME`, a directory, or a hub id with or without a revision.

    Raises:
        ValueError: nothing of that name is shipped.
    """
    if not name.startswith(_PREFIX):
        return name
    wanted = name.removeprefix(_PREFIX)
    shipped = sorted(p.parent.name for p in SHIPPED.glob("*/config.json"))
    if wanted not in shipped:
        choices = ", ".join(f"{_PREFIX}{s}" for s in shipped)
        raise ValueError(f"pretrained model {name!r} is not shipped; shipped are: {choices}")
    return str(SHIPPED / wanted)


@contextlib.contextmanager
def named(setting: str, name: str) -> Iterator[None]:
    """Name the setting in the errors of a model's files, which often name the hub alone.

    Args:
        setting: that names the model.
        name: as of `resolve_pretrained`.

    Raises:
        OSError: of the same kind as the one that it follows.
    """
    try:
        yield
    except OSError as error:
        # The hub's own kinds want a response as well.
        kind = type(error) if type(error).__module__ == "builtins" else OSError
        raise kind(f"{setting}: {name} cannot be loaded: {error}") from error


def load_pretrained(kind: Any, name: str, **options: Any) -> Any:
    """What a class of transformers loads by a model's name: of one revision, and none of its code.

    Args:
        kind: has `from_pretrained`.
        name: as of `resolve_pretrained`.
        options: of `kind.from_pretrained`.
    """
    path, revision = split_revision(resolve_pretrained(name))
    pinned = {} if revision is None else {"revision": revision}
    return kind.from_pretrained(path, trust_remote_code=False, **pinned, **options)


def load_weights(kind: Any, name: str, **options: Any) -> Any:
    """A model with its weights, which are never read from a pickle.

    Args:
        kind, name, options: as of `load_pretrained`.

    Raises:
        OSError: there are no weights in safetensors.
    """
    return load_pretrained(kind, name, use_safetensors=True, **options)


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer beside a model's weights."""
    tokenizer = load_pretrained(AutoTokenizer, name)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


@lru_cache(maxsize=8)
def _lanczos(side: int, size: int) -> Tensor:
    """(size, side): Pillow's weights, found by resizing each unit vector."""
    unit = Image.fromarray(np.eye(side, dtype=np.float32))
    return torch.from_numpy(np.array(unit.resize((side, size), Image.Resampling.LANCZOS)))


@dataclass(frozen=True)
class Preprocessing:
    """How a CLIP or a SigLIP wants images: resized and normalised."""

    size: int
    """S in pixels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Per channel."""
    resampling: str = "bicubic"
    """`bicubic`, `bilinear` or `lanczos`."""

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], of any size -> (B, 3, S, S)."""
        if self.resampling == "lanczos":
            rows, columns = (_lanczos(side, self.size).to(images) for side in images.shape[-2:])
            resized = rows @ images @ columns.T
        else:
            resized = F.interpolate(
                images,
                size=(self.size, self.size),
                mode=self.resampling,
                align_corners=False,
                antialias=True,
            )
        mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (resized.clamp(0.0, 1.0) - mean) / std


def mllm_class(family: Family) -> Any:
    """The class that a family's models are loaded with.

    Raises:
        BrokenPluginError: a class of another distribution cannot be imported.
    """
    if ":" in family.model_class:
        return implementation(family.model_class)
    return getattr(transformers, family.model_class)


def load_config(name: str) -> Any:
    """A model's configuration; of an MLLM of another distribution as its class reads it.

    Args:
        name: as of `resolve_pretrained`.

    Raises:
        OSError: there is none.
        ValueError: transformers does not know the model.
    """
    path, revision = split_revision(resolve_pretrained(name))
    content, _ = transformers.PreTrainedConfig.get_config_dict(path, revision=revision)
    family = find_family(str(content.get("model_type")))
    if family is None or ":" not in family.model_class:
        return load_pretrained(transformers.AutoConfig, name)
    return load_pretrained(mllm_class(family).config_class, name)


def load_processor(name: str) -> Any:
    """A model's processor; None for a local directory that has none.

    Args:
        name: as of `resolve_pretrained`.
    """
    files = ("processor_config.json", "preprocessor_config.json")
    directory = Path(resolve_pretrained(name))
    if directory.is_dir() and not (directory / files[0]).is_file():
        return None
    processor = load_pretrained(transformers.AutoProcessor, name)
    return processor if isinstance(processor, transformers.ProcessorMixin) else None


def load_preprocessing(name: str, size: int) -> Preprocessing:
    """How a model wants images, from the configuration beside its weights.

    Args:
        name: as `resolve_pretrained` takes it.
        size: S, side of the square images that its visual encoder reads.

    Raises:
        ValueError: it does something else than resizing a square image to S and normalising it.
    """
    images: Any = load_pretrained(AutoImageProcessor, name)
    side = _side(images)
    if side != size or images.resample not in _RESAMPLING:
        raise ValueError(
            f"{name!r}: its preprocessor makes images of side {side} with resampling "
            f"{images.resample}, the encoder wants {size}; known resamplings are {_RESAMPLING}"
        )
    mean, std = tuple(images.image_mean), tuple(images.image_std)
    return Preprocessing(size, mean, std, _RESAMPLING[images.resample])


def _side(images: Any) -> int | None:
    """The side of the square that a preprocessor makes of a square image."""
    if getattr(images, "max_image_size", None):
        # Idefics and its kin: the side of one view, whatever larger sizes they cut views from.
        return int(images.max_image_size["longest_edge"])
    size = images.crop_size if getattr(images, "do_center_crop", None) else images.size
    for name in ("shortest_edge", "height"):
        side = size.get(name) if isinstance(size, dict) else getattr(size, name, None)
        if side:
            return int(side)
    return None

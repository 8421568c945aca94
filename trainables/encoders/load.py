"""Loading a teacher by name: a CLIP, a SigLIP, or the visual tower of an MLLM."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    CLIPModel,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
    SiglipModel,
    SiglipVisionModel,
)

from search_spaces.facts.encoders import CLIP_LIKE, EncoderSizes, encoder_sizes, released_config
from search_spaces.facts.mllm_families import Family, find_family
from trainables.encoders.generic_tower import GenericTower
from trainables.encoders.pretrained import (
    Preprocessing,
    load_config,
    load_preprocessing,
    load_weights,
    mllm_class,
    named,
    resolve_pretrained,
)
from trainables.encoders.tower import Tower, usual_preprocessing


def load_tower(name: str) -> Tower:
    """A teacher in single precision: frozen, in evaluation mode.

    Args:
        name: `shipped:NAME`, a directory or a hub id, `ORG/MODEL` or `ORG/MODEL@REVISION`, of a
            transformers CLIP, SigLIP or MLLM. An MLLM is loaded whole, and all but its visual tower
            dropped.

    Raises:
        OSError: there is no such model, or it has no weights in safetensors.
        ValueError: a model of another kind, weights are missing in its file, or its preprocessor
            does something else than resizing to the encoder's size and normalising.
    """
    with named("teacher.model", name):
        return _loaded(name)


def _loaded(name: str) -> Tower:
    config = load_config(name)
    sizes = encoder_sizes(config.to_dict())
    family = find_family(config.model_type)
    kind: Any = _class_of(config) if family is None else mllm_class(family)
    precision: Any = torch.float32 if family is None else "auto"
    model, loading = load_weights(kind, name, dtype=precision, output_loading_info=True)
    inside = "" if family is None else f"{family.tower}."
    _demand_whole(name, loading, inside)
    vision: Any = _vision_of(model, family)
    vision.to(torch.float32)
    try:
        return _tower(vision, sizes, _preprocessing(name, sizes))
    except ValueError as error:
        raise ValueError(f"teacher.model {name!r}: {error}") from error


def meta_tower(name: str) -> Tower:
    """A teacher without weights, on the meta device: for counting. Released models need no hub.

    Args:
        name: as in `load_tower`.

    Raises:
        OSError: no configuration by that name can be read.
        ValueError: a model of another kind.
    """
    known = released_config(name)
    config = load_config(name) if known is None else AutoConfig.for_model(**known)
    sizes = encoder_sizes(config.to_dict())
    with torch.device("meta"):
        if (family := find_family(config.model_type)) is None:
            model = _class_of(config)(config)
        else:
            kind = mllm_class(family)
            model = kind(config) if hasattr(kind, "config_class") else kind.from_config(config)
    return _tower(_vision_of(model, family), sizes, usual_preprocessing(sizes))


def _tower(vision: PreTrainedModel, sizes: EncoderSizes, preprocessing: Preprocessing) -> Tower:
    vision.train(False)
    vision.requires_grad_(False)
    if sizes.family in CLIP_LIKE:
        return Tower(vision, preprocessing, sizes)
    return GenericTower(vision, sizes, preprocessing)


def _vision_of(model: Any, family: Family | None) -> PreTrainedModel:
    """The model itself; of an MLLM its visual tower."""
    vision: PreTrainedModel = model if family is None else attrgetter(family.tower)(model)
    return vision


def _demand_whole(name: str, loading: Mapping[str, Any], inside: str) -> None:
    names = map(str, (*loading["missing_keys"], *loading["mismatched_keys"]))
    absent = sorted(weight for weight in names if weight.startswith(inside))
    if absent:
        raise ValueError(
            f"teacher.model {name!r}: {len(absent)} weights are missing in its file or of another "
            f"shape, such as {', '.join(absent[:3])}"
        )


def _preprocessing(name: str, sizes: EncoderSizes) -> Preprocessing:
    directory = Path(resolve_pretrained(name))
    files = [directory / file for file in ("preprocessor_config.json", "processor_config.json")]
    if directory.is_dir() and not any(file.is_file() for file in files):
        # No preprocessor stands beside the weights: the family's own normalisation.
        return usual_preprocessing(sizes)
    return load_preprocessing(name, sizes.image_size)


def _class_of(config: Any) -> Any:
    classes = {
        "clip": CLIPModel,
        "clip_vision_model": CLIPVisionModel,
        "siglip": SiglipModel,
        "siglip_vision_model": SiglipVisionModel,
    }
    if CLIPVisionModelWithProjection.__name__ in (config.architectures or ()):
        return CLIPVisionModelWithProjection
    return classes[config.model_type]

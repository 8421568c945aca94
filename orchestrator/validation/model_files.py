"""Files of a model at hand: in a local directory, shipped, or in the hub's cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from orchestrator.storage.provenance import local_path
from orchestrator.storage.store import JsonObject
from search_spaces.settings.paths import is_regular, split_revision

OWN_CODE: Final = "a model's own code (auto_map) is never run"


def model_file(name: str, file: str) -> Path | None:
    """A file of a model; None if it is not on this machine.

    Args:
        name: `shipped:NAME`, a local directory or a hub id, with or without a revision.
        file: its name.
    """
    path = local_path(name)
    if path is not None:
        return path / file if is_regular(path / file) else None
    model, revision = split_revision(name)
    try:
        cached = try_to_load_from_cache(model, file, revision=revision)
    except HFValidationError:  # no hub id; reported when its revision is asked for
        return None
    return Path(cached) if isinstance(cached, str) else None


def read_config(name: str, file_name: str = "config.json") -> JsonObject | None:
    """A configuration of a model; None if it is not on this machine.

    Raises:
        ValueError: it cannot be read.
    """
    file = model_file(name, file_name)
    if file is None:
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file} cannot be read: no JSON object")
    return config


def check_configs(name: str) -> str | None:
    """The mistake in the configurations of a model on this machine, or None.

    transformers would find the class of an unknown image processor in the model's own code only.
    """
    try:
        processor = read_config(name, "preprocessor_config.json") or {}
        read_config(name)
    except ValueError as error:
        return str(error)
    kind = processor.get("image_processor_type")
    if not processor.get("auto_map") or kind is None:
        return None
    import transformers  # takes a second, and few models bring code

    known = kind in dir(transformers)
    return None if known else f"transformers has no image processor {kind!r}, and {OWN_CODE}"


def note_on_code(config: JsonObject) -> str:
    """What to add where a model is refused that brings code."""
    return f"; {OWN_CODE}" if config.get("auto_map") else ""

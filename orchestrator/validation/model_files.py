"""Files of a model at hand: in a local directory, shipped, or in the hub's cache."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from orchestrator.storage.provenance import local_path
from orchestrator.storage.store import JsonObject
from search_spaces.settings.paths import split_revision


def model_file(name: str, file: str) -> Path | None:
    """A file of a model; None if it is not on this machine.

    Args:
        name: `shipped:NAME`, a local directory or a hub id, with or without a revision.
        file: its name.
    """
    path = local_path(name)
    if path is not None:
        return path / file if (path / file).is_file() else None
    model, revision = split_revision(name)
    try:
        cached = try_to_load_from_cache(model, file, revision=revision)
    except HFValidationError:  # no hub id; reported when its revision is asked for
        return None
    return Path(cached) if isinstance(cached, str) else None


def read_config(name: str) -> JsonObject | None:
    """The `config.json` of a model; None if it is not on this machine.

    Raises:
        ValueError: it cannot be read.
    """
    file = model_file(name, "config.json")
    if file is None:
        return None
    try:
        config: JsonObject = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    return config

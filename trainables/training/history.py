"""What was trained before: how long a base codec, and the point that a training starts from, were.

shipped weights, base codec, start --> the entries `before` of a training's info.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from trainables.codecs import RECORD_FILE
from trainables.training.loop import INFO_FILE

BASE_CODEC: Final = "base codec"
"""What was trained, in place of a scenario's name."""
_TRAINING: Final = ("of", "steps", "images", "seconds", "until", "fall_of_last_quarter")
"""Entries that say how long a training was."""


def trainings_before(*stages: Path | None) -> list[dict[str, Any]]:
    """How long the base codec and the point that a training starts from were trained.

    Args:
        stages: their directories, the earlier first; None where there is none.

    Returns:
        The entries of each training, each once, the earliest first; those that a stage of an
        earlier version does not know are None.
    """
    trainings: list[dict[str, Any]] = []
    for directory in stages:
        if directory is None or not (directory / INFO_FILE).is_file():
            continue
        info = json.loads((directory / INFO_FILE).read_text(encoding="utf-8"))
        last = [{name: info.get(name) for name in _TRAINING}] if info.get("steps") else []
        known = [*info.get("before", ()), *last]
        trainings += [training for training in known if training not in trainings]
    return trainings


def recorded_trainings(weights: str) -> list[dict[str, Any]]:
    """How long weights that come with their record were trained; empty without one.

    Args:
        weights: a file, a directory, or the name of CompressAI's.
    """
    record = Path(weights) / RECORD_FILE
    if not record.is_file():
        return []
    trainings: list[dict[str, Any]] = json.loads(record.read_text(encoding="utf-8")).get(
        "trainings", []
    )
    return trainings

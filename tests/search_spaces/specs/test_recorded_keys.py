"""Keys of shipped spaces are as recorded: finished sweeps are found again by a newer version.

A change that makes other content must change keys; then record them anew:
`RECORD_KEYS=1 pytest tests/search_spaces/specs/test_recorded_keys.py`, and say so in the commit.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from search_spaces import (
    Stages,
    evaluation_stage,
    load_space,
    named_spaces,
    operating_points,
    point_stage,
)

FILE = Path(__file__).with_name("recorded_keys.json")


def digests(name: str) -> dict[str, str]:
    """Scenario -> digest over the keys of its points and evaluations in a space."""
    space = load_space(name)
    stages, keys = Stages(space), dict[str, list[str]]()
    for point in operating_points(space):
        listed = keys.setdefault(point.scenario, [])
        listed.append(f"{point.label}: {point_stage(stages, point).key}")
        for measurement in stages.of(point.variant).space.measurements:
            listed.append(evaluation_stage(stages, point, measurement).key)
    joined = {scenario: "\n".join(sorted(listed)) for scenario, listed in keys.items()}
    return {s: hashlib.sha256(text.encode()).hexdigest()[:12] for s, text in joined.items()}


@pytest.mark.parametrize("name", named_spaces())
def test_keys_are_as_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without checksums a model's path is its identity; relative ones are seen from here.
    monkeypatch.chdir("/")
    recorded = json.loads(FILE.read_text()) if FILE.exists() else {}
    if os.environ.get("RECORD_KEYS"):
        recorded[name] = digests(name)
        FILE.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    assert digests(name) == recorded[name]

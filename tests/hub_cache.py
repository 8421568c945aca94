"""A cache of the hub with models of a test, and no way to the hub."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest


def use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def add_snapshot(cache: Path, model: str, commit: str, directory: Path, ref: str = "") -> Path:
    """Put a model into the cache as a commit, which a branch or tag may name."""
    repository = cache / f"models--{model.replace('/', '--')}"
    shutil.copytree(directory, repository / "snapshots" / commit)
    if ref:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / ref).write_text(commit)
    return repository / "snapshots" / commit

"""Distributions with entry points, installed for the time of a test."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from search_spaces.facts.mllm_families import FAMILIES
from search_spaces.facts.tasks import TASK_FACTS
from search_spaces.specs.codec import CODECS
from trainables.tasks import TASKS

REGISTRIES = (TASKS, TASK_FACTS, FAMILIES, CODECS)


@contextmanager
def installed(
    directory: Path,
    name: str,
    modules: Mapping[str, str],
    entry_points: str,
    version: str = "1.5",
) -> Iterator[None]:
    """A distribution on the path.

    Args:
        directory: an empty one, where it is written.
        modules: name of each of its modules -> source.
        entry_points: content of its `entry_points.txt`.
    """
    for module, source in modules.items():
        (directory / f"{module}.py").write_text(source)
    about = directory / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(entry_points)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(directory))
        for registry in REGISTRIES:
            registry.forget()
        try:
            yield
        finally:
            patch.undo()
            for registry in REGISTRIES:
                registry.forget()
            for module in modules:
                sys.modules.pop(module, None)

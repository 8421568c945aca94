"""What a storage holds of earlier stages: their manifests, read only where they are needed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from orchestrator.plan.subjects import SubjectFields
from orchestrator.storage.store import MANIFEST, Store, parse_manifest

MOST_READ: Final = 2000
"""Manifests of a kind that are read, the newest first: a plan of a large storage takes seconds."""

Leaves = dict[str, Any]
"""Settings by dotted path."""


@dataclass(frozen=True)
class Past:
    """A complete stage, as its manifest describes it.

    Attributes:
        leaves: its settings by dotted path; a list is one leaf.
        inputs: keys of the stages that it was made from.
        subject: see `subject_fields`; None in a manifest without it.
        version: of its code; None in a manifest without it.
        seconds: of computing.
        cost: what was planned for it, in rough seconds on one core; None in a manifest without it.
        size: bytes of its files.
        created: seconds since 1970.
    """

    kind: str
    key: str
    leaves: Leaves
    inputs: tuple[str, ...]
    subject: SubjectFields | None
    version: int | None
    seconds: float
    cost: float | None
    size: int
    created: float


class History:
    """The complete stages of a storage, listed once, when one is first asked for.

    Args:
        store: the storage; it may not exist yet.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._paths: dict[str, str] | None = None
        self._stages: dict[str, Past | None] = {}
        self._kinds: dict[str, tuple[Past, ...]] = {}
        self._newest: dict[str, list[str]] = {}

    def of_kind(self, kind: str) -> tuple[Past, ...]:
        """The stages of a kind, the newest first, `MOST_READ` at most."""
        if kind not in self._kinds:
            self._listed()
            keys = self._newest.get(kind, [])[:MOST_READ]
            self._read([key for key in keys if key not in self._stages])
            stages = (self._stages[key] for key in keys)
            self._kinds[kind] = tuple(stage for stage in stages if stage is not None)
        return self._kinds[kind]

    def get(self, key: str) -> Past | None:
        """A stage of any kind; None if the storage does not hold it."""
        if key not in self._stages:
            self._read([key] if key in self._listed() else [])
        return self._stages.get(key)

    def left_out(self, kind: str) -> int:
        """How many stages of a kind are not read."""
        self._listed()
        return max(0, len(self._newest.get(kind, [])) - MOST_READ)

    def _listed(self) -> Mapping[str, str]:
        """Key -> path of each manifest, from one listing."""
        if self._paths is None:
            files = self._store.below("stages")
            paths = {
                path.parts[2]: (path.parts[1], str(path), files[str(path)] or 0.0)
                for path in map(PurePosixPath, files)
                if path.name == MANIFEST and len(path.parts) == 4
            }
            self._paths = {key: path for key, (_, path, _) in paths.items()}
            newest = defaultdict(list)
            for key, (kind, _, _) in sorted(paths.items(), key=lambda e: e[1][2], reverse=True):
                newest[kind].append(key)
            self._newest = dict(newest)
        return self._paths

    def _read(self, keys: list[str]) -> None:
        paths = self._listed()
        for key, text in zip(keys, self._store.read_all(paths[k] for k in keys), strict=True):
            self._stages[key] = _past(key, str(PurePosixPath(paths[key]).parent), text)


def _past(key: str, stage: str, text: bytes | None) -> Past | None:
    """A stage from its manifest; None if that is gone or damaged."""
    try:
        manifest = parse_manifest(stage, text or b"")
        return Past(
            PurePosixPath(manifest["stage"]).parts[1],
            key,
            leaves_of(manifest["spec"]),
            tuple(manifest["inputs"]),
            manifest.get("subject"),
            manifest.get("version"),
            float(manifest["seconds"]),
            manifest.get("cost"),
            sum(file["bytes"] for file in manifest["files"].values()),
            float(manifest["created"]),
        )
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def leaves_of(spec: Mapping[str, Any]) -> Leaves:
    """Settings by dotted path, as they are read back from JSON."""
    return dict(_leaves(json.loads(json.dumps(spec)), ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _leaves(part, f"{path}.{name}" if path else name)
    else:
        yield path, value

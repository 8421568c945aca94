"""Why a stage is made again: the settings that changed since the stage that it replaces.

stage to make --same kind and subject, most similar--> earlier stage that no job reads any more
both --differences of settings; of inputs that differ, theirs--> "d1.lr 0.0001 -> 0.0002"
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any, Final

from orchestrator.plan.history import History, Leaves, Past, leaves_of
from orchestrator.plan.subjects import subject_fields
from search_spaces import Space, Stage
from search_spaces.scenarios import scenario_of
from search_spaces.specs.data import DataSpec
from search_spaces.specs.stage import VERSIONS

_LONGEST_VALUE: Final = 40
_UNSET: Final = object()

Changes = Mapping[str, tuple[Any, Any]]
"""Dotted path of a setting in a stage's spec -> its values before and now."""


class Reasons:
    """Why stages are made again.

    Args:
        history: of the storage.
        space: what is swept.
        current: keys of all its stages, which no other stage replaces.
    """

    def __init__(self, history: History, space: Space, current: Collection[str]) -> None:
        self._history = history
        self._space = space
        self._current = current
        self._settings: dict[str, Leaves] = {}
        self._replaceable: dict[str, dict[str, list[Past]]] = {}
        self._explained: dict[tuple[str, str], tuple[str, ...]] = {}

    def of(self, stage: Stage) -> tuple[str, ...]:
        """What changed since the stage that this one replaces, a setting each.

        Empty if the storage holds no stage that it replaces: it is new.
        """
        past = self._replaced_by(stage)
        return () if past is None else self._differences(stage, past)

    def _replaced_by(self, stage: Stage) -> Past | None:
        """The stage of the same kind and subject with the fewest differences, then the newest."""
        if stage.kind not in self._replaceable:
            by_subject = defaultdict(list)
            for past in self._history.of_kind(stage.kind):
                if past.key not in self._current and past.subject is not None:
                    by_subject[_text(past.subject)].append(past)
            self._replaceable[stage.kind] = by_subject
        candidates = self._replaceable[stage.kind].get(_text(subject_fields(stage)), [])
        return min(candidates, key=lambda past: len(self._differences(stage, past)), default=None)

    def _differences(self, stage: Stage, past: Past) -> tuple[str, ...]:
        """The differences of a stage from an earlier one, each once."""
        pair = stage.key, past.key
        if pair not in self._explained:
            changed = self._set(stage, _changed(past.leaves, leaves_of(stage.spec)))
            lines = [
                f"{setting_of(stage, path)} {_shown(old)} -> {_shown(new)}"
                for path, (old, new) in changed.items()
            ]
            if past.version is not None and past.version != VERSIONS[stage.kind]:
                new_version = VERSIONS[stage.kind]
                lines.append(f"the code of {stage.kind}, version {past.version} -> {new_version}")
            lines += self._changed_inputs(stage, past)
            self._explained[pair] = tuple(dict.fromkeys(lines))
        return self._explained[pair]

    def _set(self, stage: Stage, changed: Changes) -> Changes:
        """The changes without settings that are not set and follow another one that changed."""
        variant = stage.subject.variant
        if variant not in self._settings:
            self._settings[variant] = leaves_of(self._space.of(variant).model_dump(mode="json"))
        settings = self._settings[variant]
        explicit = {
            path: values
            for path, values in changed.items()
            if values[1] is None or settings.get(setting_of(stage, path), values[1]) is not None
        }
        return explicit or changed

    def _changed_inputs(self, stage: Stage, past: Past) -> list[str]:
        """The differences of the inputs that are not the same, followed to the first ones."""
        new = [read for read in stage.inputs if read.key not in past.inputs]
        keys = {read.key for read in stage.inputs}
        gone = [key for key in past.inputs if key not in keys]
        old = defaultdict(list)
        for key in gone:
            if (before := self._history.get(key)) is not None:
                old[before.kind].append(before)
        lines: list[str] = []
        for read in new:
            before = old[read.kind].pop(0) if old[read.kind] else None
            if before is None:
                is_added = len(stage.inputs) > len(past.inputs)
                lines.append(f"{'now reads' if is_added else 'other'} {read.kind}")
            else:
                lines += self._differences(read, before)
        if not new and gone:
            lines += [f"no longer reads {kind}" for kind, stages in old.items() if stages]
        return lines


def setting_of(stage: Stage, path: str) -> str:
    """The name of a stage's setting as a person sets it, as far as it can be told.

    Args:
        path: dotted, in the stage's spec.
    """
    root, point, codec = path.partition(".")[0], stage.subject.point, stage.subject.codec
    if path == "teacher":
        return "teacher.model"
    if point is not None:
        scenario = scenario_of(point.scenario)
        if root == "train" and scenario.key:
            return f"{scenario.key}{path.removeprefix(root)}"
        if scenario.settings is not None and root in scenario.settings.model_fields:
            return f"{scenario.key}.{path}"
    elif stage.subject.benchmark is not None:
        return f"benchmarks.{stage.subject.benchmark.label}.{path}"
    elif codec is not None and root in type(codec).model_fields:
        return f"codecs.{codec.label}.{path}"
    elif root in DataSpec.model_fields:
        return f"data.{path}"
    return path if root in Space.model_fields else f"{stage.kind}.{path}"


def _changed(old: Leaves, new: Leaves) -> Changes:
    """Dotted path -> values, of the settings that differ."""
    pairs = {path: (old.get(path, _UNSET), new.get(path, _UNSET)) for path in {**old, **new}}
    return {path: (before, after) for path, (before, after) in pairs.items() if before != after}


def _shown(value: object) -> str:
    """A value as it is set, shortened."""
    text = "unset" if value is _UNSET else json.dumps(value).strip('"')
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _text(subject: Mapping[str, object]) -> str:
    return json.dumps(subject, sort_keys=True)

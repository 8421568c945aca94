"""Which stages a storage holds, asked for once each, or by one listing where there are many."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from orchestrator.storage.store import Store
from search_spaces import Stage

_MOST_ASKED_FOR: Final = 100
"""Stages of a kind that are asked for one by one; of more, the storage is listed."""


class StoredStages:
    """The complete stages of a storage, as far as they were asked for.

    Args:
        store: the storage; None for one that is empty.

    Attributes:
        by_key: complete stages; whoever knows of others may add them.
    """

    def __init__(self, store: Store | None) -> None:
        self.by_key: dict[str, Stage] = {}
        self._store = store
        self._absent: frozenset[str] = frozenset()

    def __getstate__(self) -> dict[str, object]:
        """What is pickled: other threads may learn of stages meanwhile."""
        return {**self.__dict__, "by_key": {**self.by_key}}

    @contextlib.contextmanager
    def listed(self, rows: Iterable[Iterable[Stage]]) -> Iterator[None]:
        """List the kinds of which many stages will be asked for, instead of asking for each.

        Args:
            rows: the stages that will be asked for, by operating point.
        """
        asked: dict[str, dict[str, Stage]] = defaultdict(dict)
        for stage in chain.from_iterable(rows if self._store is not None else ()):
            if stage.key not in self.by_key:
                asked[stage.kind][stage.key] = stage
        absent: set[str] = set()
        for kind, of_kind in asked.items():
            if len(of_kind) > _MOST_ASKED_FOR and self._store is not None:
                complete = self._store.complete_stages(kind)
                stored = {key: stage for key, stage in of_kind.items() if stage.path in complete}
                self.by_key |= stored
                absent |= of_kind.keys() - stored.keys()
        self._absent = frozenset(absent)
        try:
            yield
        finally:
            self._absent = frozenset()

    def has(self, stage: Stage) -> bool:
        """Whether a stage is complete; such a stage never changes."""
        if stage.key in self.by_key:
            return True
        if self._store is None or stage.key in self._absent or not self._store.has(stage.path):
            return False
        self.by_key[stage.key] = stage
        return True

"""A shared disk that shows each client late what the other clients wrote, as NFS does."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.storage.disk import Disk
from orchestrator.storage.store import MANIFEST, Store


@dataclass
class History:
    """Versions of the files that clients wrote: path -> (seconds, client, content)."""

    delay: float
    versions: dict[str, list[tuple[float, str, bytes]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, path: str, client: str) -> None:
        self.versions[path].append((time.monotonic(), client, Path(path).read_bytes()))

    def content(self, path: str, client: str) -> bytes:
        """What a client sees: the latest version that it wrote itself or that is old enough."""
        content = Path(path).read_bytes()
        if path not in self.versions:
            return content
        seen = time.monotonic() - self.delay
        visible = [v for v in self.versions[path] if v[1] == client or v[0] <= seen]
        if not visible:
            raise FileNotFoundError(path)
        return visible[-1][2]

    def is_hidden(self, path: str, client: str) -> bool:
        try:
            if path in self.versions:
                self.content(path, client)
        except FileNotFoundError:
            return True
        return False


class LateFileSystem(Disk):
    def __init__(self, root: str, history: History, client: str) -> None:
        super().__init__(root)
        self._history, self._client = history, client

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if self._history.is_hidden(path, self._client):
            raise FileNotFoundError(path)
        return dict(super().info(path, **options))

    def exists(self, path: str, **options: Any) -> bool:
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def ls(self, path: str, detail: bool = False, **options: Any) -> list[Any]:
        names = super().ls(path, detail=False, **options)
        names = [name for name in names if not self._history.is_hidden(name, self._client)]
        return [self.info(name) for name in names] if detail else names

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        path = self._strip_protocol(path)
        if path not in self._history.versions:
            return super().cat_file(path, start, end)
        return self._history.content(path, self._client)[start:end]


class LateStore(Store):
    """The storage as one client sees it."""

    def __init__(self, directory: Path, history: History, client: str) -> None:
        super().__init__(str(directory))
        self.fs = LateFileSystem(self.root, history, client)
        self._history, self._client = history, client

    def write(self, name: str, data: bytes) -> str:
        path = super().write(name, data)
        self._history.add(path, self._client)
        return path

    def create(self, name: str, data: bytes) -> bool:
        is_first = super().create(name, data)
        if is_first:
            self._history.add(self.path(name), self._client)
        return is_first

    def commit(self, stage: str, directory: Path, about: Mapping[str, object]) -> bool:
        is_first = super().commit(stage, directory, about)
        if is_first:
            self._history.add(str(PurePosixPath(self.path(stage)) / MANIFEST), self._client)
        return is_first

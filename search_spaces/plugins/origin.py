"""Where an extension comes from: its distribution, version and the content of its files."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Final

PROJECT: Final = "bridgesweep"
"""The name of this project's own distribution."""

_REFERENCE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Origin:
    """The distribution that an extension comes from.

    Attributes:
        distribution: its name.
        version: its version; empty for this project, whose stages have versions of their own.
        content: SHA-256 (16 hex digits) over the Python files of the extension: its module, what
            that imports of its own package, and modules that it names as `module:attribute`; empty
            for this project.
    """

    distribution: str
    version: str = ""
    content: str = ""

    @property
    def is_project(self) -> bool:
        """Whether the extension is part of this project."""
        return self.distribution == PROJECT

    @property
    def identity(self) -> dict[str, str]:
        """What enters stage keys and provenance; empty for this project."""
        if self.is_project:
            return {}
        return {
            "distribution": self.distribution,
            "version": self.version,
            "content": self.content,
        }


@functools.cache
def entry_points_of(group: str) -> tuple[tuple[EntryPoint, Distribution], ...]:
    """The entry points of all installed distributions in a group."""
    # `entry_points` tells distributions by the names of their directories; to read the metadata of
    # each one would take every process a second.
    points = [(point, point.dist) for point in entry_points(group=group)]
    return tuple((point, distribution) for point, distribution in points if distribution)


def _of_others() -> Iterator[tuple[EntryPoint, Distribution]]:
    """The entry points by which other distributions extend this project."""
    installed = entry_points()
    for group in installed.groups:
        if group.startswith(f"{PROJECT}."):
            for point in installed.select(group=group):
                if point.dist is not None and point.dist.name != PROJECT:
                    yield point, point.dist


def plugin_versions() -> dict[str, str]:
    """Name -> version of the installed distributions that extend this project."""
    return {distribution.name: distribution.version for _, distribution in _of_others()}


def plugin_names() -> frozenset[str]:
    """The names of all extensions of other distributions; imports none of them."""
    return frozenset(point.name for point, _ in _of_others())


def forget_installed() -> None:
    """Look at the installed distributions again."""
    entry_points_of.cache_clear()
    content_of.cache_clear()


@functools.cache
def content_of(module: str) -> str:
    """SHA-256 (16 hex digits) over a module and all that it uses of its own top-level package."""
    package, digest = module.partition(".")[0], hashlib.sha256()
    files: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _file_of(name)
        if file is None or name in files:
            continue
        files[name] = file.read_bytes()
        waiting += [used for used in _used_by(files[name], name) if used.split(".")[0] == package]
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0".encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def _file_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):  # an attribute, or a module that is missing
        return None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _used_by(source: bytes, module: str) -> Iterator[str]:
    """Dotted names that a module imports, or names in a string `module:attribute`."""
    package = module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and _REFERENCE.fullmatch(str(node.value)):
            yield str(node.value).partition(":")[0]

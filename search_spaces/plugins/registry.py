"""Named extensions: the project's own modules, and entry points of other distributions.

    search_spaces/scenarios/NAME.py  --+
                                       +--> Registry.get(NAME) --> the extension object
    entry point NAME of a distribution +

Listing names imports nothing. An extension is imported when it is asked for. One that cannot be
imported is reported by name with its error, and fails only the spaces that ask for it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

PROJECT: Final = "bridgesweep"
"""The name of this project's own distribution."""

_REFERENCE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

T = TypeVar("T")


class UnknownPluginError(ValueError):
    """No extension has this name; the message lists those that are installed."""


class BrokenPluginError(ValueError):
    """An extension cannot be imported or is not of the right kind; the message has its error."""


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


class Registry(Generic[T]):
    """The extensions of one kind.

    Args:
        group: entry-point group, such as `bridgesweep.scenarios`.
        package: package whose modules are the project's own extensions. Each defines
            `attribute`; a module without it is a shared part, no extension. Empty for none.
        attribute: name of the object in each module.
        kind: class that every object must be an instance of.
        builtin: name -> object of the project's own extensions that are no modules.
        names_of: names of one of the project's own objects, where these are not its module's.
            Then listing names imports the project's own extensions, but none of third parties.
        check: given the name and an object of another distribution; raises ValueError where it
            cannot be used under this name.
    """

    def __init__(
        self,
        group: str,
        package: str,
        attribute: str,
        kind: type[T],
        builtin: Mapping[str, T] | None = None,
        names_of: Callable[[T], Iterable[str]] | None = None,
        check: Callable[[str, T], None] | None = None,
    ) -> None:
        self.group = group
        self._package = package
        self._attribute = attribute
        self._kind = kind
        self._builtin = dict(builtin or {})
        self._names_of = names_of
        self._check = check
        self._loaded: dict[str, T] = {}
        self._errors: dict[str, BrokenPluginError] = {}

    def names(self) -> tuple[str, ...]:
        """The names of all installed extensions, sorted; imports none of them."""
        return tuple(sorted({*self._project_names, *self._entry_points()}))

    def get(self, name: str) -> T:
        """The extension of a name.

        Raises:
            UnknownPluginError: no extension has the name.
            BrokenPluginError: it cannot be imported, or is no object of this kind.
        """
        if name in self._errors:
            raise self._errors[name]
        if name not in self._loaded:
            try:
                self._loaded[name] = self._load(name)
            except BrokenPluginError as error:
                self._errors[name] = error
                raise
        return self._loaded[name]

    def origin(self, name: str) -> Origin:
        """The distribution of an extension.

        Raises:
            UnknownPluginError: no extension has the name.
        """
        if name in self._project_names:
            return Origin(PROJECT)
        self._check_known(name)
        point, distribution = self._entry_points()[name][0]
        return Origin(distribution.name, distribution.version, _content(point.module))

    def listing(self) -> str:
        """All names by distribution, `a, b (bridgesweep); c (other 1.0)`; imports none."""
        by_origin: dict[str, list[str]] = {}
        for name in sorted(self._project_names):
            by_origin.setdefault(PROJECT, []).append(name)
        for name, points in sorted(self._entry_points().items()):
            distribution = points[0][1]
            by_origin.setdefault(f"{distribution.name} {distribution.version}", []).append(name)
        return "; ".join(f"{', '.join(names)} ({origin})" for origin, names in by_origin.items())

    def broken(self) -> dict[str, str]:
        """Name -> error of each extension that cannot be used. Imports all of them.

        An entry point with a name of the project's own is listed as `NAME of DISTRIBUTION`.
        """
        errors = {
            f"{point.name} of {distribution.name} {distribution.version}": (
                f"{self.group}: {point.name!r} is an extension of {PROJECT}; choose another name"
            )
            for point, distribution in _entry_points(self.group)
            if point.name in self._project_names
        }
        for name in self.names():
            try:
                self.get(name)
            except BrokenPluginError as error:
                errors[name] = str(error)
        return errors

    def working(self) -> dict[str, T]:
        """Name -> object of each extension that can be used. Imports all of them."""
        broken = self.broken()
        return {name: self.get(name) for name in self.names() if name not in broken}

    def forget(self) -> None:
        """Look at the installed distributions again."""
        self._loaded.clear()
        self._errors.clear()
        _entry_points.cache_clear()
        _content.cache_clear()

    def _check_known(self, name: str) -> None:
        if name not in self.names():
            kind = self.group.rpartition(".")[2].removesuffix("s")
            raise UnknownPluginError(f"no {kind} {name!r}; installed: {self.listing()}")

    def _load(self, name: str) -> T:
        self._check_known(name)
        source = self._package
        try:
            if name in self._builtin:
                return self._builtin[name]
            if name in self._modules:
                module = importlib.import_module(self._modules[name])
                candidate = getattr(module, self._attribute)
            else:
                points = self._entry_points()[name]
                source = ", ".join(
                    f"{distribution.name} {distribution.version} ({point.value})"
                    for point, distribution in points
                )
                if len(points) > 1:
                    raise ValueError("several distributions have an extension of this name")
                candidate = points[0][0].load()
        except (Exception, SystemExit) as error:  # a foreign module may raise anything
            raise BrokenPluginError(
                f"{self.group}: {name!r} of {source} cannot be imported: "
                f"{type(error).__name__}: {error}"
            ) from error
        if mismatch := self._mismatch(candidate):
            raise BrokenPluginError(f"{self.group}: {name!r} of {source} {mismatch}")
        extension: T = candidate
        if self._check is not None and name not in self._project_names:
            try:
                self._check(name, extension)
            except Exception as error:  # a foreign object may raise anything
                raise BrokenPluginError(
                    f"{self.group}: {name!r} of {source} cannot be used: {error}"
                ) from error
        return extension

    def _mismatch(self, candidate: object) -> str:
        """Why an object is no extension of this kind; empty if it is one."""
        if isinstance(candidate, self._kind):
            return ""
        kind = (
            f"the class {candidate.__name__}"
            if isinstance(candidate, type)
            else type(candidate).__name__
        )
        return f"is {kind}, not an instance of {self._kind.__name__}"

    @property
    def _project_names(self) -> set[str]:
        return {*self._builtin, *self._modules}

    @functools.cached_property
    def _modules(self) -> dict[str, str]:
        """Name -> module of the project's own extensions."""
        if not self._package:
            return {}
        spec = importlib.util.find_spec(self._package)
        assert spec is not None, self._package
        locations = spec.submodule_search_locations
        assert locations is not None, self._package
        names = {}
        for module in pkgutil.iter_modules(locations):
            if module.ispkg or module.name.startswith("_"):
                continue
            file = Path(locations[0]) / f"{module.name}.py"
            if f"\n{self._attribute}" not in file.read_text(encoding="utf-8"):
                continue
            path = f"{self._package}.{module.name}"
            if self._names_of is None:
                names[module.name] = path
            else:
                extension = getattr(importlib.import_module(path), self._attribute)
                names |= dict.fromkeys(self._names_of(extension), path)
        return names

    def _entry_points(self) -> dict[str, list[tuple[EntryPoint, Distribution]]]:
        """Name -> entry points of other distributions; the project's own names cannot be taken."""
        by_name: dict[str, list[tuple[EntryPoint, Distribution]]] = {}
        for point, distribution in _entry_points(self.group):
            if point.name not in self._project_names:
                by_name.setdefault(point.name, []).append((point, distribution))
        return by_name


class ClassRegistry(Registry[type[T]]):
    """The extensions of one kind that are classes.

    Args:
        group, package, attribute, names_of: as of `Registry`.
        base: class that every extension must be a subclass of.
    """

    def __init__(
        self,
        group: str,
        package: str,
        attribute: str,
        base: type[T],
        names_of: Callable[[type[T]], Iterable[str]] | None = None,
    ) -> None:
        super().__init__(group, package, attribute, type, names_of=names_of)
        self._base = base

    def _mismatch(self, candidate: object) -> str:
        if isinstance(candidate, type) and issubclass(candidate, self._base):
            missing = sorted(getattr(candidate, "__abstractmethods__", ()))
            return f"does not define {', '.join(missing)}" if missing else ""
        name = (
            candidate.__name__ if isinstance(candidate, type) else f"a {type(candidate).__name__}"
        )
        return f"is {name}, no subclass of {self._base.__name__}"


def plugin_versions() -> dict[str, str]:
    """Name -> version of the installed distributions that extend this project."""
    return {
        distribution.name: distribution.version
        for distribution in distributions()
        if distribution.name != PROJECT
        and any(point.group.startswith(f"{PROJECT}.") for point in distribution.entry_points)
    }


def implementation(path: str) -> Any:
    """The object that `module:attribute` names; imports the module.

    Raises:
        BrokenPluginError: the module cannot be imported or has no such attribute.
    """
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # a foreign module may raise anything
        raise BrokenPluginError(
            f"{path} cannot be imported: {type(error).__name__}: {error}"
        ) from error


@functools.cache
def _entry_points(group: str) -> tuple[tuple[EntryPoint, Distribution], ...]:
    return tuple(_installed(group))


def _installed(group: str) -> Iterator[tuple[EntryPoint, Distribution]]:
    seen = set()
    for distribution in distributions():
        if distribution.name in seen:
            continue  # shadowed by one that stands earlier on the path
        seen.add(distribution.name)
        for point in distribution.entry_points:
            if point.group == group:
                yield point, distribution


@functools.cache
def _content(module: str) -> str:
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

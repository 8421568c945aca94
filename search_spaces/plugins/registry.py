"""Named extensions: the project's own modules, and entry points of other distributions.

    search_spaces/scenarios/NAME.py  --+
                                       +--> Registry.get(NAME) --> the extension object
    entry point NAME of a distribution +

Listing names imports nothing. An extension is imported when it is asked for. One that cannot be
imported is reported by name with its error, and fails only the spaces that ask for it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any, Generic, TypeVar

from search_spaces.plugins.origin import (
    PROJECT,
    Origin,
    content_of,
    entry_points_of,
    forget_installed,
)

T = TypeVar("T")


class UnknownPluginError(ValueError):
    """No extension has this name; the message lists those that are installed."""


class BrokenPluginError(ValueError):
    """An extension cannot be imported or is not of the right kind; the message has its error."""


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
        return Origin(distribution.name, distribution.version, content_of(point.module))

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
            for point, distribution in entry_points_of(self.group)
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
        forget_installed()

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
        for point, distribution in entry_points_of(self.group):
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

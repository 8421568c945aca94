"""What is installed, in words: `--list`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from search_spaces import named_spaces
from search_spaces.facts.mllm_families import FAMILIES
from search_spaces.plugins import Registry
from search_spaces.scenarios import scenario_of
from search_spaces.specs.benchmark import FORMATS
from search_spaces.specs.codec import CODECS
from search_spaces.specs.scenario_rules import SCENARIOS
from trainables.tasks import TASKS


def listing() -> str:
    """Named spaces, and every kind of extension with the distribution of those from elsewhere.

    An extension that cannot be imported is listed with its error.
    """
    sections = [_section("spaces", named_spaces().items())]
    sections += [
        _section(title, _described(registry, describe))
        for title, registry, describe in (
            ("scenarios", SCENARIOS, lambda name: scenario_of(name).look.sentence),
            ("codecs", CODECS, lambda name: _first_paragraph(CODECS.get(name))),
            ("tasks", TASKS, lambda name: _first_paragraph(type(TASKS.get(name)))),
            ("MLLM families", FAMILIES, lambda name: FAMILIES.get(name).title),
            ("benchmark formats", FORMATS, lambda name: _first_paragraph(FORMATS.get(name))),
        )
    ]
    return "\n\n".join(sections)


def _described(
    registry: Registry[Any], describe: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    broken = registry.broken()
    for name in registry.names():
        if name not in broken:
            origin = registry.origin(name)
            origin_text = "" if origin.is_project else f" [{origin.distribution} {origin.version}]"
            yield name, describe(name) + origin_text
    for name, error in sorted(broken.items()):
        yield name, f"CANNOT BE USED: {' '.join(error.split())}"


def _section(title: str, rows: Any) -> str:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {about}".rstrip() for name, about in rows)])


def _first_paragraph(kind: type) -> str:
    """The first paragraph of a class's docstring, in one line."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())

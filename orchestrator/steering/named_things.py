"""What a space names outside itself: extensions, and places of files.

A space that comes through the storage was written by whoever may write there. The driver imports no
extension and reads no file for it that its own command does not name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from orchestrator.storage.provenance import model_names, shipped_names
from search_spaces import Space
from search_spaces.facts.compressai_zoo import ZOO
from search_spaces.plugins import plugin_names

_PLACE: Final = re.compile(r"/|~|\.\.?/|[a-z][a-z0-9]+:|.*://", re.DOTALL)
_TEXTS: Final = {"name", "description"}


def added_extensions(data: object, space: Space) -> list[str]:
    """Extensions of other distributions that JSON data names, and a space does not, sorted.

    Nothing is imported.
    """
    foreign = plugin_names()
    ours = set(_words(space.model_dump(mode="json"))) if foreign else set()
    return sorted((foreign & set(_words(data))) - ours) if foreign else []


def added_places(larger: Space, space: Space) -> list[str]:
    """Files, directories, URIs and models that a space names, and another one does not, sorted."""
    return sorted(_places(larger) - _places(space))


def _places(space: Space) -> set[str]:
    places = {name for _, name in model_names(space)}
    for each in (space, *(space.of(variant) for variant in space.variants)):
        texts = _strings(each.model_dump(mode="json", exclude=_TEXTS))
        places.update(text for text, is_key in texts if not is_key and _PLACE.match(text))
    # Both come with the installation; a path may be written as `shipped:../PATH`.
    return {place for place in places - {*shipped_names()} if not place.startswith(ZOO)}


def _words(data: object) -> Iterator[str]:
    """The texts in JSON data; of dotted paths, the parts."""
    for text, is_key in _strings(data):
        yield from text.split(".") if is_key else (text,)


def _strings(data: object) -> Iterator[tuple[str, bool]]:
    """The texts in JSON data, however deep, and whether each is a key."""
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value, False
        elif isinstance(value, dict):
            yield from ((str(key), True) for key in value)
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value

"""The made worlds, by the kind of `data` that they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from search_spaces.specs.data import DataSpec
from trainables.datasets.worlds.scenes.world import WORLD as SCENES
from trainables.datasets.worlds.tabletop.world import WORLD as TABLETOP
from trainables.datasets.worlds.tabletop.world import Tabletop
from trainables.datasets.worlds.world import World

WORLDS: Final[Mapping[str, World[Any]]] = {"scenes": SCENES, "tabletop": TABLETOP}


def world_of(data: DataSpec) -> World[Any]:
    """The world of a space's made data, with its settings."""
    return Tabletop(data.levels) if data.kind == "tabletop" else WORLDS[data.kind]

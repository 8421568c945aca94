"""The demo's world: handwritten digits on photographs, with captions, questions and boxes."""

from trainables.world.store import write_world

__all__ = ["write_world"]

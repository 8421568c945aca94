"""The demo's world: handwritten digits on photographs, with captions, questions and boxes."""

from trainables.datasets.scenes.write import write_world

__all__ = ["write_world"]

"""The deterministic grammar of the scenes' captions, and the words of the demo's world."""

from __future__ import annotations

from trainables.datasets.worlds.locations import LOCATION_BINS, location
from trainables.datasets.worlds.samples import LABELS
from trainables.datasets.worlds.scenes.scene import COLOUR_NAMES, DIGITS, POSITIONS, SceneSpec

TEMPLATES: tuple[str, ...] = ("{}", "a photo of {}", "a scene with {}", "there is {}")

_GRAMMAR = (
    "a an at the and is there photo of scene with where which what digit colour how many digits one"
)
_QUESTIONS = "describe question answer yes no in nothing class locate image . ? : ,"


def caption(scene: SceneSpec) -> str:
    """ "a red three at the top left and a blue seven at the bottom right", in reading order."""
    return " and ".join(
        f"a {COLOUR_NAMES[o.colour]} {DIGITS[o.digit]} at the {POSITIONS[o.position]}"
        for o in scene.objects
    )


def vocabulary() -> list[str]:
    """Every word of captions, questions and answers, once, in a fixed order.

    Words are only ever appended: the shipped models know them by number.
    """
    words = [
        *_GRAMMAR.split(),
        *_QUESTIONS.split(),
        *(word for position in POSITIONS for word in position.split()),
        *COLOUR_NAMES,
        *DIGITS,
        *LABELS,
        *(location(b) for b in range(LOCATION_BINS + 1)),
    ]
    return list(dict.fromkeys(words))

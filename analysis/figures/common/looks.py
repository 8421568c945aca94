"""How curves look: one marker and line per scenario, one colour per codec, everywhere alike.

A sweep with several learned codecs is coloured by codec in all of its figures. Where there is only
one, its curves are coloured by scenario. The codecs of standards have a colour each; a codec that
only one scenario has is drawn in that scenario's colour. Variants of a space are coloured in their
order. Colours are Okabe and Ito's and Paul Tol's "muted" (made for colour-blind readers); markers
repeat the scenario.
"""

from __future__ import annotations

import colorsys
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from matplotlib.colors import to_hex

from analysis.curves.assemble import Assembled
from analysis.curves.curve import Curve
from analysis.figures.common.colours import colour_of_name
from analysis.figures.common.style import GRID, INK, MUTED, PALE, RIGHT, STYLE, WARN, WRONG
from analysis.io.scenarios import Scenarios
from search_spaces.specs.points import JOINED


@dataclass(frozen=True)
class Look:
    """How a curve is drawn and called; marker and line by Matplotlib's names."""

    label: str
    colour: str
    marker: str
    line: str


def line_style(look: Look) -> dict[str, Any]:
    """A look as Matplotlib's arguments for a line with markers."""
    return {
        "color": look.colour,
        "marker": look.marker,
        "ls": look.line,
        # A letter is thin: its edge belongs to it.
        "markeredgecolor": look.colour if look.marker.startswith("$") else "white",
        "markeredgewidth": 0.5,
        # Stars and letters are drawn smaller than other markers of the same size.
        "markersize": 6.6 if look.marker.startswith(("*", "$")) else STYLE["lines.markersize"],
    }


CODECS: Final[tuple[tuple[str, str], ...]] = (
    ("elic", "#0072b2"),
    ("tic", "#e69f00"),
    ("mbt2018", "#009e73"),
    ("hyperprior", "#009e73"),
    ("cheng", "#cc79a7"),
    ("bmshj", "#d55e00"),
    ("jpeg2000", "#999933"),
    ("jpeg", "#882255"),
    ("webp", "#332288"),
    ("avif", "#44aa99"),
    ("vvc", "#5b6470"),
)
"""Beginnings of words in codecs' names, and the colour of the first codec with such a word."""
SPARE_MARKERS: Final = ("d", "8", "H")
MARKER_LETTERS: Final = "ABCEFGHKLMNQRSTUVWYZ"
"""Markers of scenarios whose description fixes none, without letters that look like a shape."""
SPARE_CODECS: Final = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"),
    *("#aa4499", "#117733", "#cc6677", "#a07800", "#332288", "#882255", "#999933", "#44aa99"),
)
"""Of other codecs, in this order, as far as they are free."""

# Viridis without its lightest end (colour-blind safe, and in order like most ablations).
VARIANT: Final = (
    *("#440154", "#472c7a", "#3b518b", "#2c718e", "#21908d"),
    *("#27ad81", "#4ac16d", "#7ad151", "#aadc32"),
)
"""Colours of a space's variants, spread over them."""
CODEC_LINES: Final = ("-", "--", "-.", ":")


class Looks:
    """The looks of a sweep's curves, the same in each of its figures.

    Args:
        owners: (codec, scenario) of every curve; the codec is empty where there is none.
        variants: the space's variants, in order.
        scenarios: of the sweep; by default the installed ones.
    """

    def __init__(
        self,
        owners: Iterable[tuple[str, str]],
        variants: Sequence[str] = (),
        scenarios: Scenarios | None = None,
    ) -> None:
        pairs = sorted(set(owners))
        self._scenarios = scenarios or Scenarios()
        self._scenario = _scenario_looks(self._scenarios, {scenario for _, scenario in pairs})
        base = {codec for codec, scenario in pairs if self._coloured_by_codec(codec, scenario)}
        self._learned = sorted(base)
        self.by_codec = len(base) > 1
        """Whether colours distinguish codecs rather than scenarios."""
        of_one = {pair for pair in pairs if self._scenarios.look(pair[1]).codec == "own"}
        shared = sorted(
            {codec for codec, scenario in pairs if codec} - {pair[0] for pair in of_one}
        )
        self._codecs = codec_colours(shared, [self._scenario[pair[1]].colour for pair in of_one])
        self._variants = list(variants)

    @classmethod
    def of(cls, assembled: Assembled) -> Looks:
        """The looks of an assembled sweep."""
        owners = [(curve.codec, curve.scenario) for curve in assembled.curves]
        return cls(owners, list(assembled.sweep.variants), assembled.sweep.scenarios)

    def scenario(self, scenario: str) -> Look:
        """The look of a scenario, without codec and variant."""
        return self._scenario.get(scenario) or Look(scenario, MUTED, "8", "-")

    def owner(self, codec: str, scenario: str, variant: str = "") -> Look:
        """The look of the curves of a codec, scenario and variant."""
        base = self.scenario(scenario)
        label = self._scenarios.name(codec, scenario, variant)
        colour, line = base.colour, base.line
        if codec and self._scenarios.look(scenario).codec == "standard":
            label, colour = codec, self._codecs[codec]
        elif self.by_codec and self._coloured_by_codec(codec, scenario):
            label, colour = f"{codec} {label}", self._codecs[codec]
            line = self._codec_line(codec) if self._variants else line
        if variant and self._variants:
            colour = self._variant_colour(variant)
        return Look(label, colour, base.marker, line)

    def curve(self, curve: Curve) -> Look:
        """The look of a curve."""
        return self.owner(*curve.owner)

    def _coloured_by_codec(self, codec: str, scenario: str) -> bool:
        """Whether a sweep of several learned codecs colours the scenario's curves by codec."""
        return bool(codec) and self._scenarios.has_base_codec(scenario)

    def legend(self, owners: Iterable[tuple[str, str, str]]) -> list[Look]:
        """Legend entries of curves by codec, scenario and variant.

        An entry per curve; where several codecs, scenarios and variants meet, an entry per codec
        and one per variant (a colour, no marker) and one per scenario (a marker, no colour) say the
        same in less room.
        """
        owners = list(dict.fromkeys(owners))
        each = [self.owner(*owner) for owner in owners]
        crossed = [
            (codec, scenario, variant)
            for codec, scenario, variant in owners
            if self._scenarios.look(scenario).codec in ("base", "none")
            and (codec if self.by_codec else variant)
        ]
        names = [list(dict.fromkeys(filter(None, part))) for part in zip(*crossed, strict=True)]
        codecs, scenarios, variants = names or ([], [], [])
        parts = [codecs if self.by_codec else [], scenarios, variants]
        if sum(len(part) > 1 for part in parts) < 2 or sum(map(len, parts)) > len(crossed) + 1:
            return each
        plain = {"line": ""} if self.by_codec and self._variants else {}
        crossing = [
            *(Look(name, self._codecs[name], "", self._codec_line(name)) for name in parts[0]),
            *(Look(name, self._variant_colour(name), "", "-") for name in variants),
            *(replace(self.scenario(name), colour=INK, **plain) for name in scenarios),
            *(look for owner, look in zip(owners, each, strict=True) if owner not in crossed),
        ]
        return crossing if len({look.label for look in crossing}) == len(crossing) else each

    def _codec_line(self, codec: str) -> str:
        """Line style: distinguishes codecs where colours distinguish variants."""
        number = self._learned.index(codec) if self._variants else 0
        return CODEC_LINES[number % len(CODEC_LINES)]

    def _variant_colour(self, variant: str) -> str:
        number = self._variants.index(variant.partition(JOINED)[0])
        return VARIANT[round(number * (len(VARIANT) - 1) / max(1, len(self._variants) - 1))]

    def colours(self) -> Iterator[str]:
        """Every colour that the sweep's figures may use."""
        yield from (INK, MUTED, GRID, WARN, PALE, RIGHT, WRONG)
        yield from (look.colour for look in self._scenario.values())
        yield from self._codecs.values()
        yield from VARIANT if self._variants else ()


def _scenario_looks(scenarios: Scenarios, shown: Iterable[str]) -> dict[str, Look]:
    """The looks of described scenarios and of those of a figure.

    Colours and markers that no description fixes are chosen from the scenarios' names, so that they
    stay when other scenarios are added. Where two names ask for what is nearly the same, the one
    that is later in the alphabet takes its next choice.
    """
    looks = {name: scenarios.look(name) for name in {*scenarios.looks, *shown}}
    markers = {look.marker for look in looks.values() if look.marker is not None}
    colours = [look.colour for look in looks.values() if look.colour is not None]
    palette = [look.colour for look in Scenarios().looks.values() if look.colour is not None]
    chosen = {}
    for name, look in sorted(looks.items()):
        marker, colour, line = look.marker, look.colour, look.line
        if marker is None:
            marker = next(m for m in _marker_choices(name) if m not in markers)
            markers.add(marker)
        if colour is None:
            colour = colour_of_name(name, palette, colours)
            colours.append(colour)
        chosen[name] = Look(look.title, colour, marker, line)
    return chosen


def _marker_choices(name: str) -> Iterator[str]:
    """Markers for a scenario, best first: the letters of its name, shapes, all other letters."""
    letters = [letter for letter in name.upper() if letter in MARKER_LETTERS]
    for marker in dict.fromkeys((*letters, *SPARE_MARKERS, *MARKER_LETTERS)):
        yield marker if marker in SPARE_MARKERS else f"${marker}$"
    for number in itertools.count():
        yield f"${number}$"


def codec_colours(codecs: Sequence[str], fixed: Iterable[str] = ()) -> dict[str, str]:
    """A colour per codec: its family's where it is the first of it, else the next that is free.

    Args:
        codecs: names in order.
        fixed: colours that other curves have.
    """
    colours: dict[str, str] = {}
    for codec in codecs:
        words = re.split(r"[^a-z0-9]+", codec.lower())
        family = next((c for word in words for begin, c in CODECS if word.startswith(begin)), None)
        if family is not None and family not in colours.values():
            colours[codec] = family
    reserved = {*colours.values(), *fixed}
    free = [colour for colour in SPARE_CODECS if colour not in reserved]
    without_family = [codec for codec in codecs if codec not in colours]
    for i, codec in enumerate(without_family):
        golden = colorsys.hls_to_rgb((0.11 + i * 0.618034) % 1, 0.4, 0.55)
        colours[codec] = free[i] if i < len(free) else to_hex(golden)
    return {codec: colours[codec] for codec in codecs}

"""One marker per scenario, one colour per codec, whatever else is in the sweep."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from pydantic import ValidationError

from analysis.curves.curve import Curve
from analysis.curves.grouping import in_panels
from analysis.figures.common.colours import on_dark
from analysis.figures.common.looks import CODECS, Looks
from analysis.io.scenarios import Scenarios
from analysis.io.schema import AnalysisError
from search_spaces.specs.scenario_look import ScenarioLook

INSTALLED = Scenarios()

# Machado, Oliveira and Fernandes 2009, severity 1.0: linear RGB as it is seen.
BLIND = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def lab(colour: str, seen: list[list[float]] | None = None) -> NDArray[np.float64]:
    """CIE L*a*b* (D65) of #rrggbb, as somebody who is colour-blind sees it."""
    srgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    if seen is not None:
        linear = np.clip(np.array(seen) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def curve(scenario: str, codec: str = "elic") -> Curve:
    frame, look = pd.DataFrame(), INSTALLED.look(scenario)
    return Curve(codec, "", scenario, "m", "vqa", "accuracy", (0,), frame, (), (), look)


def test_no_two_installed_scenarios_have_one_marker_colour_title_or_order() -> None:
    for part in ("marker", "colour", "title", "order"):
        values = [getattr(look, part) for look in INSTALLED.looks.values()]
        assert None not in values
        assert len(set(values)) == len(values), part
    for role in ("anchor", "bound"):
        assert sum(look.role == role for look in INSTALLED.looks.values()) == 1


@pytest.mark.parametrize("kind", [None, *BLIND])
def test_scenarios_and_codecs_can_be_told_apart_by_the_colour_blind(kind: str | None) -> None:
    """A difference of 10 in L*a*b* is seen at a glance; 2.3 is one just noticeable. Curves that
    differ less than that in colour differ in marker and in line."""
    seen = BLIND[kind] if kind else None
    styles = Looks([])
    looks = [styles.scenario(name) for name in INSTALLED.looks if not INSTALLED.is_bound(name)]
    for a, b in itertools.combinations(looks, 2):
        difference = np.linalg.norm(lab(a.colour, seen) - lab(b.colour, seen))
        assert a.marker != b.marker
        assert difference > (10 if kind is None else 2.3), (a, b)
    learned = sorted({colour for _, colour in CODECS[:6]})
    assert len(learned) == 5
    for one, other in itertools.combinations(learned, 2):
        assert np.linalg.norm(lab(one, seen) - lab(other, seen)) > 10, (one, other)


@pytest.mark.parametrize("seen", [None, *BLIND.values()], ids=["all", *BLIND])
def test_scenarios_without_description_differ_from_all_others(
    seen: list[list[float]] | None,
) -> None:
    names = [f"{word}_{i}" for i in range(4) for word in ("quantised", "resized", "pruned")]
    looks = Looks([("elic", name) for name in names])
    chosen = [looks.owner("elic", name) for name in names]
    every = chosen + [looks.scenario(name) for name in INSTALLED.looks]
    assert [look.label for look in chosen] == names
    assert len({look.marker for look in every}) == len(every)
    for a, b in itertools.combinations(every, 2):
        difference = np.linalg.norm(lab(a.colour, seen) - lab(b.colour, seen))
        # As above: those that the colour-blind cannot tell apart by colour differ in marker.
        assert difference > (10 if seen is None else 0), (a, b)


def test_the_look_of_a_scenario_without_description_depends_on_its_name_alone() -> None:
    alone = Looks([("elic", "resized")]).owner("elic", "resized")
    described = {"pruned": ScenarioLook(title="pruned", colour="#123456", marker="o")}
    company = [("elic", name) for name in ("aaa", "d1", "pruned", "resized", "zzz")]
    looks = Looks(company, scenarios=Scenarios.described_by({"scenarios": described}))
    assert looks.owner("elic", "resized") == alone
    assert looks.owner("elic", "pruned").colour == "#123456"
    assert Looks([("tic", "resized"), ("elic", "resized")]).scenario("resized") == alone


def test_a_marker_that_matplotlib_has_not_is_refused() -> None:
    described = {"pruned": {"title": "pruned", "marker": "blob"}}
    with pytest.raises(AnalysisError, match=r"scenarios\.pruned\.marker"):
        Scenarios.described_by({"scenarios": described})
    for marker in "".join(map(chr, range(33, 127))):
        try:
            ScenarioLook(title="pruned", marker=marker)
        except ValidationError:
            continue
        assert marker in Line2D.markers


def test_a_codec_has_its_colour_in_every_figure_and_every_sweep() -> None:
    few = Looks([("elic", "d1"), ("mbt2018-mean", "d1")])
    many = Looks(
        [(c, s) for c in ("cheng2020-attn", "elic", "mbt2018-mean", "mine") for s in ("d1", "d3")]
        + [("jpeg", "classical"), ("jpeg2000", "classical")]
    )
    assert few.by_codec
    assert many.by_codec
    for codec in ("elic", "mbt2018-mean"):
        colours = {
            looks.owner(codec, s).colour
            for looks in (few, many)
            for s in ("d1", "d3", "end_to_end_oracle")
        }
        assert len(colours) == 1
    every = [many.owner(c, "d1").colour for c in ("cheng2020-attn", "elic", "mbt2018-mean", "mine")]
    every += [many.owner(c, "classical").colour for c in ("jpeg", "jpeg2000")]
    assert len(set(every)) == 6
    assert many.owner("jpeg2000", "classical").label == "jpeg2000"


def test_many_codecs_of_one_family_still_differ() -> None:
    names = [f"elic-{i}" for i in range(30)]
    looks = Looks([(name, "d1") for name in names])
    assert len({looks.owner(name, "d1").colour for name in names}) == 30


def test_with_one_learned_codec_colour_tells_scenarios_apart() -> None:
    owners = [("elic", "d1"), ("elic", "d2"), ("jpeg", "classical"), ("f", "feature_coding")]
    looks = Looks(owners)
    assert not looks.by_codec
    assert len({looks.owner(*owner).colour for owner in owners}) == 4
    assert looks.owner("elic", "d1") == looks.scenario("d1")


def test_a_crossed_legend_names_each_codec_and_each_scenario_once() -> None:
    owners = [(c, s, "") for c in ("elic", "tic") for s in ("d1", "d2", "d3")]
    looks = Looks([owner[:2] for owner in owners] + [("jpeg", "classical")])
    labels = [look.label for look in looks.legend([*owners, ("jpeg", "classical", "")])]
    assert labels == ["elic", "tic", "d1", "d2", "d3", "jpeg"]
    assert [look.label for look in looks.legend(owners[:3])] == ["elic d1", "elic d2", "elic d3"]


@pytest.mark.parametrize("codecs", [1, 2, 3, 7])
def test_panels_hold_every_curve_once_and_not_too_many(codecs: int) -> None:
    names = [f"c{i}" for i in range(codecs)]
    scenarios = [name for name in INSTALLED.looks if not INSTALLED.is_bound(name)]
    own = [curve(s, c) for c in names for s in (*scenarios, "unheard")]
    groups = in_panels(own, 8, 6)
    assert sorted((c.codec, c.scenario) for g in groups for c in g) == sorted(
        (c.codec, c.scenario) for c in own
    )
    assert all(0 < len(group) <= 6 for group in groups)
    assert len(in_panels(own[:8], 8, 6)) == 1
    if codecs == 1:
        families = [{c.look.family for c in group} for group in groups]
        assert all(a.isdisjoint(b) for a, b in itertools.combinations(families, 2))


def test_colours_on_a_dark_page_reach_the_contrast() -> None:
    """Contrast by hand from WCAG's definition; #767676 on white is its textbook 4.54."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    assert (1 + 0.05) / (luminance("#767676") + 0.05) == pytest.approx(4.54, abs=0.005)
    behind = luminance("#171b21") + 0.05
    styles = Looks([("elic", "unheard")])
    colours = [styles.scenario(name).colour for name in (*INSTALLED.looks, "unheard")]
    for colour in (*colours, "#000000"):
        assert (luminance(on_dark(colour)) + 0.05) / behind >= 4.5

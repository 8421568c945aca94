"""d2 and d3 say when their weights let the rate alone decide."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces import load_space
from search_spaces.load import named_spaces


@pytest.mark.parametrize("name", sorted(named_spaces()))
def test_no_space_of_the_package_is_warned_of(name: str) -> None:
    assert load_space(name).warnings() == []


def test_the_papers_ratio_at_the_scale_of_pixels_in_0_to_1_is_warned_of() -> None:
    settings = [f"{name}.{weight}" for name in ("d2", "d3") for weight in ("gamma=60", "delta=1")]
    d2, d3 = load_space("paper", settings).warnings()
    # (60 * 0.001 + 1 * 0.01) / (65025 * 0.001) and 0.01 / 65.025
    assert d2.startswith("d2.gamma = 60, d2.delta = 1: d2's distortion is worth 0.11% ")
    assert d3.startswith("d3.delta = 1: d3's distortion is worth 0.02% ")
    assert "gamma = 65025, delta = 1083.75" in d2


def test_a_variant_is_warned_of_and_a_space_without_the_scenario_is_not(tmp_path: Path) -> None:
    weights = "variants={a: {}, b: {d2.gamma: 0, d2.delta: 0.5}}"
    (warning,) = load_space("smoke", [weights]).warnings()
    assert warning.startswith("d2.delta = 0.5: ")
    assert load_space("smoke", [weights, "scenarios=[d1, d3]"]).warnings() == []

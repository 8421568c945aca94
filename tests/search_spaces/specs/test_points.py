"""Expansion of a space into operating points, and the filter on them."""

import pytest

from search_spaces import load_space, operating_points, select


def test_expansion_counts() -> None:
    space = load_space("smoke", ["seeds=[0, 1, 2]"])
    points = operating_points(space)
    # 2 lambdas x (3 scenarios + post-processing) x 3 seeds; the base codec's points once.
    assert len(points) == 2 * 4 * 3 + 2 + 1
    assert len(set(points)) == len(points)


def test_filters_combine() -> None:
    points = operating_points(load_space("smoke"))
    kept = select(points, ["scenario=d1,d3", "lambda=0.0020"])
    assert [(p.scenario, p.lmbda) for p in kept] == [("d1", 0.002), ("d3", 0.002)]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (["scenario=d7"], "scenario d7.* d1, d2, d3"),
        (["colour=red"], "codec, lmbda, scenario, seed, variant"),
        (["scenario"], "field=value"),
        (["variant=k0"], "variant k0"),
        (
            ["scenario=uncompressed", "lmbda=0.02"],
            "filters together",
        ),
    ],
)
def test_filters_that_select_nothing_are_explained(filters: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(operating_points(load_space("smoke")), filters)

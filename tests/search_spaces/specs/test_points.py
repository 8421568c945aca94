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
        (["colour=red"], "codec, lambda, scenario, seed, variant"),
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


class CountedLambda(float):
    """A lambda that counts how often it is compared or hashed."""

    uses = 0

    def __eq__(self, other: object) -> bool:
        CountedLambda.uses += 1
        return float(self) == other

    def __hash__(self) -> int:
        CountedLambda.uses += 1
        return hash(float(self))


def test_points_of_many_lambdas_take_work_that_grows_with_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def uses(rates: int) -> int:
        space = load_space("smoke", ["scenarios=[d1]", "baselines=[]"])
        lambdas = tuple(CountedLambda(1e-3 + rate * 1e-6) for rate in range(rates))
        codecs = tuple(codec.model_copy(update={"lambdas": lambdas}) for codec in space.codecs)
        monkeypatch.setattr(CountedLambda, "uses", 0)
        points = operating_points(space.model_copy(update={"codecs": codecs}))
        counted = CountedLambda.uses
        assert [point.lmbda for point in points] == list(lambdas)
        assert [point.codec and point.codec.lambdas for point in points] == [(x,) for x in lambdas]
        return counted

    assert uses(400) <= 5 * uses(100), "4 where it is in proportion, 16 if squared"

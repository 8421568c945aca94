"""What must hold for the BD-rate of any two curves, with curves that Hypothesis draws."""

from __future__ import annotations

import warnings

import bjontegaard
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from analysis.sampling.bd import Batch, bd_accuracy, bd_rate, overlap
from analysis.sampling.intervals import Floats

Arrays = tuple[Floats, Floats]
steps = st.floats(0.02, 0.3)


@st.composite
def curves(draw: st.DrawFn) -> Arrays:
    """Rates and accuracies of three to seven points, both strictly rising."""
    n = draw(st.integers(3, 7))
    log_rate = draw(st.floats(-2, 0)) + np.cumsum(draw(st.lists(steps, min_size=n, max_size=n)))
    accuracy = draw(st.floats(0, 0.4)) + np.cumsum(draw(st.lists(steps, min_size=n, max_size=n)))
    return 10**log_rate, accuracy / 3


def one_row(rate: Floats, accuracy: Floats) -> Batch:
    return Batch(rate[None], accuracy[None])


def meet(anchor: Arrays, test: Arrays) -> bool:
    return overlap(anchor[1], test[1]).share > 0.01


@given(curves(), curves())
def test_the_batch_gives_what_the_bjontegaard_package_gives(anchor: Arrays, test: Arrays) -> None:
    assume(meet(anchor, test))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the package, about small overlaps
        package = bjontegaard.bd_rate(
            *anchor, *test, method="pchip", require_matching_points=False, min_overlap=0
        )
    (batch,) = one_row(*test).bd_rate(one_row(*anchor))
    assert batch == pytest.approx(package, rel=1e-9, abs=1e-9)
    assert bd_rate(*anchor, *test) == pytest.approx(package, rel=1e-12)


@given(curves(), st.floats(0.1, 10))
def test_all_rates_times_c_are_a_bd_rate_of_c_minus_1(curve: Arrays, c: float) -> None:
    rate, accuracy = curve
    expected = pytest.approx(100 * (c - 1), rel=1e-9, abs=1e-9)
    assert bd_rate(rate, accuracy, c * rate, accuracy) == expected
    (batch,) = one_row(c * rate, accuracy).bd_rate(one_row(rate, accuracy))
    assert batch == expected


@given(curves(), curves())
def test_swapped_curves_have_the_inverse_ratio(anchor: Arrays, test: Arrays) -> None:
    assume(meet(anchor, test))
    there, back = bd_rate(*anchor, *test), bd_rate(*test, *anchor)
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1, rel=1e-9)
    if overlap(anchor[0], test[0]).share > 0.01:
        assert bd_accuracy(*anchor, *test) == pytest.approx(-bd_accuracy(*test, *anchor))


@given(curves(), curves(), st.floats(0.1, 10))
def test_a_common_unit_of_the_rates_changes_nothing(
    anchor: Arrays, test: Arrays, unit: float
) -> None:
    assume(meet(anchor, test))
    scaled = bd_rate(unit * anchor[0], anchor[1], unit * test[0], test[1])
    assert scaled == pytest.approx(bd_rate(*anchor, *test), rel=1e-7, abs=1e-7)


@given(curves(), curves(), st.randoms(use_true_random=False))
def test_the_order_of_the_points_changes_nothing(
    anchor: Arrays, test: Arrays, random: np.random.RandomState
) -> None:
    assume(meet(anchor, test))
    order = list(range(len(test[0])))
    random.shuffle(order)
    (shuffled,) = one_row(test[0][order], test[1][order]).bd_rate(one_row(*anchor))
    (ordered,) = one_row(*test).bd_rate(one_row(*anchor))
    assert shuffled == ordered


@given(curves(), curves(), st.integers(0, 6), st.floats(1e-6, 0.05))
def test_a_dominated_point_changes_nothing(
    anchor: Arrays, test: Arrays, index: int, loss: float
) -> None:
    assume(meet(anchor, test))
    index %= len(test[0])
    rate = np.append(test[0], 1.01 * test[0][index])
    accuracy = np.append(test[1], test[1][index] - loss)
    (with_point,) = one_row(rate, accuracy).bd_rate(one_row(*anchor))
    (without,) = one_row(*test).bd_rate(one_row(*anchor))
    assert with_point == pytest.approx(without, rel=1e-12)

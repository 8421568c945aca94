"""Many interpolants at once against scipy's, one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from analysis.sampling.bd import EVERYWHERE
from analysis.sampling.pchip import Pchip


@pytest.mark.parametrize("rising", [True, False])
def test_values_and_integrals_are_scipys_row_by_row(rising: bool) -> None:
    """Data that turn, stay flat and jump, with unused knots in between."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 1, (400, 6)), axis=1)
    y = np.round(rng.normal(size=(400, 6)), 1)  # rounding makes equal neighbours
    if rising:
        y = np.cumsum(np.abs(y), axis=1)
    on = rng.uniform(size=x.shape) < rng.uniform(0.2, 1, (400, 1))
    on[:, 0] = True
    many = Pchip(x, y, on)
    assert set(many.size) == {1, 2, 3, 4, 5, 6}
    positions = many.low + rng.uniform(size=400) * (many.high - many.low)
    values = many(positions)
    areas = many.integral(many.low, positions)
    for i in np.flatnonzero(many.size > 1):
        one = PchipInterpolator(x[i, on[i]], y[i, on[i]])
        np.testing.assert_allclose(values[i], one(positions[i]), atol=1e-10)
        np.testing.assert_allclose(areas[i], one.integrate(many.low[i], positions[i]), atol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_many_positions_of_each_row_give_scipys_values_also_at_the_knots(size: int) -> None:
    rng = np.random.default_rng(size)
    x = np.sort(rng.uniform(0, 1, (50, size)), axis=1)
    y = np.cumsum(rng.uniform(size=x.shape), axis=1)
    many = Pchip(x, y, np.ones_like(x, dtype=bool))
    between = many.low[:, None] + np.linspace(0, 1, 9) * (many.high - many.low)[:, None]
    positions = np.concatenate([x, np.minimum(between, many.high[:, None]), x[:, :1] - 0.1], axis=1)
    values = many(positions)
    assert np.isnan(values[:, -1]).all()
    for i in range(len(x)):
        one = PchipInterpolator(x[i], y[i]) if size > 1 else lambda at, i=i: np.full(len(at), y[i])
        np.testing.assert_allclose(values[i, :-1], one(positions[i, :-1]), atol=1e-10)


def test_outside_its_range_there_is_no_value_and_a_single_knot_is_a_point() -> None:
    x, y = np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([[5.0, 6.0], [7.0, 8.0]])
    two = Pchip(x, y, np.array([[True, True], [False, True]]))
    np.testing.assert_array_equal(two(np.array([2.0])), [6, 8])
    np.testing.assert_array_equal(two(np.array([1.0])), [5, np.nan])
    np.testing.assert_array_equal(two(np.array([2.1])), [np.nan, np.nan])
    assert np.isnan(two.mean_difference(two, EVERYWHERE)).tolist() == [False, True]

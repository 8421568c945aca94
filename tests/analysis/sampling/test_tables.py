"""Samples as tables by image."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.sampling.tables import sample_table

ROWS = pd.DataFrame(
    {
        "sample_id": ["b", "a", "b", "b", "c"],
        "image_id": ["x2", "x1", "x2", "x2", "x1"],
        "point_key": ["y", "y", "x", "y", "x"],
        "value": [1.0, 2.0, 3.0, 2.0, 4.0],
    }
)


def test_a_table_is_by_image_and_averages_and_leaves_holes() -> None:
    table = sample_table(ROWS, ["value"])
    assert table.keys.tolist() == ["x", "y"]
    assert table.images.tolist() == ["x1", "x2"]
    values = table.columns["value"]  # of the samples a, c and b
    np.testing.assert_array_equal(values, [[np.nan, 2], [4, np.nan], [3, 1.5]])
    np.testing.assert_array_equal(table.means("value"), [3.5, 1.75])
    np.testing.assert_array_equal(table.per_image(np.nan_to_num(values)), [[4, 2], [3, 1.5]])


def test_points_share_the_samples_that_all_of_them_have() -> None:
    table = sample_table(ROWS, ["value"])
    both = table.shared(["y", "x"])
    assert both is not None
    assert both.images.tolist() == ["x2"]
    assert both.columns["value"].tolist() == [[1.5, 3.0]]
    one = table.shared(["x"])
    assert one is not None
    assert one.columns["value"].tolist() == [[4.0], [3.0]]
    assert table.shared(["x", "z"]) is None

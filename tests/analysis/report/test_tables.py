"""Sentences of the report's comparison."""

from __future__ import annotations

import pytest

from analysis.report.tables import more_of
from analysis.stats.compare import Row


@pytest.mark.parametrize(
    ("note", "text"),
    [
        ("d1 gains no more accuracy", "d1 gains no more accuracy."),
        ("reconstruction dips by 0.1; d1 too", "reconstruction dips by 0.1; d1 too."),
        ("no BD-rate: d1 has a hole", "No BD-rate: d1 has a hole."),
        ("", ""),
    ],
)
def test_a_note_begins_with_a_capital_unless_a_name_begins_it(note: str, text: str) -> None:
    row = Row("m", "c", "", "d1", "vqa", "accuracy", note=note)
    assert more_of(row, "reconstruction", "d1") == text

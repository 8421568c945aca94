"""Whatever a file holds, its reader gives finite scores or says what is wrong."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.io.benchmarks.lmms_eval import is_lmms_eval, read_lmms_eval
from analysis.io.benchmarks.scores import Results, ResultsError, parse_json
from analysis.io.benchmarks.vlmevalkit import read_vlmevalkit

WORDS = st.sampled_from(
    [
        *("results", "higher_is_better", "configs", "group_subtasks", "n-samples", "effective"),
        *("qa", "acc,none", "acc", "doc_id", "score", "image_id", "test_split", "score_key"),
        *("split", "Overall", "Average", "tot", "Bleu", "CIDEr", "ROUGE_L", "Category", "none", ""),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
LMMS = st.fixed_dictionaries(
    {"results": st.dictionaries(WORDS, VALUES, max_size=3), "configs": VALUES},
    optional=dict.fromkeys(("higher_is_better", "group_subtasks", "n-samples", "config"), VALUES),
)


def is_whole(results: Results) -> bool:
    return all(
        math.isfinite(score.value)
        and isinstance(score.task, str)
        and (score.samples is None or score.samples["value"].notna().all())
        for score in results.scores
    )


@settings(max_examples=300, deadline=None)
@given(LMMS, st.lists(VALUES, max_size=3))
def test_any_results_of_lmms_eval(content: Any, lines: list[Any]) -> None:
    read = parse_json(json.dumps(content).encode())
    samples = "\n".join(map(json.dumps, lines)).encode()
    assert is_lmms_eval(read)
    with contextlib.suppress(ResultsError):
        assert is_whole(read_lmms_eval(read, lambda task: samples))


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_any_json_of_vlmevalkit(content: Any) -> None:
    with contextlib.suppress(ResultsError):
        assert is_whole(read_vlmevalkit(json.dumps(content).encode(), "m_X_acc.json", ["m"]))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('",\n\r0.5aOveral', max_size=60).map(str.encode))
def test_any_bytes_of_vlmevalkit(data: bytes) -> None:
    with contextlib.suppress(ResultsError):
        assert is_whole(read_vlmevalkit(data, "m_X_acc.csv", ["m"]))
        assert is_whole(read_vlmevalkit(b"Overall\n" + data, "m_X_acc.csv", ["m"]))

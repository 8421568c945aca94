"""Which rows of a training curve a run gets, and when."""

import itertools

import pytest

from orchestrator.tracking.curves import (
    LIVE_EVERY_S,
    MOST_ROWS,
    RUN_EVERY_S,
    CurveRow,
    LiveCurves,
    Thinned,
)
from orchestrator.tracking.mlflow_client import AwayError, RefusedError

STEPS = 200_000
"""Of the paper's trainings: a row each ten steps, validation each thousand."""
BEST = 137_000


def row(step: int, steps: int = STEPS) -> CurveRow:
    metrics = {"loss": 1.0}
    if step % 1000 == 0:
        metrics["val_loss"] = 0.5 if step == BEST else 0.7
    return CurveRow(step, steps, metrics, step)


CURVE = [row(step) for step in range(10, STEPS + 1, 10)]


def steps_of(rows: list[CurveRow]) -> list[int]:
    return [kept.step for kept in rows]


def test_a_curve_of_the_paper_has_500_rows_at_most_evenly_with_first_last_and_best() -> None:
    kept = Thinned(STEPS).add_rest(CURVE)
    steps = steps_of(kept)
    assert len(steps) == len(set(steps)) <= MOST_ROWS
    assert steps == sorted(steps)
    assert {10, BEST, STEPS} <= set(steps)
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert max(gaps) <= 2 * STEPS / 200
    assert sum(kept_row.is_validated for kept_row in kept) == 200, "all validations have room"


def test_a_short_curve_is_kept_whole() -> None:
    curve = [row(step, 1000) for step in range(1, 501)]
    assert Thinned(1000).add_rest(curve) == curve
    longer = [*curve, row(501, 1000)]
    assert len(Thinned(1000).add_rest(longer)) < len(longer)


def test_live_rows_and_the_finished_curve_have_500_rows_together_and_none_twice() -> None:
    live = LiveCurves()
    arrived = [reported for number, reported in enumerate(CURVE) if number % 7 == 3]
    for reported in arrived:
        live.add("k", reported.step, STEPS, reported.metrics)
    logged: list[CurveRow] = []
    live.log_if_due(lambda key, rows: logged.extend(rows))
    # A driver that continues knows from the server what the run has.
    rest = Thinned(STEPS, {kept.step: kept.is_validated for kept in logged}).add_rest(CURVE)
    steps = steps_of([*logged, *rest])
    assert len(steps) == len(set(steps)) <= MOST_ROWS
    assert {10, BEST, STEPS} <= set(steps)


def test_a_training_that_is_tried_again_goes_on_where_its_run_stands() -> None:
    live, logged = LiveCurves(), list[CurveRow]()
    for step in [*range(1, 61), *range(41, 81)]:  # killed at 60, continued from 40
        live.add("k", step, 80, {"loss": 1.0})
    live.log_if_due(lambda key, rows: logged.extend(rows))
    assert steps_of(logged) == list(range(1, 81))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_call_a_second_serves_the_training_that_has_waited_longest() -> None:
    clock = Clock()
    live, served = LiveCurves(clock, lambda: 1.7e9), list[tuple[str, list[int]]]()

    def log(key: str, rows: list[CurveRow]) -> None:
        served.append((key, steps_of(rows)))
        assert {kept.time_ms for kept in rows} == {1_700_000_000_000}

    for step in (1, 2):
        for key in ("a", "b"):
            live.add(key, step, 100, {"loss": 1.0})
    for _ in range(3):
        live.log_if_due(log)
    assert served == [("a", [1, 2])]
    live.add("a", 3, 100, {"loss": 1.0})
    for _ in range(3):
        clock.now += LIVE_EVERY_S
        live.log_if_due(log)
    assert served[1:] == [("b", [1, 2])]  # "a" was served a moment ago
    clock.now = RUN_EVERY_S
    live.log_if_due(log)
    assert served[2:] == [("a", [3])]


def test_rows_wait_for_a_server_that_is_away_and_not_for_one_that_refuses_them() -> None:
    clock = Clock()
    live, logged = LiveCurves(clock), list[int]()

    def raise_with(error: Exception) -> None:
        def log(key: str, rows: list[CurveRow]) -> None:
            raise error

        clock.now += RUN_EVERY_S
        with pytest.raises(type(error)):
            live.log_if_due(log)

    live.add("a", 1, 100, {"loss": 1.0})
    raise_with(AwayError("gone"))
    live.add("a", 2, 100, {"loss": 1.0})
    clock.now += RUN_EVERY_S
    live.log_if_due(lambda key, rows: logged.extend(steps_of(rows)))
    assert logged == [1, 2]
    live.add("a", 3, 100, {"loss": 1.0})
    raise_with(RefusedError("a limit"))
    live.add("a", 4, 100, {"loss": 1.0})
    live.add("b", 1, 100, {"loss": 1.0})
    live.drop("b")
    clock.now += RUN_EVERY_S
    live.log_if_due(lambda key, rows: logged.extend(steps_of(rows)))
    assert logged == [1, 2, 4]

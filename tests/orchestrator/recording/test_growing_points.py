"""The points file of a sweep that runs."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from orchestrator.plan.jobs import Plan
from orchestrator.recording import growing_points
from orchestrator.recording.growing_points import GrowingPoints
from orchestrator.storage.provenance import fingerprints
from orchestrator.storage.store import Store
from orchestrator.tracking.points_file import write_sweep
from search_spaces import OperatingPoint, load_space, operating_points
from tests.orchestrator.recording.test_live_figures import measured
from tests.orchestrator.storage.conftest import s3_endpoint, s3_storage
from tests.orchestrator.waiting import wait_until

__all__ = ["s3_endpoint"]


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "disk":
        return Store(str(tmp_path / "storage"))
    uri = s3_storage(request.getfixturevalue("s3_endpoint"), tmp_path.name, monkeypatch)
    return Store(uri, cache=tmp_path / "cache")


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan by which every point is complete."""
    space = load_space("smoke")
    monkeypatch.setattr(Plan, "is_complete", lambda plan, point: True)
    monkeypatch.setattr(growing_points, "SHARE", 1.0)
    return Plan(space, operating_points(space), fingerprints(space), None)


def tables(store: Store) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The points file in both forms."""
    parquet, text = store.read("smoke/points.parquet"), store.read("smoke/points.csv")
    assert parquet is not None
    assert text is not None
    return pd.read_parquet(io.BytesIO(parquet)), pd.read_csv(io.BytesIO(text))


def keys_in(store: Store) -> set[str]:
    """The points that both forms of the file have by now."""
    if store.read("smoke/points.csv") is None:
        return set()
    parquet, text = tables(store)
    return set(parquet["point_key"]) & set(text["point_key"])


def test_the_file_grows_with_every_point_and_ends_as_the_finished_one(
    store: Store, plan: Plan
) -> None:
    points = plan.points
    growing = GrowingPoints(
        plan,
        store,
        "smoke",
        points[:2],
        lambda p: measured(plan, p),
        cast("Any", Lease(False)),
        every_s=0.0,
    )
    try:
        for count in (2, 3, 4):
            expected = {plan.key(point) for point in points[:count]}
            wait_until(lambda expected=expected: keys_in(store) == expected, 60)
            growing.add(points[count])
        for point in points[5:]:
            growing.add(point)
        wait_until(lambda: len(keys_in(store)) == len(points), 60)
    finally:
        growing.close()
    grown, grown_text = tables(store)
    complete = {plan.key(point): measured(plan, point) for point in points}
    write_sweep(plan, store, "smoke", complete, {}, None, "sqlite:///x.db", "e", "ada", {}, [])
    finished, finished_text = tables(store)
    pd.testing.assert_frame_equal(grown, finished)
    pd.testing.assert_frame_equal(grown_text, finished_text)


def test_a_finished_points_file_is_never_replaced_by_a_growing_one(
    tmp_path: Path, plan: Plan
) -> None:
    store = Store(str(tmp_path))
    growing = GrowingPoints(
        plan,
        store,
        "smoke",
        plan.points,
        lambda p: measured(plan, p),
        cast("Any", Lease(False)),
        every_s=0.0,
    )
    growing.close()
    store.write("smoke/points.csv", b"finished")
    growing.add(plan.points[0])
    assert store.read("smoke/points.csv") == b"finished"


class Lease:
    """A lease of which a test says whether another driver has taken it, or may have."""

    def __init__(self, is_taken: bool, is_lost: bool | None = None) -> None:
        self.is_taken = is_taken
        self.doubt = is_taken if is_lost is None else is_lost
        self.was_asked = False

    @property
    def is_lost(self) -> bool:
        self.was_asked = True
        return self.doubt


@pytest.mark.parametrize("is_taken", [False, True])
def test_only_the_driver_that_has_the_sweep_writes(
    is_taken: bool, tmp_path: Path, plan: Plan
) -> None:
    store, lease = Store(str(tmp_path)), Lease(is_taken)
    growing = GrowingPoints(
        plan, store, "smoke", plan.points, lambda p: measured(plan, p), cast("Any", lease)
    )
    wait_until(lambda: lease.was_asked, 60)
    growing.close()
    assert (store.read("smoke/points.csv") is None) == is_taken


def test_a_driver_that_was_stopped_writes_only_when_it_knows_that_it_has_the_sweep(
    tmp_path: Path, plan: Plan
) -> None:
    store, lease = Store(str(tmp_path)), Lease(False, is_lost=True)
    growing = GrowingPoints(
        plan, store, "smoke", plan.points, lambda p: measured(plan, p), cast("Any", lease)
    )
    wait_until(lambda: lease.was_asked, 60)
    assert store.read("smoke/points.csv") is None
    lease.doubt = False
    wait_until(lambda: len(keys_in(store)) == len(plan.points), 60)
    growing.close()


def test_a_point_that_cannot_be_read_and_a_storage_that_is_away_cost_no_other_row(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, store = plan.points[0], Store(str(tmp_path))

    def read(point: OperatingPoint) -> object:
        if point == broken:
            raise OSError("damaged")
        return measured(plan, point)

    monkeypatch.setattr(growing_points, "write_table", failing_once(growing_points.write_table))
    growing = GrowingPoints(
        plan, store, "smoke", plan.points, read, cast("Any", Lease(False)), every_s=0.0
    )  # type: ignore[arg-type]
    expected = {plan.key(point) for point in plan.points[1:]}
    wait_until(lambda: keys_in(store) == expected, 60)
    growing.close()


def failing_once(write: Callable[..., None]) -> Callable[..., None]:
    failures = [OSError("the storage is away")]

    def write_or_fail(*arguments: object) -> None:
        if failures:
            raise failures.pop()
        write(*arguments)

    return write_or_fail

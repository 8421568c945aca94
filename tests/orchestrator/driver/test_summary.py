"""The last lines of a sweep that lacks points."""

from pathlib import Path

import pytest

from orchestrator.driver.summary import print_summary
from orchestrator.plan.jobs import Plan
from orchestrator.recording.request import Outcome, Request
from orchestrator.storage.store import Store
from orchestrator.tracking.points_file import MissingPoint
from search_spaces import load_space, operating_points, select


def planned(storage: Path) -> tuple[Request, Plan]:
    """The smoke space's sweep, of which nothing is done."""
    space = load_space("smoke")
    points = operating_points(space)
    request = Request(space, points, Store(str(storage)), "smoke", None, False, 0.0, "the command")
    return request, Plan(space, points, {}, None)


def test_points_that_failed_for_one_cause_are_listed_under_it_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request, plan = planned(tmp_path)
    points = request.points
    missing = {}
    for number, point in enumerate(points[:5]):
        log = f"/logs/{number}.log"
        reason = f"OSError: no/such is no model (log: {log})" if number < 3 else "out of memory"
        # The log of the second could not be written.
        missing[str(number)] = MissingPoint(point, reason, "" if number == 1 else log)
    outcome = Outcome(None, missing, "sqlite:///x.db", {}, sliced=(points[-1].label,))
    print_summary(request, plan, outcome)
    out, err = capsys.readouterr()
    (line,) = (line for line in out.splitlines() if "out of memory" in line)
    assert line.endswith(points[-1].label)
    assert f"5 of {len(points)} points" in err
    for cause, members, log in (
        ("OSError: no/such is no model", points[:3], "/logs/0.log"),
        ("out of memory", points[3:5], "/logs/3.log"),
    ):
        assert err.count(cause) == 1
        listed = err.partition(cause)[2].splitlines()[1]
        assert listed.strip() == ", ".join(point.label for point in members)
        assert log in err
    assert err.count(".log") == 2


def test_cancelled_points_are_named_and_are_no_missing_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request, plan = planned(tmp_path)
    points = request.points
    labels = tuple(point.label for point in points[:2])
    print_summary(request, plan, Outcome(None, {}, "sqlite:///x.db", {}, cancelled=labels))
    out, err = capsys.readouterr()
    (line,) = (line for line in out.splitlines() if "cancelled" in line)
    assert all(label in line for label in labels)
    assert "does them again" in line
    assert err == ""


def test_reasons_and_lines_of_others_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request, plan = planned(tmp_path)
    points = request.points
    missing = {"0": MissingPoint(points[0], "ValueError: evil\x1b[2J\u202e", "/logs/evil\x1b")}
    outcome = Outcome(
        None,
        missing,
        "sqlite:///x.db",
        {},
        page="#/evil\x1b",
        left_out=("evil\r.png",),
        cancelled=("evil\x1b",),
        sliced=("evil\x1b",),
    )
    print_summary(request, plan, outcome)
    printed = "".join(capsys.readouterr())
    assert not set(printed) & {"\x1b", "\r", "\u202e"}
    assert printed.count("evil") == 6


def test_what_mlflow_did_not_take_is_said_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request, plan = planned(tmp_path)
    for page, is_said in (("", True), ("#/experiments/1", False)):
        print_summary(request, plan, Outcome(None, {}, "http://127.0.0.1:5999", {}, page=page))
        said = capsys.readouterr().out
        assert ("MLflow lacks what it could not take" in said) is is_said
        assert ("runs    http" in said) is not is_said


def test_points_that_are_shown_although_this_command_leaves_them_out_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space, store = load_space("smoke"), Store(str(tmp_path))
    whole = operating_points(space)
    some = select(whole, ["scenario=d1"])
    plan = Plan(space, some, {}, store)
    assert 0 < len(some) < len(whole)
    request = Request(space, some, store, "smoke", None, False, 0.0, "the command")
    print_summary(request, plan, Outcome(None, {}, "sqlite:///x.db", {}))
    assert "also shown" not in capsys.readouterr().out
    others = [point for point in whole if point not in some][:3]
    plan.complete_points = lambda: [*some, *others]  # type: ignore[method-assign]
    print_summary(request, plan, Outcome(None, {}, "sqlite:///x.db", {}))
    assert "also shown, as stored before: 3 operating points that --only" in capsys.readouterr().out

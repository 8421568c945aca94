import io
import re

import pytest

from orchestrator.driver.line_view import LineView
from orchestrator.driver.live_view import LiveView
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Job, Plan
from search_spaces import load_space, operating_points


def jobs() -> dict[str, Job]:
    space = load_space("smoke")
    return dict(Plan(space, operating_points(space), {}, None).jobs)


def test_lines_tell_each_event_once_and_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    view, plan = LineView(), jobs()
    first, second, third = list(plan)[:3]
    view.plan(plan, 2)
    view.job_event(JobEvent("started", first))
    for step in range(100):
        view.job_event(JobEvent("progressed", first, phase="train", step=step, steps=100))
    view.job_event(JobEvent("finished", first))
    view.job_event(JobEvent("started", second))
    view.job_event(JobEvent("retried", second, "it broke"))
    view.job_event(JobEvent("started", second))
    view.job_event(JobEvent("failed", second, "it broke again"))
    view.job_event(JobEvent("failed", third, "because the second failed"))
    lines = [re.sub(r"^\[\d+:\d\d\] ", "", line) for line in capsys.readouterr().out.splitlines()]
    total = len(plan)
    assert lines[0] == f"{total} jobs to do, 2 at a time"
    assert lines[1] == f"0/{total} start test images"
    assert lines[2].startswith(f"1/{total} done  test images in 0.0 s")
    assert lines[-2].startswith(f"2/{total} FAIL ")
    assert lines[-2].endswith("it broke again")
    assert lines[-1].startswith(f"3/{total} FAIL ")
    assert len(lines) == 8


@pytest.mark.parametrize("is_live", [False, True])
def test_a_cause_of_many_failures_is_one_line_with_all_jobs(
    is_live: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = jobs()
    view = LiveView("smoke") if is_live else LineView()
    try:
        view.plan(plan, 2)
        first, *others = list(plan)[:4]
        view.job_event(JobEvent("withdrawn", first, "the disk is full", others=tuple(others)))
        line = view._notes[-1] if isinstance(view, LiveView) else capsys.readouterr().out
        assert view._states.failed == set(others)
    finally:
        view.close()
    assert line.count("the disk is full") == 1
    for key in others:
        assert plan[key].label in line


def test_the_live_picture_shows_waves_running_points_and_failures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from rich.console import Console

    view, plan = LiveView("smoke"), jobs()
    try:
        first, third, second = list(plan)[:3]
        view.plan(plan, 2)
        view.job_event(JobEvent("started", first))
        view.job_event(JobEvent("finished", first))
        view.job_event(JobEvent("started", second))
        view.job_event(JobEvent("progressed", second, phase="train", step=0, steps=100))
        running = view._states.running[second]
        running.phase_began -= 10
        view.job_event(JobEvent("progressed", second, phase="train", step=25, steps=100))
        # The first took 0 s of the 10; a quarter of the second job went with them.
        view._states.first_job_began = running.phase_began
        view.job_event(JobEvent("started", third))
        view.job_event(JobEvent("failed", third, "out of memory"))
        left = sum(job.cost for key, job in plan.items() if key not in (first, third))
        gone = plan[first].cost + 0.25 * plan[second].cost
        seconds = round(10 * (left - 0.25 * plan[second].cost) / gone)
        console = Console(width=120, file=io.StringIO(), record=True)
        console.print(view._draw())
        said = console.export_text()
    finally:
        view.close()
    assert f"smoke  1/{len(plan)} jobs" in said
    assert "1 failed" in said
    (clock,) = re.findall(r"about ([\d:]+) left", said)
    minutes, rest = map(int, clock.split(":")[-2:])
    hours = int(clock.split(":")[0]) if clock.count(":") == 2 else 0
    assert hours * 3600 + minutes * 60 + rest == pytest.approx(seconds, abs=1 + 0.01 * seconds)
    assert "points from the codec 0/7" in said
    assert re.search(r"uncompressed +train +.* 2\.5 steps/s +0:30 left", said)
    assert "out of memory" in said

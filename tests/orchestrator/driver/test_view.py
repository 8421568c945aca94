import errno
import io
import re
from dataclasses import replace

import pytest

from orchestrator.driver.line_view import LineView
from orchestrator.driver.live_view import LiveView
from orchestrator.monitoring.job_states import JobStates
from orchestrator.monitoring.time_left import TimeLeft
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Job, Plan
from search_spaces import load_space, operating_points


def jobs() -> dict[str, Job]:
    space = load_space("smoke")
    return dict(Plan(space, operating_points(space), {}, None).jobs)


class Sweep:
    """A view with the states that it shows, and a clock that the test sets."""

    def __init__(self, is_live: bool, plan: dict[str, Job]) -> None:
        self.now = 0.0
        self.states = JobStates(clock=lambda: self.now)
        left = TimeLeft(self.states)
        self.view = LiveView("smoke", self.states, left) if is_live else LineView(self.states, left)
        self.states.plan(plan, 2)
        self.view.plan(plan, 2)

    def happen(self, event: JobEvent) -> None:
        self.states.record(event)
        self.view.job_event(event)


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [re.sub(r"^\[\d+:\d\d\] ", "", line) for line in capsys.readouterr().out.splitlines()]


class FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_under_the_lines_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.stdout", FullDisk())
    sweep = Sweep(False, jobs())
    sweep.view.note("a line")
    assert "No space left on device" in caplog.text
    assert "a line" in caplog.text


def test_what_runs_is_told_once_a_minute_though_nothing_happens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = jobs()
    sweep = Sweep(False, plan)
    for sweep.now in (0.0, 61.0):
        sweep.view.keep_up()
    sweep.happen(JobEvent("started", next(iter(plan))))
    for second in range(62, 200):
        sweep.now = float(second)
        sweep.view.keep_up()
    lines = [line for line in printed(capsys) if " running" in line]
    label = next(iter(plan.values())).label
    assert lines == [f"0/{len(plan)} running: {label} starting"] * 3


def test_lines_tell_each_event_once_and_progress_once_a_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = jobs()
    sweep = Sweep(False, plan)
    first, second, third = list(plan)[:3]
    sweep.happen(JobEvent("started", first))
    for step in range(121):
        sweep.now = float(step)
        loss = {"loss": 2.0 - step / 100}
        sweep.happen(
            JobEvent("progressed", first, phase="train", step=step, steps=240, metrics=loss)
        )
    sweep.happen(JobEvent("finished", first))
    sweep.happen(JobEvent("started", second))
    sweep.happen(JobEvent("retried", second, "it broke"))
    sweep.happen(JobEvent("started", second))
    sweep.happen(JobEvent("failed", second, "it broke again"))
    sweep.happen(JobEvent("failed", third, "because the second failed"))
    lines, total = printed(capsys), len(plan)
    assert lines[0] == f"{total} jobs to do, 2 at a time; passes over data run beside them"
    assert lines[1] == f"0/{total} start test images"
    # After 60 s at a step per second: 180 steps are left.
    assert lines[2] == f"0/{total} running: test images train 60/240, loss 1.4, 3:00 left"
    assert lines[3] == f"0/{total} running: test images train 120/240, loss 0.8, 2:00 left"
    assert lines[4].startswith(f"1/{total} done  test images in 120.0 s")
    assert lines[-2].startswith(f"2/{total} FAIL ")
    assert lines[-2].endswith("it broke again")
    assert lines[-1].startswith(f"3/{total} FAIL ")
    assert len(lines) == 10


def test_no_pass_over_data_is_announced_where_there_is_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    key, job = next((key, job) for key, job in jobs().items() if job.kind == "codec")
    Sweep(False, {key: job})
    assert printed(capsys) == ["1 job to do, 2 at a time"]


def test_a_line_about_many_running_jobs_names_some(capsys: pytest.CaptureFixture[str]) -> None:
    plan = jobs()
    sweep = Sweep(False, plan)
    for key in plan:
        sweep.happen(JobEvent("started", key))
    sweep.now = 61.0
    sweep.happen(JobEvent("progressed", next(iter(plan)), phase="train", step=1, steps=10))
    line = printed(capsys)[-1]
    named = [job.label for job in plan.values() if f"{job.label} " in f"{line} "]
    assert 0 < len(named) < len(plan)
    assert line.endswith(f"and {len(plan) - line.count(';')} more")


@pytest.mark.parametrize("is_live", [False, True])
def test_a_cause_of_many_failures_is_one_line_with_all_jobs(
    is_live: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = jobs()
    sweep = Sweep(is_live, plan)
    view = sweep.view
    try:
        first, *others = list(plan)[:4]
        sweep.happen(JobEvent("withdrawn", first, "the disk is full", others=tuple(others)))
        line = view._notes[-1] if isinstance(view, LiveView) else capsys.readouterr().out
        assert sweep.states.failed == dict.fromkeys(others, "the disk is full")
    finally:
        view.close()
    assert line.count("the disk is full") == 1
    for key in others:
        assert plan[key].label in line


def test_a_picture_cannot_be_steered_by_names_and_reasons() -> None:
    from rich.console import Console

    key, job = next(iter(jobs().items()))
    sweep = Sweep(True, {key: replace(job, label="evil\x1b[2J[red]label")})
    view = sweep.view
    assert isinstance(view, LiveView)
    try:
        sweep.happen(JobEvent("started", key))
        sweep.happen(JobEvent("progressed", key, phase="ph\x1base", step=1, steps=2))
        sweep.happen(JobEvent("retried", key, "rea\x1bson"))
        sweep.happen(JobEvent("started", key))
        console = Console(width=200, file=io.StringIO(), force_terminal=False)
        with console.capture() as capture:
            console.print(view._draw())
    finally:
        view.close()
    text = capture.get()
    assert "\x1b" not in text
    assert r"evil\x1b[2J[red]label" in text
    assert r"rea\x1bson" in text


def test_the_live_picture_shows_waves_running_points_with_their_loss_and_failures() -> None:
    from rich.console import Console

    plan = jobs()
    sweep = Sweep(True, plan)
    view = sweep.view
    assert isinstance(view, LiveView)
    try:
        first, third = list(plan)[:2]
        second = next(job.key for job in plan.values() if job.label == "uncompressed")
        sweep.happen(JobEvent("started", first))
        sweep.happen(JobEvent("finished", first))
        sweep.happen(JobEvent("started", second))
        sweep.happen(JobEvent("progressed", second, phase="train", step=0, steps=100))
        sweep.now = 10.0
        loss = {"loss": 0.53125, "images_per_s": 20.0}
        sweep.happen(
            JobEvent("progressed", second, phase="train", step=25, steps=100, metrics=loss)
        )
        sweep.happen(JobEvent("started", third))
        sweep.happen(JobEvent("failed", third, "out of memory"))
        console = Console(width=120, file=io.StringIO(), record=True)
        console.print(view._draw())
        output = console.export_text()
    finally:
        view.close()
    assert f"smoke  1/{len(plan)} jobs" in output
    assert "1 failed" in output
    assert "points from the codec 0/7" in output
    assert re.search(r"uncompressed +train +.* 2\.5 steps/s +0:30 left +loss 0\.5312", output)
    assert "out of memory" in output


def test_a_cancelled_job_is_over_and_has_not_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = jobs()
    first, second = list(plan)[:2]
    sweep = Sweep(False, plan)
    sweep.happen(JobEvent("started", first))
    for key in (first, second):
        sweep.happen(JobEvent("cancelled", key))
    assert printed(capsys)[-1] == f"2/{len(plan)} cancelled {plan[second].label}"
    assert sweep.states.running == {}
    assert sweep.states.failed == {}
    sweep.happen(JobEvent("started", second))
    assert sweep.states.cancelled == {first}, "an added point needs the second"

"""What the events of jobs lead to."""

from typing import Any, cast

import pytest

from orchestrator.driver.jobs_on_ray import listener
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Plan
from search_spaces import OperatingPoint, Stage, load_space, operating_points


class Recorder:
    """Stands for the monitor, the log and the growing file, and keeps what they get."""

    def __init__(self) -> None:
        self.events: list[JobEvent] = []
        self.points: list[OperatingPoint] = []

    def job_event(self, event: JobEvent) -> None:
        self.events.append(event)

    def add(self, point: OperatingPoint) -> None:
        self.points.append(point)

    def add_trained(self, stage: Stage) -> None:
        """Of a job that has no complete point."""


def test_each_finished_point_goes_to_the_growing_points_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = load_space("smoke")
    plan = Plan(space, operating_points(space), {}, None)
    monkeypatch.setattr(Plan, "is_complete", lambda plan, point: False)
    monitor, log, growing = Recorder(), Recorder(), Recorder()
    listen = listener(plan, cast("Any", monitor), cast("Any", log), cast("Any", growing))
    for key in plan.jobs:
        listen(JobEvent("started", key))
        listen(JobEvent("finished", key))
    assert set(growing.points) == set(plan.points)
    assert len(growing.points) == len(plan.points)
    assert len(monitor.events) == 2 * len(plan.jobs)

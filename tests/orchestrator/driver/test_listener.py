"""What the events of jobs lead to."""

from typing import Any, cast

from orchestrator.driver.jobs_on_ray import listener
from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Plan
from search_spaces import load_space, operating_points


class Kept:
    """Stands for the monitor and the recorder, and keeps what they get."""

    def __init__(self) -> None:
        self.events: list[JobEvent] = []

    def job_event(self, event: JobEvent) -> None:
        self.events.append(event)

    def listen(self, event: JobEvent) -> None:
        self.events.append(event)


def test_each_event_is_shown_and_recorded_and_finished_stages_are_known() -> None:
    space = load_space("smoke")
    plan = Plan(space, operating_points(space), {}, None)
    monitor, recorder = Kept(), Kept()
    listen = listener(plan, cast("Any", monitor), cast("Any", recorder))
    for key, job in plan.jobs.items():
        listen(JobEvent("started", key))
        assert job.stage.key not in plan.done
        listen(JobEvent("finished", key))
        assert {stage.key for stage in job.stages} <= plan.done.keys()
    assert len(monitor.events) == len(recorder.events) == 2 * len(plan.jobs)
    assert all(map(plan.is_complete, plan.points))

"""What the monitor asks of a view for the person at the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from orchestrator.plan.job_events import JobEvent
from orchestrator.plan.jobs import Job


class Viewer(Protocol):
    """Shows a sweep; called from several threads, after the states know the event."""

    def plan(self, jobs: Mapping[str, Job], lanes: int) -> None:
        """Show what there is to do."""
        ...

    def note(self, text: str) -> None:
        """Show a line."""
        ...

    def job_event(self, event: JobEvent) -> None:
        """Show an event."""
        ...

    def keep_up(self) -> None:
        """Show what is due though nothing has happened; called every second."""
        ...

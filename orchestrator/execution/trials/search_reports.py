"""What Ray Train's workers report, as a trial of a search reports it to Ray Tune."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.train import Checkpoint
from ray.tune.integration.ray_train import TuneReportCallback

from orchestrator.execution.job_steps import Json

if TYPE_CHECKING:  # not a part of Ray's interface
    from ray.train.v2._internal.execution.context import TrainRunContext


class SearchReports(TuneReportCallback):
    """Passes on what Tune's algorithms read: the steps that validated.

    Args:
        row_of: turns a report of a training into what the trial reports; None for nothing.
    """

    def __init__(self, row_of: Callable[[Json], dict[str, float] | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._row_of = row_of

    def after_report(
        self,
        run_context: TrainRunContext,
        metrics: list[dict[str, Any]],
        checkpoint: Checkpoint | None,
    ) -> None:
        """The first worker's report; checkpoints stay Ray Train's."""
        row = self._row_of(metrics[0])
        if row is not None:
            super().after_report(run_context, [row], None)

"""Figures and table of an unfinished sweep on its parent run in MLflow, refreshed as points arrive.

    points logged so far --analysis, nothing resampled--> plots/*.png, points.csv --> parent run

The thread of the log queue refreshes them between two things to log: at most every `EVERY_S`
seconds, and for at most `SHARE` of the time. The files have the names of the finished sweep's,
which replace them. An operating point that is still to come leaves a gap in its curve, and each
figure counts such points. A point that has failed is named, with the reason, under the figures of
its curve and in the run's description.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.plan.jobs import Plan
from orchestrator.tracking.measured import Measured
from orchestrator.tracking.mlflow_client import AwayError, RefusedError
from orchestrator.tracking.mlflow_runs import Tracker
from orchestrator.tracking.points_file import point_rows, sweep_content
from search_spaces import OperatingPoint

if TYPE_CHECKING:  # pandas and Matplotlib take seconds
    import pandas as pd

    from analysis.curves.assemble import Assembled
    from analysis.figures.common.render import Plot

EVERY_S: Final = 30.0
"""Seconds between two refreshes, at least."""
SHARE: Final = 0.02
"""Of the time that refreshing may take: a large sweep is refreshed less often."""


class LiveFigures:
    """The figures and the table of an unfinished sweep, on its parent run.

    `add`, `add_failed` and `refresh` are for the thread of the log queue, `stop` for any.

    Args:
        plan: of the sweep.
        name: the sweep's.
        note: called once with the reason, if the figures are not refreshed any more. An error
            here never ends a sweep.
        clock: seconds.
    """

    def __init__(
        self,
        plan: Plan,
        name: str,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._name, self._note, self._clock = plan, name, note, clock
        self._measured: dict[str, Measured] = {}
        self._failed: dict[str, dict[str, object]] = {}
        self._changed = False
        self._next = -float("inf")
        self._stopped = threading.Event()

    def add(self, measured: Measured) -> None:
        """Add a complete point."""
        self._measured[measured.key] = measured
        self._changed = True

    def add_failed(self, point: OperatingPoint, reason: str) -> None:
        """Add a point that failed for good."""
        self._failed[self._plan.key(point)] = {**point.fields, "reason": reason}
        self._changed = bool(self._measured)

    def stop(self) -> None:
        """Refresh no more: the finished sweep's figures are about to replace these."""
        self._stopped.set()

    def refresh(self, tracker: Tracker) -> None:
        """Bring the parent run up to date, if that is due.

        Raises:
            AwayError: the server does not answer.
            RefusedError: it refuses the figures.
        """
        if not self._changed or self._stopped.is_set() or self._clock() < self._next:
            return
        began = self._clock()
        self._changed = False
        try:
            self._refresh(tracker)
        except (AwayError, RefusedError):
            self._changed = True
            raise
        except Exception as error:
            self.stop()
            self._note(f"no live figures in MLflow: {type(error).__name__}: {error}")
        finally:
            now = self._clock()
            self._next = now + max(EVERY_S, (now - began) / SHARE)

    def _refresh(self, tracker: Tracker) -> None:
        import pandas as pd

        from analysis.curves.missing import in_words
        from analysis.figures.rate_accuracy import draw_curves, draw_psnr
        from analysis.io.read import write_points

        rows = pd.DataFrame(point_rows(self._name, self._measured, tracker.run_ids()))
        assembled = self._assembled(rows)
        total = len(assembled.sweep.manifest["expected"])
        progress = f"{len(self._measured)} of {total} operating points so far"
        failed = in_words(
            assembled.missing, assembled.sweep.scenarios, codecs=len(self._plan.space.codecs) > 1
        )
        progress += f", {len(self._failed)} failed" if failed else ""
        with tempfile.TemporaryDirectory() as scratch:
            write_points(rows, f"{scratch}/points")
            (Path(scratch) / "plots").mkdir()
            for plot in (*draw_curves(assembled), *draw_psnr(assembled)):
                if self._stopped.is_set():
                    return
                (Path(scratch) / "plots" / f"{plot.name}.png").write_bytes(_marked(plot, progress))
            tracker.sweep_run.show_progress(
                Path(scratch) / "points" / "points.csv",
                Path(scratch) / "plots",
                f"Running: {progress}. `points.csv` and `plots/` among the artifacts "
                f"follow as points arrive.{''.join(f' Failed: {words}.' for words in failed)}",
            )

    def _assembled(self, rows: pd.DataFrame) -> Assembled:
        """The points so far as a sweep, with the points that it expects."""
        from analysis.curves.assemble import assemble
        from analysis.curves.missing import missing_point
        from analysis.io.read import Sweep

        content = sweep_content(self._plan, self._name, self._measured, self._failed)
        whole = assemble(Sweep(rows, None, content))
        # All holes stay; the list of what is still to come would fill the figure.
        gone = [missing_point(row, row, False) for row in content["missing"]]
        curves, means = (
            [replace(c, missing=tuple(m for m in c.missing if m in gone)) for c in group]
            for group in (whole.curves, whole.means)
        )
        return replace(whole, curves=curves, means=means, missing=gone)


def _marked(plot: Plot, progress: str) -> bytes:
    """The figure's PNG with a note that it is not final."""
    from analysis.figures.common.style import WARN

    text = progress.replace("operating ", "")
    plot.figure.text(0.99, 0.995, text, ha="right", va="top", fontsize=6, color=WARN)
    return plot.png

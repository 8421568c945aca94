"""The context of a training function: where it runs and where it reports to.

train_point(..., context) --report(metrics, checkpoint)--+--> LocalContext: a plain directory
                                                         +--> elsewhere: a cluster's adapter
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import torch
from pydantic import FiniteFloat, TypeAdapter
from torch import nn

from trainables.datasets.images.files import remove, replacing
from trainables.training.sealing import sealed_step

_ROW: Final = TypeAdapter(dict[str, FiniteFloat])
log = logging.getLogger(__name__)


class Context(Protocol):
    """Where a training function runs and where its metrics and checkpoints go."""

    @property
    def rank(self) -> int:
        """This worker's number, 0 .. world_size - 1."""

    @property
    def world_size(self) -> int:
        """Workers that train the same thing together."""

    @property
    def device(self) -> torch.device:
        """Where this worker's tensors live."""

    @property
    def accumulation_factor(self) -> int:
        """Slices of a batch for each that the settings ask for; above 1 after memory ran out."""

    def prepare(self, module: nn.Module) -> nn.Module:
        """Make a module average its gradients over the workers (itself where there is one)."""

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Report metrics. Every worker calls it; only rank 0 passes a checkpoint.

        Args:
            metrics: finite numbers, always with `step` (done so far) and `steps` (in all).
            checkpoint: a complete directory, to be kept (moved or copied) in one atomic step; it
                is sealed (sealing.py).
        """

    def must_checkpoint(self, step: int) -> bool:
        """Whether the training must report a checkpoint at this step, besides the regular ones.

        Every worker calls it once per step, after the step, and all get the same answer.

        Args:
            step: steps done, 1 ..
        """

    def latest_checkpoint(self) -> Path | None:
        """The directory of the last kept checkpoint, read-only; None at the start."""


class LocalContext:
    """One worker and a plain directory: notebooks, tests and single-process training.

    Keeps `directory/checkpoint` and `directory/curve.jsonl` (a JSON object per report). Both
    survive a kill at any moment: the checkpoint is replaced by renames, and rows of the curve
    beyond the checkpoint's step are dropped when training continues from it. A checkpoint that is
    not as it was sealed, and damaged rows, are deleted: training goes on from what is whole.

    Args:
        directory: made if it does not exist.
        on_report: called with the metrics of every report.
        device: where to train; the CPU by default.
        accumulation_factor: as of `Context`, at least 1.
    """

    rank = 0
    world_size = 1

    def __init__(
        self,
        directory: Path,
        on_report: Callable[[Mapping[str, float]], None] | None = None,
        device: torch.device | str = "cpu",
        accumulation_factor: int = 1,
    ) -> None:
        self.directory = directory
        self.accumulation_factor = accumulation_factor
        self.device = torch.device(device)
        self._on_report = on_report
        self._kept = directory / "checkpoint"
        self._previous = directory / "checkpoint.previous"
        self._next = directory / "checkpoint.next"
        self._curve = directory / "curve.jsonl"
        directory.mkdir(parents=True, exist_ok=True)
        self._step = self._recover()
        """Of the last row of the curve, or of the checkpoint."""
        rewind_curve(self._curve, self._step)

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module itself: there is one worker."""
        return module

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Append a row to the curve, then keep the checkpoint."""
        assert all(math.isfinite(value) for value in metrics.values()), metrics
        step = int(metrics["step"])
        if step <= self._step:  # the training did not go on from the checkpoint, as it did not fit
            rewind_curve(self._curve, step - 1)
        self._step = step
        with self._curve.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(metrics), allow_nan=False) + "\n")
            if checkpoint is not None:
                file.flush()
                os.fsync(file.fileno())
        if checkpoint is not None:
            self._keep(checkpoint)
        if self._on_report is not None:
            self._on_report(metrics)

    def must_checkpoint(self, step: int) -> bool:
        """False: regular checkpoints suffice where nobody announces an end."""
        return False

    def latest_checkpoint(self) -> Path | None:
        """`directory/checkpoint` where it exists."""
        return self._kept if self._kept.exists() else None

    def _keep(self, checkpoint: Path) -> None:
        shutil.copytree(checkpoint, self._next)
        for path in self._next.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if self._kept.exists():
            self._kept.rename(self._previous)
        self._next.rename(self._kept)
        if self._previous.exists():
            shutil.rmtree(self._previous)

    def _recover(self) -> int:
        """Leave the newest checkpoint that is whole, in its place, and no other.

        Returns:
            Its step; 0 where there is none.
        """
        step = sealed_step(self._kept)
        # A kill between the two renames of `_keep` leaves the one before only.
        before = sealed_step(self._previous) if step is None else None
        if step is None and os.path.lexists(self._kept):
            log.warning(
                "%s is damaged, or of a version without checksums, and is deleted: training %s",
                self._kept,
                "begins anew" if before is None else f"goes on from step {before}",
            )
            remove(self._kept)
        if before is not None:
            self._previous.rename(self._kept)
        for leftover in (self._previous, self._next):
            remove(leftover)
        return step or before or 0


def rewind_curve(curve: Path, step: int) -> None:
    """Drop the rows of a training curve that are beyond a step, and what is no row.

    Args:
        curve: file with a JSON object per line; it may be missing.
    """
    if not os.path.lexists(curve):
        return
    if not curve.is_file():
        log.warning("%s is no file and is deleted", curve)
        remove(curve)
        return
    content = curve.read_bytes()
    # A kill can leave half a row at the end, without its newline.
    rows = [row for row in content.splitlines(keepends=True) if row.endswith(b"\n")]
    steps = [_step_of(row) for row in rows]
    if damaged := steps.count(None):
        log.warning("%s: %d damaged rows are dropped", curve, damaged)
    kept = b"".join(
        row for row, at in zip(rows, steps, strict=True) if at is not None and at <= step
    )
    if kept != content:
        with replacing(curve) as temporary:
            temporary.write_bytes(kept)


def _step_of(row: bytes) -> float | None:
    """The step of a row of a training curve; None if it is damaged."""
    try:
        return _ROW.validate_json(row).get("step")
    except ValueError:
        return None

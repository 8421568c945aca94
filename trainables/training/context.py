"""The context of a training function: where it runs and where it reports to.

train_point(..., context) --report(metrics, checkpoint)--+--> LocalContext: a plain directory
                                                         +--> elsewhere: a cluster's adapter
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import nn


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
            checkpoint: a complete directory, to be kept (moved or copied) in one atomic step.
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
    beyond the checkpoint's step are dropped when training continues from it.

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
        if not self._kept.exists() and self._previous.exists():
            # Killed between the two renames of `_keep`.
            self._previous.rename(self._kept)
        for leftover in (self._previous, self._next):
            if leftover.exists():
                shutil.rmtree(leftover)
        self._rewind_curve()

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module itself: there is one worker."""
        return module

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        """Append a row to the curve, then keep the checkpoint."""
        assert all(math.isfinite(value) for value in metrics.values()), metrics
        with self._curve.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(metrics), allow_nan=False) + "\n")
            if checkpoint is not None:
                file.flush()
                os.fsync(file.fileno())
        if checkpoint is not None:
            self._keep(checkpoint, int(metrics["step"]))
        if self._on_report is not None:
            self._on_report(metrics)

    def must_checkpoint(self, step: int) -> bool:
        """False: regular checkpoints suffice where nobody announces an end."""
        return False

    def latest_checkpoint(self) -> Path | None:
        """`directory/checkpoint` where it exists."""
        return self._kept if self._kept.exists() else None

    def _keep(self, checkpoint: Path, step: int) -> None:
        shutil.copytree(checkpoint, self._next)
        (self._next / "step.json").write_text(json.dumps({"step": step}), encoding="utf-8")
        for path in self._next.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if self._kept.exists():
            self._kept.rename(self._previous)
        self._next.rename(self._kept)
        if self._previous.exists():
            shutil.rmtree(self._previous)

    def _rewind_curve(self) -> None:
        if not self._curve.exists():
            return
        step = 0
        if self._kept.exists():
            step = json.loads((self._kept / "step.json").read_text(encoding="utf-8"))["step"]
        text = self._curve.read_text(encoding="utf-8")
        # A kill can leave half a row at the end, without its newline.
        rows = [row for row in text.splitlines(keepends=True) if row.endswith("\n")]
        kept = "".join(row for row in rows if json.loads(row)["step"] <= step)
        if kept != text:
            temporary = self._curve.with_suffix(".tmp")
            temporary.write_text(kept, encoding="utf-8")
            temporary.replace(self._curve)

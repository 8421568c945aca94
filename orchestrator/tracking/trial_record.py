"""The record of a trial of a search."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrialRecord:
    """A trial of a search: its settings and what came of it.

    Attributes:
        settings: dotted path -> value.
        key: of the operating point under these settings.
        status: `running`, `finished`, `stopped` (by ASHA, early) or `failed`.
        val_loss: the lowest validation loss so far; None if there is none.
        curve: (step, validation loss).
        reason: of a failure, in parentheses.
    """

    settings: dict[str, object]
    key: str
    status: str = "running"
    val_loss: float | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)
    reason: str = ""

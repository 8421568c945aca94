"""A search for settings of a scenario's operating points: over what, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from search_spaces.specs.base import Rate, Spec

MEASURE: Final = ("steps", "gamma", "delta", "validate_every", "checkpoint_every")
"""Settings that change the validation loss or the length of a training: never searched."""


class Range(Spec):
    """Where a searched setting lies: exactly one of these."""

    uniform: tuple[float, float] | None = None
    """Lowest and highest value."""
    log_uniform: tuple[Rate, Rate] | None = None
    """Lowest and highest value, evenly spread on a logarithmic scale."""
    integers: tuple[int, int] | None = None
    """Lowest and highest whole number, both included."""
    choice: tuple[Any, ...] | None = None
    """The values."""

    @property
    def ends(self) -> tuple[Any, ...]:
        """The lowest and highest value, or all choices."""
        ranges = (self.uniform, self.log_uniform, self.integers, self.choice)
        return next(ends for ends in ranges if ends is not None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = list(type(self).model_fields)
        present = [name for name in names if getattr(self, name) is not None]
        if len(present) != 1:
            present_names = " and ".join(present) or "none"
            raise ValueError(f"give one of {', '.join(names)}, not {present_names}")
        if present != ["choice"] and not self.ends[0] < self.ends[1]:
            raise ValueError(f"{present[0]}: {self.ends[0]} is not below {self.ends[1]}")
        if len(self.ends) < 2:
            raise ValueError("choice: give two values or more")
        return self


class SearchSpec(Spec):
    """A search for settings of a scenario, by the lowest mean validation loss of its points.

    Each trial trains all of them (codecs, lambdas, seeds), one after the other, as a sweep does.
    The validation loss is the scenario's and fixed (`Learner.validate`), so only settings that
    change neither it nor what must be trained before can be searched. Of scenarios whose loss grows
    with lambda (d2, d3), the higher rates weigh more in the mean.
    """

    algorithm: Literal["random", "optuna", "asha"] = "random"
    """`asha`: random, and trials that fall behind are stopped early, on the points that they have
    trained so far. `optuna`: its TPE sampler."""
    trials: Annotated[int, Field(gt=1)] = 12
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the algorithm; the trainings have the space's."""
    over: dict[str, Range]
    """Dotted path of a setting -> where it lies, e.g. `{d1.lr: {log_uniform: [1e-4, 1e-2]}}`."""

    @staticmethod
    def may_vary(path: str, roots: Sequence[str]) -> bool:
        """Whether a setting stands at or below one of a scenario's `search_roots`, and changes
        neither the validation loss nor the length of the training."""
        below = any(path == root or path.startswith(f"{root}.") for root in roots)
        return below and path.rpartition(".")[2] not in MEASURE

    @staticmethod
    def choices(roots: Sequence[str]) -> str:
        """The valid settings, for a message."""
        return f"{', '.join(f'{root}.*' for root in roots)}, except {', '.join(MEASURE)}"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.over:
            raise ValueError("over is empty: nothing to search")
        return self

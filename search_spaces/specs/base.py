"""What all specs share: their base, and the names and ranges of settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]*$")]
"""Letters, digits, `.`, `_`, `+` and `-`; empty for the model's own path or id."""


class Spec(BaseModel):
    """Base of all specs: unknown settings are errors, values are final, numbers are finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

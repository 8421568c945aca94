"""How rate-accuracy points are measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from search_spaces.specs.base import Positive, Spec


class EvaluationSpec(Spec):
    """How rate-accuracy points are measured."""

    batch_size: Positive = 64
    """Prompts per generation batch; answers are the same but for rounding."""
    beams: Positive = 1
    """Of the search for an answer; 1 is greedy."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """In which MLLMs run; codecs and necks run in fp32."""
    shard_size: Positive = 512
    """Samples after which answers are kept: a killed evaluation continues from there. The features
    of a shard's images are held in memory."""
    examples: Annotated[int, Field(ge=0)] = 3
    """Example pictures kept per evaluation that is made now."""

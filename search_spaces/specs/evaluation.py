"""How rate-accuracy points are measured, and what one operating point asks of the cluster."""

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


class Resources(Spec):
    """What one operating point asks of the cluster."""

    workers_per_point: Annotated[int, Field(ge=0)] = 1
    """Ray Train workers; 0 trains in the trial's own process."""
    cpus_per_worker: Positive = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    checkpoint_blocks: bool = False
    """Run each encoder block again in the backward pass: less memory, the same gradients."""
    max_failures: Annotated[int, Field(ge=0)] = 1
    """Times that an operating point is tried again after its process died or a file, the storage or
    the network failed. A lost machine costs no try; an error of its code or data is not tried
    again."""
    silence_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1800
    """Seconds after which work that makes no progress is ended and tried again like a process that
    died; more than the slowest step, validation or shard takes."""

"""How rate-accuracy points are measured, and what jobs ask of the cluster."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from search_spaces.specs.base import Positive, Rate, Spec

EVALUATION: Final = "evaluation"
KINDS: Final = ("codec", "features", EVALUATION)
"""Kinds of jobs, besides the scenarios, that may ask for resources of their own."""

Gpus = Annotated[float, Field(ge=0)]


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


class KindResources(Spec):
    """What the jobs of one kind ask for; null leaves what holds for all kinds."""

    workers_per_point: Annotated[int, Field(ge=0)] | None = None
    """Ray Train workers of a training; of `evaluation`, actors that share the samples of one."""
    cpus_per_worker: Positive | None = None
    gpus_per_worker: Gpus | None = None
    memory_gb_per_worker: Rate | None = None
    accelerator: str | None = None


class WorkerResources(Spec):
    """What the jobs of a kind ask for."""

    workers_per_point: Annotated[int, Field(ge=0)] = 1
    """Ray Train workers; 0 trains in the trial's own process."""
    cpus_per_worker: Positive = 1
    gpus_per_worker: Gpus = 0
    """A part of a GPU, or one; of `evaluation` also 2, 3 and so on, over which the MLLM of an actor
    is divided."""
    memory_gb_per_worker: Rate | None = None
    """GiB of the machine's memory that a worker takes, by which Ray places it; null for no ask."""
    accelerator: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]*$")] = ""
    """Ray's name of the GPU's type, e.g. `H100` or `A100`; empty for any."""

    @property
    def processes(self) -> int:
        """Processes that compute for one job: its workers, or the trial's own."""
        return max(1, self.workers_per_point)


class Resources(WorkerResources):
    """What jobs ask of the cluster. Jobs that make data sets ask for one CPU."""

    by_kind: dict[str, KindResources] = Field(default_factory=dict)
    """What jobs of a kind ask for instead: `codec` (base codecs), `features` (also latents and text
    embeddings), `evaluation`, or a scenario, e.g. `{d2: {workers_per_point: 4}, features:
    {gpus_per_worker: 0.5}}`."""
    checkpoint_blocks: bool = False
    """Run each encoder block again in the backward pass: less memory, the same gradients."""
    max_failures: Annotated[int, Field(ge=0)] = 1
    """Times that a job, a pass of an evaluation or a shard of data is tried again, each for itself,
    after its process died or made no progress, or its GPU, a file, the storage or the network
    failed. A lost machine costs no try, up to 100; what runs out of memory is tried once more, also
    at 0; an error of code or data is not tried again."""
    silence_s: Annotated[float, Field(gt=0)] = 1800
    """Seconds after which work that makes no progress is ended and tried again like a process that
    died; more than the slowest step, validation or shard takes."""

    def of(self, kind: str) -> WorkerResources:
        """What the jobs of a kind ask for.

        Args:
            kind: one of `KINDS`, or a scenario.
        """
        names = WorkerResources.model_fields
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        if kind in self.by_kind:
            values |= self.by_kind[kind].model_dump(exclude_none=True)
        return WorkerResources(**values)

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        for kind in ("", *self.by_kind):
            asked, setting = self.of(kind), f"by_kind.{kind}." if kind else ""
            gpus = asked.gpus_per_worker
            if gpus > 1 and kind != EVALUATION:
                problems.append(
                    f"{setting}gpus_per_worker = {gpus:g}: a worker computes on one GPU at most; "
                    "give more workers_per_point (by_kind.evaluation alone may take several)"
                )
            elif gpus > 1 and not gpus.is_integer():
                problems.append(
                    f"{setting}gpus_per_worker = {gpus:g}: more than one GPU must be whole ones"
                )
            if asked.accelerator and not gpus:
                problems.append(f"{setting}accelerator = {asked.accelerator}: gpus_per_worker is 0")
        if problems:
            raise ValueError("; ".join(problems))
        return self

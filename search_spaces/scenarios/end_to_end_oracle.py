"""end_to_end_oracle: d1's neck, trained on through the MLLM itself towards the right answers.

    image --codec--> bytes --codec--> y_hat --> neck --> encoder blocks k .. --> MLLM --> answer

Its gain over d1 estimates what the surrogate loss costs. It needs answers for the training images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from search_spaces.facts.tasks import plugin_identities, tasks_of_data, tasks_to_learn
from search_spaces.scenarios.contract import (
    Counts,
    Scenario,
    base_codec,
    bridge_identity,
    frozen_latents,
    started_from,
)
from search_spaces.scenarios.d1 import SCENARIO as D1
from search_spaces.specs.base import Positive
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.space import Space
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages
from search_spaces.specs.training import Optimiser


class OracleTraining(Optimiser):
    """end_to_end_oracle: d1's neck, trained on through the first MLLM towards the right answers.

    Its gain over d1 estimates what the surrogate loss costs. Only where the data has answers for
    its training images: the made worlds. Ours.
    """

    steps: Positive = 20_000


class EndToEndOracle(Scenario):
    """d1's neck, trained on through the MLLM."""

    name = "end_to_end_oracle"
    key = "end_to_end_oracle"
    settings = OracleTraining
    uses_surrogate = False
    trains_through_mllm = True
    seconds_per_image = 0.027
    look = ScenarioLook(
        title="end-to-end oracle",
        order=65,
        family="bridge",
        colour="#8a63d2",
        marker="*",
        line="--",
        sentence="d1's neck is trained on through the MLLM itself, towards the right answers.",
    )

    def uses(self) -> tuple[str, ...]:
        """The neck that it starts from."""
        return (D1.name,)

    def problems(self, space: Space) -> Iterator[str]:
        """Reports missing answers for training images, and a missing MLLM."""
        needs = "baselines: end_to_end_oracle learns from the answers for the training images"
        if not space.data.is_made:
            yield f"{needs}, which data of kind {space.data.kind!r} has not; made ones have"
        elif not space.mllms:
            yield f"{needs} through the first of mllms, which is empty"
        elif not space.answered:
            learnable = tasks_to_learn(tasks_of_data(space.data.kind))
            yield f"{needs}, which are for {', '.join(learnable)}; tasks has none of these"

    def start(self, space: Space, point: OperatingPoint) -> OperatingPoint:
        """d1 of the same codec, rate and seed."""
        return OperatingPoint(point.codec, point.lmbda, D1.name, point.seed, point.variant)

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """Codec, latents, d1's neck, and the answers to the tasks of other distributions."""
        foreign = tuple(plugin_identities(stages.space.answered))
        images = stages.train_images()
        return {
            **base_codec(stages, point),
            **frozen_latents(stages, point),
            **started_from(stages, point),
            **({"answers": stages.samples(foreign, images)} if foreign else {}),
        }

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """Encoder, neck, training, the MLLM and the tasks that it learns from."""
        space = stages.space
        return {
            **bridge_identity(stages, point),
            "mllm": stages.fingerprint(space.mllms[0].model),
            "tasks": list(space.answered),
        }

    def trained_parameters(self, space: Space, counts: Counts) -> float:
        """The neck."""
        return counts["neck"]


SCENARIO = EndToEndOracle()

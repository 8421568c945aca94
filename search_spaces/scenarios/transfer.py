"""transfer: d1's neck of one codec, as it is, on the latents of another.

    image --codec B--> bytes --> y_hat of B --> d1's neck of codec A --> encoder blocks k ..

The neck is that of codec A's rate whose lambda is nearest (on a logarithmic scale).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from search_spaces.scenarios.contract import (
    Counts,
    Scenario,
    base_codec,
    settings_as,
    started_from,
)
from search_spaces.scenarios.d1 import SCENARIO as D1
from search_spaces.specs.base import Positive, Rate
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.space import Space
from search_spaces.specs.stage import Reads
from search_spaces.specs.stages import Stages, rate_identity
from search_spaces.specs.training import Optimiser


class TransferTraining(Optimiser):
    """transfer, transfer_tuned: d1's neck of one codec on the latents of the others.

    `transfer` takes the neck as it is, of the rate whose lambda is nearest; `transfer_tuned` trains
    it with the surrogate loss for these few steps. Ours.
    """

    source: str = ""
    """Name of the codec whose necks are taken; empty for the first."""
    steps: Positive = 20_000
    linear_lr: Rate | None = None
    """Learning rate of the neck's linear layer; null for `lr`."""

    @property
    def identity(self) -> dict[str, Any]:
        """See `Optimiser`; whose neck it takes is in the key of what it starts from."""
        settings = super().identity | {"linear_lr": self.linear_lr or self.lr}
        del settings["source"]
        return settings


class Transferred(Scenario):
    """d1's neck of another codec; `transfer`, and `transfer_tuned` after further training."""

    key = "transfer"
    settings = TransferTraining

    def uses(self) -> tuple[str, ...]:
        """The neck that it takes."""
        return (D1.name,)

    def source(self, space: Space) -> CodecSpec:
        """The codec whose necks are taken."""
        label = settings_as(space, self.key, TransferTraining).source
        return space.codec(label or space.codecs[0].label)

    def problems(self, space: Space) -> Iterator[str]:
        """Reports a missing source codec, a missing second codec, different latent channels."""
        labels = [codec.label for codec in space.codecs]
        label = settings_as(space, self.key, TransferTraining).source
        if label not in ("", *labels):
            yield f"transfer.source = {label!r}: no such codec; there are {', '.join(labels)}"
            return
        if len(labels) == 1:
            yield f"baselines: {self.name} needs a codec beside {labels[0]}"
            return
        source = self.source(space)
        for codec in space.codecs:
            if codec.M != source.M:
                yield (
                    f"baselines: {self.name} from {source.label} to {codec.label}: a neck reads "
                    f"M channels of latents, and they have {source.M} and {codec.M}"
                )

    def applies_to(self, space: Space, codec: CodecSpec) -> bool:
        """All codecs but the source have it."""
        return codec.label != self.source(space).label

    def start(self, space: Space, point: OperatingPoint) -> OperatingPoint:
        """d1 of the source codec, at the nearest lambda."""
        source, wanted = self.source(space), point.lmbda
        assert wanted is not None
        lmbda = min(source.lambdas, key=lambda lmbda: abs(math.log(lmbda / wanted)))
        return OperatingPoint(source.at(lmbda), lmbda, D1.name, point.seed, point.variant)

    def record(self, space: Space, point: OperatingPoint) -> dict[str, Any]:
        """The settings of its training, and whose neck it takes."""
        start = self.start(space, point)
        assert start.codec is not None
        neck = {"codec": start.codec.label, "lmbda": start.lmbda}
        return {**super().record(space, point), "neck_of": neck}

    def trained_parameters(self, space: Space, counts: Counts) -> float:
        """The neck."""
        return counts["neck"]


class Transfer(Transferred):
    """d1's neck of another codec, as it is."""

    name = "transfer"
    trains = False
    look = ScenarioLook(
        title="transfer",
        order=80,
        family="transfer",
        colour="#d55e00",
        marker="<",
        line="-.",
        sentence="d1's neck of another codec is used as it is.",
    )

    def reads(self, stages: Stages, point: OperatingPoint) -> Reads:
        """Codec and neck."""
        return {**base_codec(stages, point), **started_from(stages, point)}

    def identity(self, stages: Stages, point: OperatingPoint) -> dict[str, Any]:
        """The rate of a variable-rate codec."""
        assert point.codec is not None
        return rate_identity(point.codec)


SCENARIO = Transfer()

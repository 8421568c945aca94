"""Training a network that stands between decoded images and the encoder.

y_hat --g_s--> image --> network --> encoder --> surrogate loss
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.codecs import Codec
from trainables.datasets.rows import Batch
from trainables.points.learning import Group, SurrogateLearner, SurrogateSetting


class ImageLearner(SurrogateLearner):
    """A network from decoded images to what the encoder gets, behind a frozen codec.

    Stored latents are decoded where there are any (`from_latents`), else those of images.

    Args:
        setting: of the loss.
        network: its parameters with gradients are trained, under the name `network_name`.
        lr: learning rate.
    """

    def __init__(
        self,
        setting: SurrogateSetting,
        network: nn.Module,
        network_name: str,
        codec: Codec,
        lr: float,
        from_latents: bool,
    ) -> None:
        super().__init__(setting, "y_hat" if from_latents else "image")
        self.add_module(network_name, network)
        self.codec = codec.requires_grad_(False)
        self._network_name = network_name
        self._lr = lr

    def student_input(self, batch: Batch) -> Tensor:
        """What the network makes of the decoded images."""
        entered: Tensor = getattr(self, self._network_name)(self._decoded(batch))
        return entered

    def groups(self) -> list[Group]:
        """The network."""
        network = getattr(self, self._network_name)
        return [Group([p for p in network.parameters() if p.requires_grad], self._lr)]

    @torch.no_grad()
    def _decoded(self, batch: Batch) -> Tensor:
        if batch.y_hat is not None:
            return self.codec.synthesis(batch.y_hat)
        assert batch.image is not None
        return self.codec.synthesis(self.codec.latents(batch.image))

"""CLIP's zero-shot classifier: the encoder answers alone, by the class whose text is nearest.

    last hidden state --pool--> pooled feature (P) @ text weights (P, C) --> the best five classes

The text weights are unit vectors, so the feature's own length does not change the order.

Shapes: `B` images, `T` tokens, `D` width, `P` joint width, `C` classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.encoders.bridge import Entry
from trainables.encoders.partial_encoder import PartialEncoder, Teacher

TOP = 5


class ZeroShot:
    """Answers in place of an MLLM.

    Args:
        encoder: of the operating point.
        text_weights: (P, C).
        names: of the C classes.

    Raises:
        ValueError: there are not as many names as text weights.
    """

    def __init__(
        self, encoder: PartialEncoder | Teacher, text_weights: Tensor, names: Sequence[str]
    ) -> None:
        partial = encoder.encoder if isinstance(encoder, Teacher) else encoder
        assert partial.pool is not None, "the model has no pooled feature"
        if text_weights.shape[1] != len(names):
            raise ValueError(f"{text_weights.shape[1]} text weights for {len(names)} classes")
        self._encoder = encoder
        self._pool: nn.Module = partial.pool
        self._text = text_weights
        self._names = list(names)

    def views(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """What of an image is coded: the image."""
        return [pixels]

    @torch.no_grad()
    def look(self, entry: Entry, size: tuple[int, int]) -> list[Tensor]:
        """Pooled features of images, (P,) each, from where the operating point enters.

        Args:
            entry: of B images.
            size: of no meaning here.
        """
        return list(self._pool(self._encoder.hidden(entry.given, -1)))

    @torch.no_grad()
    def answer(
        self,
        prompts: Sequence[str],
        features: Sequence[Sequence[Tensor]],
        max_new_tokens: int,
        batch_size: int,
    ) -> list[str]:
        """The best five classes of each image, best first: a JSON list of "number name".

        Args:
            prompts: of no meaning here.
            features: of each the (P,) of its one image.
            max_new_tokens: of no meaning here.
            batch_size: images at once.
        """
        answers: list[str] = []
        for start in range(0, len(features), batch_size):
            pooled = torch.stack([image for (image,) in features[start : start + batch_size]])
            logits = pooled @ self._text.to(pooled.device)
            best = logits.topk(min(TOP, len(self._names)), dim=1).indices.tolist()
            answers += [json.dumps([f"{c} {self._names[c]}" for c in row]) for row in best]
        return answers

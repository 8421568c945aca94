"""How an MLLM looks at images, and how what it saw goes into its forward pass and `generate`.

    image --views--> image, or base view and crops --(coded)--> entry --look--> what is kept
    what is kept --shown--> the arguments of the class's own forward pass

Shapes: `B` images, `V` views of them all, `S` side of the encoder's input in pixels, `T` tokens of
the tower, `W` its width, `P` text positions of an image, `D` width of the text model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from search_spaces.facts.mllm_families import Family, layers_read
from trainables.datasets.arrays import Pixels
from trainables.encoders.bridge import Entry, blocks_skipped_from, entered, hidden_at, parts_of
from trainables.encoders.pretrained import Preprocessing


class VisionInputs:
    """The looking part of an MLLM.

    Args:
        model: the MLLM.
        family: its own.
        preprocess: how its visual encoder wants images.
        processor: its processor; None where it has none.

    Attributes:
        model, family, preprocess: as given.
        tower: its visual tower.
        last_read: index of the last of the tower's hidden states that the text model reads.

    Raises:
        ValueError: the class cannot do without a processor.
    """

    def __init__(
        self, model: Any, family: Family, preprocess: Preprocessing, processor: Any
    ) -> None:
        if processor is None and (family.crops or family.pixels_only):
            raise ValueError(f"{family.title}: needs its processor, and there is none beside it")
        self.model, self.family, self.preprocess = model, family, preprocess
        self._cutter = processor.image_processor if family.crops else None
        self.tower: nn.Module = attrgetter(family.tower)(model)
        self._blocks = len(parts_of(self.tower).blocks)
        layers = layers_read(model.config.to_dict(), family)
        read = [layer if layer >= 0 else self._blocks + 1 + layer for layer in layers]
        self._first_read: int = min(read)
        self.last_read: int = max(read)
        # Of images that are read as views: a size that takes so many positions, views of a size.
        self._sizes: dict[int, tuple[int, int]] = {}
        self._counts: dict[tuple[int, int], int] = {}

    @property
    def device(self) -> torch.device:
        """Where the model stands; of a divided one, its first weights."""
        device: torch.device = self.model.device
        return device

    def views(self, pixels: Pixels) -> list[Pixels]:
        """What of an image (H, W, 3) is coded, each view as an image of its own.

        The image itself; of a class that reads crops, what its own processor cuts of it: the base
        view and the crops, each (S, S, 3).
        """
        return [pixels] if self._cutter is None else list(self._cut(pixels))

    def look(self, entry: Entry, size: tuple[int, int] | None = None) -> list[Tensor]:
        """What is kept of each image: what the text model gets to see, P x D; of a class that takes
        pixels alone, the tower's hidden state after its last block, T x W.

        Args:
            entry: tokens (V, T, W) at the input of a block of the tower, or images (V, 3, H, W) in
                [0, 1]; of a class that reads crops, all views of the first image, then of the next.
            size: of a class that reads crops: (H, W) of the images that the views are cut from.

        Raises:
            ValueError: the text model reads hidden states from before that block.
        """
        device, side = self.model.device, self.preprocess.size
        if entry.block is None:
            pixels = self.preprocess(entry.given.to(device))
        else:
            # Nobody looks at them; ones, because some classes drop images that are all zero.
            pixels = torch.ones(len(entry.given), 3, side, side, device=device)
        if self.family.nested:
            pixels = pixels[:, None]
        with self._tower_of(entry):
            features = self._features(pixels.to(self.model.dtype), size)
        # Some classes make a list of features and want one, others a tensor of equal images.
        self._listed = not isinstance(features, Tensor)
        if self.family.crops and size is not None:
            self._sizes[len(features[0])] = size
        return list(features)

    def positions(self, kept: Tensor) -> int:
        """P: how many positions of the text an image takes."""
        return self.model.config.num_query_tokens if self.family.pixels_only else len(kept)

    def size_of(self, kept: Tensor) -> tuple[int, int]:
        """(H, W) of an image that takes as many positions of the text."""
        side = self.preprocess.size
        return self._sizes[len(kept)] if self.family.crops else (side, side)

    @contextlib.contextmanager
    def shown(self, kept: Sequence[Tensor]) -> Iterator[dict[str, Any]]:
        """While this lasts, the class sees these images if it is given these arguments.

        Args:
            kept: of all images of a batch of prompts, in their order.
        """
        if not kept:
            yield {}
            return
        device = self.model.device
        features = [image.to(device) for image in kept]
        if self.family.pixels_only:
            side = self.preprocess.size
            blank = torch.ones(len(features), 3, side, side, device=device, dtype=self.model.dtype)
            with entered(self.tower, self._blocks, torch.stack(features)):
                yield {"pixel_values": blank}
        elif self.family.embeds:
            yield {"image_embeds": torch.stack(features)}
        else:
            pooled: Any = features if self._listed else torch.stack(features)
            yield {
                "mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=pooled)}
            }

    def _features(self, pixels: Tensor, size: tuple[int, int] | None) -> Any:
        model, family = self.model, self.family
        if family.pixels_only:
            return hidden_at(self.tower, self._blocks, lambda: self.tower(pixels))
        if family.crops:
            assert size is not None, "views have to be packed as those of an image of some size"
            sizes = torch.tensor([size] * (len(pixels) // self._count(size)), device=pixels.device)
            return model.get_image_features(pixels, sizes, return_dict=True).pooler_output
        if not family.embeds:
            return model.get_image_features(pixels, return_dict=True).pooler_output
        # Kosmos-2, whose class for generation keeps this to its forward pass.
        hidden = model.vision_model(pixel_values=pixels).last_hidden_state
        hidden = F.normalize(self.tower.post_layernorm(hidden), dim=-1)  # type: ignore[operator]
        return model.image_to_text_projection(hidden)[0]

    @contextlib.contextmanager
    def _tower_of(self, entry: Entry) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if entry.block is not None:
                if entry.block > self._first_read:
                    raise ValueError(
                        f"block {entry.block}: the text model reads the tower's hidden state "
                        f"{self._first_read}, which comes before it"
                    )
                tokens = entry.given.to(self.model.device)
                stack.enter_context(entered(self.tower, entry.block, tokens))
            if self.last_read < self._blocks:
                stack.enter_context(blocks_skipped_from(self.tower, self.last_read))
            yield

    def _cut(self, pixels: Pixels) -> Pixels:
        """(views, S, S, 3): by the class's own processor, which is kept from going on to floats."""
        assert self._cutter is not None
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        encoded = self._cutter(
            images=[[image]], do_rescale=False, do_normalize=False, return_tensors="pt"
        )
        views = encoded["pixel_values"][0]
        assert views.dtype == torch.uint8, "the processor cuts images of 8 bits"
        cut: Pixels = views.permute(0, 2, 3, 1).contiguous().numpy()
        return cut

    def _count(self, size: tuple[int, int]) -> int:
        """Number of views of an image of some size."""
        if size not in self._counts:
            self._counts[size] = len(self._cut(np.zeros((*size, 3), np.uint8)))
        return self._counts[size]

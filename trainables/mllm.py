"""The MLLM: loading it, and answering prompts in batches.

    pixels --tower--> hidden state at `vision_feature_layer` --project--> features --answer--> text
             ^ the bridge enters the tower at block k instead of by pixels

Shapes: `B` images, `S` side of the encoder's input in pixels, `L` tokens of the tower (patches, and
the class token where it has one), `P` text positions of an image, `W` tower width, `D` text width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from search_spaces.encoders import encoder_sizes

SHIPPED = Path(__file__).parent / "shipped"
_PREFIX = "shipped:"
IMAGE_PLACEHOLDER = "<image>"


def resolve_pretrained(name: str) -> str:
    """What `from_pretrained` understands.

    Args:
        name: `shipped:NAME` for a model inside this package; a directory or a hub id is returned as
            it is.

    Raises:
        ValueError: nothing of that name is shipped.
    """
    if not name.startswith(_PREFIX):
        return name
    wanted = name.removeprefix(_PREFIX)
    shipped = sorted(p.parent.name for p in SHIPPED.glob("*/config.json"))
    if wanted not in shipped:
        choices = ", ".join(f"{_PREFIX}{s}" for s in shipped)
        raise ValueError(f"pretrained model {name!r} is not shipped; shipped are: {choices}")
    return str(SHIPPED / wanted)


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer beside a model's weights."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_pretrained(name))
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


def preprocess(
    images: Tensor,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    resampling: str = "bicubic",
) -> Tensor:
    """Resize and normalise images as CLIP and SigLIP do.

    Args:
        images: (B, 3, H, W) in [0, 1].
        size: S, side of the encoder's input in pixels.
        mean, std: per channel, as in the model's preprocessor configuration.
        resampling: `bicubic` or `bilinear`, as there.

    Returns:
        (B, 3, S, S).
    """
    resized = F.interpolate(
        images, size=(size, size), mode=resampling, align_corners=False, antialias=True
    )
    return (resized.clamp(0.0, 1.0) - _channels(mean, images)) / _channels(std, images)


def _channels(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)


class Mllm:
    """A LLaVA-architecture MLLM, frozen, for batched greedy answers.

    Attributes:
        model: the transformers model.
        tower: its vision tower; `tower(pixel_values, output_hidden_states=True)` is its encoder.
        vision_feature_layer: index into the tower's hidden states that the text model reads.
        image_size: S in pixels.
        image_mean, image_std: per channel.
        tokens_per_image: P, text positions that an image takes.
    """

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        image_mean: Sequence[float],
        image_std: Sequence[float],
    ) -> None:
        self.model = model
        model.train(False)
        model.requires_grad_(False)
        self.tokenizer = tokenizer
        self.tower: nn.Module = model.model.vision_tower
        layer = model.config.vision_feature_layer
        if not isinstance(layer, int):
            raise ValueError(f"vision_feature_layer {layer}: only one layer is supported")
        self.vision_feature_layer = layer
        # Of a tower without a class token transformers drops the first patch: what it trained with.
        self._dropped = int(model.config.vision_feature_select_strategy == "default")
        vision: Any = model.config.vision_config
        sizes = encoder_sizes(vision.to_dict())
        self.image_size = sizes.image_size
        self.image_mean, self.image_std = tuple(image_mean), tuple(image_std)
        self.tokens_per_image = sizes.tokens - self._dropped

    @classmethod
    def load(cls, name: str) -> Mllm:
        """Load in single precision.

        Args:
            name: `shipped:NAME`, a directory, or a hub id.
        """
        path = resolve_pretrained(name)
        model = LlavaForConditionalGeneration.from_pretrained(path, dtype=torch.float32)
        images = AutoImageProcessor.from_pretrained(path)  # type: ignore[no-untyped-call]
        return cls(model, load_tokenizer(name), images.image_mean, images.image_std)

    @torch.no_grad()
    def project(self, tower_hidden: Tensor) -> Tensor:
        """What the text model gets to see of an image.

        Args:
            tower_hidden: (B, L, W), the tower's hidden state at `vision_feature_layer`, the class
                token first where there is one.

        Returns:
            (B, P, D): P is L, or L - 1 where the model's strategy is `default`.
        """
        tokens = tower_hidden[:, self._dropped :]
        projected: Tensor = self.model.model.multi_modal_projector(tokens)
        return projected

    @torch.no_grad()
    def image_features(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S), preprocessed -> (B, P, D): tower and projector."""
        hidden = self.tower(pixel_values, output_hidden_states=True).hidden_states
        return self.project(hidden[self.vision_feature_layer])

    @torch.no_grad()
    def answer(
        self,
        prompts: list[str],
        image_features: list[Tensor],
        max_new_tokens: int,
        batch_size: int,
    ) -> list[str]:
        """Answer greedily, until the end token.

        Prompts are batched with others of the same length, so nothing is padded and each answer is
        what `generate` gives for the prompt alone.

        Args:
            prompts: each with n_i times `<image>`.
            image_features: for each prompt (n_i, P, D), in the order of the placeholders.
            max_new_tokens: at least 1.
            batch_size: prompts per call of `generate`.

        Raises:
            ValueError: a prompt has another number of placeholders than images.
        """
        ids = [self._encode(p, f) for p, f in zip(prompts, image_features, strict=True)]
        groups: dict[int, list[int]] = defaultdict(list)
        for i, row in enumerate(ids):
            groups[len(row)].append(i)
        answers = [""] * len(prompts)
        for group in groups.values():
            for start in range(0, len(group), batch_size):
                chosen = group[start : start + batch_size]
                images = torch.cat([image_features[i] for i in chosen])
                for i, text in zip(
                    chosen,
                    self._generate([ids[i] for i in chosen], images, max_new_tokens),
                    strict=True,
                ):
                    answers[i] = text
        return answers

    def _encode(self, prompt: str, features: Tensor) -> list[int]:
        placeholders = prompt.count(IMAGE_PLACEHOLDER)
        if placeholders != len(features):
            raise ValueError(
                f"prompt {prompt!r}: {placeholders} {IMAGE_PLACEHOLDER}, {len(features)} images"
            )
        expanded = prompt.replace(IMAGE_PLACEHOLDER, IMAGE_PLACEHOLDER * self.tokens_per_image)
        encoded: list[int] = list(self.tokenizer(expanded)["input_ids"])
        return encoded

    def _generate(self, ids: list[list[int]], images: Tensor, max_new_tokens: int) -> list[str]:
        """`ids`: rows of equal length; `images`: (total images, P, D) in the rows' order."""
        input_ids = torch.tensor(ids)
        # transformers takes an encoder's output in place of pixels, as a list of images' features.
        encoded = BaseModelOutputWithPooling(pooler_output=list(images))  # type: ignore[arg-type]
        model: Any = self.model  # transformers types `generate` for its own mixin only
        generated: Tensor = model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            mm_encoder_outputs={"image": encoded},
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
        )
        new = generated[:, input_ids.shape[1] :]
        texts: list[str] = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [text.strip() for text in texts]

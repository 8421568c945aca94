"""An MLLM: loading it, looking at images, answering prompts in batches.

    images --preprocess--> tower -----------------+
    tokens --enter the tower at block k-----------+--> features of each image --answer--> text
                                                                     +--likelihoods--> of choices

The tower, projector and text model are transformers' own and run their own code: features are what
the class's `get_image_features` gives, and `generate` takes them in the place of pixels (of classes
that take pixels alone: see `vision_inputs.py`).

Shapes: `B` images, `S` side of the encoder's input in pixels, `T` tokens of the tower, `W` its
width, `P` text positions of an image, `D` width of the text model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from search_spaces.facts.mllm_families import family_of
from trainables.encoders.bridge import Entry
from trainables.encoders.pretrained import (
    Preprocessing,
    load_config,
    load_preprocessing,
    load_processor,
    load_tokenizer,
    load_weights,
    mllm_class,
    named,
)
from trainables.mllms.division import device_map_of, free_memory
from trainables.mllms.likelihoods import Likelihoods
from trainables.mllms.prompts import Prompts, equal_batches


class Mllm(Likelihoods):
    """A frozen MLLM, for answers by greedy decoding or beam search and likelihoods of choices.

    Args:
        model: one of the classes of `FAMILIES`.
        tokenizer: its tokenizer.
        preprocess: how its visual encoder wants images.
        processor: its processor, whose chat template and image tokens prompts get; None for a model
            whose prompts are plain text.
        beams: of the search; 1 is greedy.

    Raises:
        UnknownMllmError: a model of another class.
        ValueError: one of a class that cannot do without a processor has none.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        preprocess: Preprocessing,
        processor: Any = None,
        beams: int = 1,
    ) -> None:
        family = family_of(model.config.model_type)
        super().__init__(model, family, preprocess, processor)
        model.train(False)
        model.requires_grad_(False)
        self.tokenizer = tokenizer
        self._beams = beams
        if family.pixels_only and not model.config.use_decoder_only_language_model:
            self._decoder_start = model.config.text_config.decoder_start_token_id
        side = preprocess.size
        views = np.stack(self.views(np.full((side, side, 3), 128, np.uint8)))
        blank = torch.from_numpy(views).permute(0, 3, 1, 2) / 255
        (probe, *_) = self.look(Entry(blank, None), (side, side))
        self.tokens_per_image = self.positions(probe)
        """P, of an image of the encoder's size."""
        self.prompts = Prompts(tokenizer, processor, family, self.tokens_per_image)

    @classmethod
    def load(
        cls, name: str, dtype: torch.dtype = torch.float32, beams: int = 1, gpus: int = 1
    ) -> Mllm:
        """Load a model with its tokenizer, and its processor where there is one.

        It stands on the CPU, or where it is divided, on the GPUs.

        Args:
            name: `shipped:NAME`, a directory, or a hub id: `ORG/MODEL` or `ORG/MODEL@REVISION`.
            dtype: the precision it runs in.
            beams: as of the class.
            gpus: 2 or more divide its weights over so many GPUs, from the first that this process
                sees.

        Raises:
            ImportError: it is divided, and accelerate is not installed.
            OSError: there is no such model, or it has no weights in safetensors.
            UnknownMllmError: a model of another class.
            ValueError: it does not resize a square image to the encoder's size, or does not fit the
                GPUs.
        """
        with named("mllms", name):
            config = load_config(name)
            family = family_of(config.model_type)
            options: dict[str, Any] = {"dtype": dtype}
            if gpus > 1:
                options["device_map"] = device_map_of(config, family, dtype, free_memory(gpus))
            model = load_weights(mllm_class(family), name, **options)
            size: Any = config.vision_config.image_size
            side = int(size if isinstance(size, int) else size[0])
            processor = load_processor(name)
            tokenizer = processor.tokenizer if processor is not None else load_tokenizer(name)
            return cls(model, tokenizer, load_preprocessing(name, side), processor, beams)

    def to(self, device: torch.device) -> Mllm:
        """Move the model, which must not be divided."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def look(self, entry: Entry, size: tuple[int, int] | None = None) -> list[Tensor]:
        """What is kept of images, as `VisionInputs.look`: P x D of each for most classes.

        Args:
            entry: tokens (B, T, W) at the input of a block of the tower, or images (B, 3, H, W) in
                [0, 1]; of a class that reads crops, of all their views.
            size: of a class that reads crops: (H, W) of the images that the views are cut from.

        Raises:
            ValueError: the text model reads hidden states from before that block.
        """
        return super().look(entry, size)

    @torch.no_grad()
    def answer(
        self,
        prompts: Sequence[str],
        features: Sequence[Sequence[Tensor]],
        max_new_tokens: int,
        batch_size: int,
    ) -> list[str]:
        """Answer until the end token.

        Prompts are batched with others of the same length, so nothing is padded and each answer is
        what `generate` gives for the prompt alone.

        Args:
            prompts: each with n_i times `<image>`.
            features: for each prompt what `look` gave of its n_i images, in the order of the
                placeholders.
            max_new_tokens: at least 1.
            batch_size: prompts per call of `generate`.

        Raises:
            ValueError: a prompt has another number of placeholders than images, or than the class
                can look at.
        """
        rows = self._encoded(prompts, features)
        answers = [""] * len(rows)
        for chosen in equal_batches([row.shape for row in rows], batch_size):
            inputs = self._inputs([rows[i] for i in chosen])
            with self.shown([kept for i in chosen for kept in features[i]]) as images:
                generated: Tensor = self.model.generate(
                    **inputs,
                    **images,
                    max_new_tokens=max_new_tokens,
                    num_beams=self._beams,
                    do_sample=False,
                    use_cache=True,
                )
            asked = inputs["input_ids"].shape[1] if self._decoder_start is None else 1
            new = generated[:, asked:]
            texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
            for i, text in zip(chosen, texts, strict=True):
                answers[i] = text.strip()
        return answers

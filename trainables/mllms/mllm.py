"""An MLLM: loading it, looking at images, answering prompts in batches.

    images --preprocess--> tower -----------------+
    tokens --enter the tower at block k-----------+--> features of each image --answer--> text
                                                                     +--likelihoods--> of choices

The tower, projector and text model are transformers' own and run their own code: features are what
the class's `get_image_features` gives, and `generate` takes them in the place of pixels.

Shapes: `B` images, `S` side of the encoder's input in pixels, `T` tokens of the tower, `W` its
width, `P` text positions of an image, `D` width of the text model.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from search_spaces.families import Family, family_of
from trainables.bridge import Entry, entered, parts_of, unread
from trainables.mllms.prompts import Encoded, Prompts
from trainables.pretrained import (
    Preprocessing,
    load_preprocessing,
    load_tokenizer,
    resolve_pretrained,
)


class Mllm:
    """A frozen MLLM, for answers by greedy decoding or beam search and likelihoods of choices.

    Args:
        model: one of the classes of `FAMILIES`.
        tokenizer: its tokenizer.
        preprocess: how its visual encoder wants images.
        processor: its processor, whose chat template and image tokens prompts get; None for a model
            whose prompts are plain text.
        beams: of the search; 1 is greedy.

    Attributes:
        tower: its visual tower.

    Raises:
        UnknownMllmError: a model of another class.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        preprocess: Preprocessing,
        processor: Any = None,
        beams: int = 1,
    ) -> None:
        self.family: Family = family_of(model.config.model_type)
        self.model: Any = model
        model.train(False)
        model.requires_grad_(False)
        self.tower: nn.Module = attrgetter(self.family.tower)(model)
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self._beams = beams
        self._blocks = len(parts_of(self.tower).blocks)
        self._read = self._last_read()
        with torch.no_grad():
            blank = torch.zeros(1, 3, preprocess.size, preprocess.size, device=self.device)
            (probe,) = self.look(Entry(blank, None))
        self.tokens_per_image = len(probe)
        """P."""
        self.prompts = Prompts(
            tokenizer, processor, self.family, preprocess.size, self.tokens_per_image
        )

    @classmethod
    def load(cls, name: str, dtype: torch.dtype = torch.float32, beams: int = 1) -> Mllm:
        """Load a model with its tokenizer, and its processor where there is one.

        Args:
            name: `shipped:NAME`, a directory, or a hub id.
            dtype: the precision it runs in.
            beams: as of the class.

        Raises:
            UnknownMllmError: a model of another class.
            ValueError: it does not resize a square image to the encoder's size.
        """
        path = resolve_pretrained(name)
        config = AutoConfig.from_pretrained(path)
        family_of(config.model_type)
        model = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype)
        size: Any = config.vision_config.image_size
        side = int(size if isinstance(size, int) else size[0])
        processor = _load_processor(path)
        tokenizer = processor.tokenizer if processor is not None else load_tokenizer(name)
        return cls(model, tokenizer, load_preprocessing(path, side), processor, beams)

    @property
    def device(self) -> torch.device:
        """Where the model stands."""
        found: torch.device = self.model.device
        return found

    def to(self, device: torch.device) -> Mllm:
        """Move the model."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def look(self, entry: Entry) -> list[Tensor]:
        """What the text model gets to see of images: P x D of each.

        Args:
            entry: tokens (B, T, W) at the input of a block of the tower, or images (B, 3, H, W) in
                [0, 1].

        Raises:
            ValueError: the text model reads hidden states from before that block.
        """
        return self._look(entry)

    def _look(self, entry: Entry) -> list[Tensor]:
        if entry.block is None:
            pixels = self.preprocess(entry.given.to(self.device))
        else:
            size = self.preprocess.size
            # Nobody looks at them; ones, because some classes drop images that are all zero.
            pixels = torch.ones(len(entry.given), 3, size, size, device=self.device)
        if self.family.nested:
            pixels = pixels[:, None]
        with self._tower_of(entry):
            found = self._features(pixels.to(self.model.dtype))
        # Some classes make a list of features and want one, others a tensor of equal images.
        self._listed = not isinstance(found, Tensor)
        return list(found)

    def _features(self, pixels: Tensor) -> Any:
        if not self.family.embeds:
            return self.model.get_image_features(pixels, return_dict=True).pooler_output
        # Kosmos-2, whose class for generation keeps this to its forward pass.
        seen = self.model.vision_model(pixel_values=pixels).last_hidden_state
        seen = F.normalize(self.tower.post_layernorm(seen), dim=-1)  # type: ignore[operator]
        return self.model.image_to_text_projection(seen)[0]

    @contextlib.contextmanager
    def _tower_of(self, entry: Entry) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if entry.block is not None:
                if entry.block > self._read:
                    raise ValueError(
                        f"block {entry.block}: the text model reads the tower's hidden state "
                        f"{self._read}, which comes before it"
                    )
                stack.enter_context(entered(self.tower, entry.block, entry.given.to(self.device)))
            if self._read < self._blocks:
                stack.enter_context(unread(self.tower, self._read))
            yield

    def _last_read(self) -> int:
        """Index of the last hidden state that the text model reads."""
        layers = getattr(self.model.config, self.family.layers) if self.family.layers else -1
        given = [layers] if isinstance(layers, int) else list(layers)
        return max(layer if layer >= 0 else self._blocks + 1 + layer for layer in given)

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
            features: for each prompt n_i times P x D, in the order of the placeholders.
            max_new_tokens: at least 1.
            batch_size: prompts per call of `generate`.

        Raises:
            ValueError: a prompt has another number of placeholders than images.
        """
        rows = self._encoded(prompts, features)
        answers = [""] * len(rows)
        for chosen in _batches([len(row.ids) for row in rows], batch_size):
            inputs = self._inputs([rows[i] for i in chosen], [features[i] for i in chosen])
            generated: Tensor = self.model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                num_beams=self._beams,
                do_sample=False,
                use_cache=True,
            )
            new = generated[:, inputs["input_ids"].shape[1] :]
            texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
            for i, text in zip(chosen, texts, strict=True):
                answers[i] = text.strip()
        return answers

    @torch.no_grad()
    def likelihoods(
        self,
        prompts: Sequence[str],
        features: Sequence[Sequence[Tensor]],
        choices: Sequence[Sequence[str]],
        batch_size: int,
    ) -> list[list[float]]:
        """Log-likelihood of every choice as the answer: the sum over its tokens, in nats.

        Args:
            prompts, features: as of `answer`.
            choices: for each prompt; texts of one token or more.
            batch_size: choices per forward pass.

        Raises:
            ValueError: as of `answer`, or a choice is no text.
        """
        rows = self._encoded(prompts, features)
        asked = [(i, text) for i, own in enumerate(choices) for text in own]
        tails = [self.prompts.of_text(text) for _, text in asked]
        empty = [text for (_, text), tail in zip(asked, tails, strict=True) if not tail]
        if empty:
            raise ValueError(f"choice {empty[0]!r} has no tokens")
        own = [rows[i].longer(tail) for (i, _), tail in zip(asked, tails, strict=True)]
        seen = [features[i] for i, _ in asked]
        values = iter(self._log_likelihoods(own, tails, seen, batch_size).tolist())
        return [[next(values) for _ in own] for own in choices]

    def answer_losses(
        self,
        entry: Entry,
        places: Sequence[int],
        prompts: Sequence[str],
        answers: Sequence[str],
    ) -> Tensor:
        """Cross-entropy of right answers, with gradients to what enters the tower.

        Args:
            entry: as of `look`, of B images.
            places: of each prompt, the image that it is about, 0 .. B - 1.
            prompts: each with one `<image>`.
            answers: texts; the end token is added.

        Returns:
            (prompts,): in nats, mean over the tokens of each answer.
        """
        features = self._look(entry)
        end = self.tokenizer.eos_token_id
        tails = [[*self.prompts.of_text(answer), end] for answer in answers]
        rows = [self.prompts.encode(prompt, 1) for prompt in prompts]
        whole = [row.longer(tail) for row, tail in zip(rows, tails, strict=True)]
        seen = [[features[place]] for place in places]
        lengths = torch.tensor([len(tail) for tail in tails], device=self.device)
        return -self._log_likelihoods(whole, tails, seen, len(prompts)) / lengths

    def _log_likelihoods(
        self,
        rows: Sequence[Encoded],
        tails: Sequence[list[int]],
        features: Sequence[Sequence[Tensor]],
        batch_size: int,
    ) -> Tensor:
        """Of the tail that each row ends with: sums over its tokens in nats, (rows,)."""
        found: dict[int, Tensor] = {}
        shapes = [(len(row.ids), len(tail)) for row, tail in zip(rows, tails, strict=True)]
        for chosen in _batches(shapes, batch_size):
            inputs = self._inputs([rows[n] for n in chosen], [features[n] for n in chosen])
            tail = torch.tensor([tails[n] for n in chosen], device=self.device)
            logits = self._logits(inputs, tail.shape[1] + 1)[:, :-1]
            logs = logits.float().log_softmax(-1).gather(-1, tail[..., None]).sum((1, 2))
            found |= dict(zip(chosen, logs, strict=True))
        return torch.stack([found[n] for n in range(len(rows))])

    def _encoded(
        self, prompts: Sequence[str], features: Sequence[Sequence[Tensor]]
    ) -> list[Encoded]:
        return [self.prompts.encode(p, len(f)) for p, f in zip(prompts, features, strict=True)]

    def _inputs(
        self, rows: Sequence[Encoded], features: Sequence[Sequence[Tensor]]
    ) -> dict[str, Any]:
        """Of rows of equal length."""
        ids = torch.tensor([row.ids for row in rows], device=self.device)
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for name in rows[0].extras:
            inputs[name] = torch.tensor([row.extras[name] for row in rows], device=self.device)
        seen = [one.to(self.device) for own in features for one in own]
        if not seen:
            return inputs
        if self.family.embeds:
            inputs["image_embeds"] = torch.stack(seen)
            return inputs
        pooled: Any = seen if self._listed else torch.stack(seen)
        encoded = BaseModelOutputWithPooling(pooler_output=pooled)
        inputs["mm_encoder_outputs"] = {"image": encoded}
        return inputs

    def _logits(self, inputs: dict[str, Any], last: int) -> Tensor:
        """Of the last positions of each row: (rows, last, vocabulary)."""
        fewer = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        kept = {"logits_to_keep": last} if fewer else {}
        logits: Tensor = self.model(**inputs, **kept).logits
        return logits[:, -last:]


def _batches(lengths: Sequence[Any], batch_size: int) -> Iterator[list[int]]:
    """Places of equal lengths, at most `batch_size` at a time."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for place, length in enumerate(lengths):
        groups[length].append(place)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _load_processor(path: str) -> Any:
    """A model's processor; None for a local directory that has none."""
    files = ("processor_config.json", "preprocessor_config.json")
    if Path(path).is_dir() and not (Path(path) / files[0]).is_file():
        return None
    processor: Any = AutoProcessor.from_pretrained(path)  # type: ignore[no-untyped-call]
    return processor if isinstance(processor, ProcessorMixin) else None

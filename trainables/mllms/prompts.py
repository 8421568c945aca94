"""From a prompt with `<image>` in it to token ids, as the model's own processor makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from transformers import PreTrainedTokenizerFast

from search_spaces.families import Family

PLACEHOLDER = "<image>"
_OF_PIXELS = ("pixel_values", "pixel_attention_mask", "image_sizes", "num_crops", "rows", "cols")


@dataclass(frozen=True)
class Encoded:
    """Token ids of a prompt, and what else the model takes per token, such as token types."""

    ids: list[int]
    extras: dict[str, list[int]] = field(default_factory=dict)

    def longer(self, ids: list[int]) -> Encoded:
        """Followed by tokens of text."""
        extras = {name: [*row, *[0] * len(ids)] for name, row in self.extras.items()}
        if "attention_mask" in extras:
            extras["attention_mask"] = [1] * (len(self.ids) + len(ids))
        return Encoded([*self.ids, *ids], extras)


class Prompts:
    """Encodes prompts.

    With a processor: its chat template where it has one, else the prompt as it is; then the
    processor itself, on blank images of the encoder's size. Without one: the tokenizer, every
    `<image>` repeated as often as an image has positions in the text.

    Args:
        tokenizer: of the model.
        processor: of the model; None where it has none.
        family: of the model.
        size: side of the encoder's input in pixels.
        tokens: positions that an image takes; needed without a processor.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        processor: Any,
        family: Family,
        size: int,
        tokens: int,
    ) -> None:
        self.tokenizer = tokenizer
        self._processor, self._family, self._tokens = processor, family, tokens
        self._blank = Image.new("RGB", (size, size), (128, 128, 128))

    def encode(self, prompt: str, images: int) -> Encoded:
        """A prompt with as many `<image>` as images.

        Raises:
            ValueError: it has another number of them.
        """
        there = prompt.count(PLACEHOLDER)
        if there != images:
            raise ValueError(f"prompt {prompt!r}: {there} {PLACEHOLDER}, {images} images")
        if self._processor is None:
            expanded = prompt.replace(PLACEHOLDER, PLACEHOLDER * self._tokens)
            return Encoded(list(self.tokenizer(expanded)["input_ids"]))
        given: dict[str, Any] = {"text": [self._text(prompt)]}
        if images:
            given |= {"images": [[self._blank] * images], "images_kwargs": self._family.one_view}
        made = dict(self._processor(**given))
        ids = list(made.pop("input_ids")[0])
        extras = {
            name: [int(value) for value in rows[0]]
            for name, rows in made.items()
            if name not in _OF_PIXELS and len(rows[0]) == len(ids)
        }
        return Encoded(ids, extras)

    def of_text(self, text: str) -> list[int]:
        """Ids of text that follows a prompt, such as an answer."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, prompt: str) -> str:
        if getattr(self._processor, "chat_template", None):
            content: list[dict[str, str]] = []
            for number, piece in enumerate(prompt.split(PLACEHOLDER)):
                content += [{"type": "image"}] if number else []
                content += [{"type": "text", "text": piece.strip()}] if piece.strip() else []
            turn = [{"role": "user", "content": content}]
            chat: str = self._processor.apply_chat_template(turn, add_generation_prompt=True)
            return chat
        if self._family.in_front:
            return prompt.replace(PLACEHOLDER, "").strip()
        mark = getattr(self._processor, "image_token", PLACEHOLDER)
        return prompt.replace(PLACEHOLDER, mark)

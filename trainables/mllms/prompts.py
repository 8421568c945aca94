"""From a prompt with `<image>` in it to token ids, as the model's own processor makes them."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from transformers import PreTrainedTokenizerFast
from transformers.image_utils import make_flat_list_of_images

from search_spaces.facts.mllm_families import Family

PLACEHOLDER = "<image>"
_NOT_READ = (
    "labels",
    "pixel_values",
    "pixel_attention_mask",
    "image_sizes",
    "batch_num_images",
    "num_crops",
    "rows",
    "cols",
)
"""What processors make and answering needs not: pixels and their like, labels of training."""
_BESIDES = "qformer_"
"""How the names begin of what InstructBLIP's Q-Former reads: the prompt in ids of its own."""


_SIZES = 8
"""Of prompts' images, whose pixels are remembered: megabytes each."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of a prompt; what else the model takes per token, such as token types; and per
    prompt, whatever follows it."""

    ids: list[int]
    extras: dict[str, list[int]] = field(default_factory=dict)
    besides: dict[str, list[int]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """What rows of one batch have in common."""
        return len(self.ids), *(len(row) for row in self.besides.values())

    def longer(self, ids: list[int], token_type: int) -> Encoded:
        """Followed by tokens of text, of a token type."""
        following = {"attention_mask": 1, "token_type_ids": token_type}
        extras = {
            name: [*row, *[following.get(name, 0)] * len(ids)] for name, row in self.extras.items()
        }
        return Encoded([*self.ids, *ids], extras, self.besides)


class _OnBlankImages:
    """An image processor that is given blank images alone: equal sizes are processed once.

    Args:
        image_processor: of the processor, which always calls it with the same settings.
    """

    def __init__(self, image_processor: Any) -> None:
        self._image_processor = image_processor
        self._processed: OrderedDict[tuple[tuple[int, int], ...], Any] = OrderedDict()

    def __call__(self, images: Any, **settings: Any) -> Any:
        """What it makes of PIL images; a copy, as processors take entries out."""
        blanks: Any = make_flat_list_of_images(images)
        sizes = tuple(blank.size for blank in blanks)
        if sizes not in self._processed:
            self._processed[sizes] = self._image_processor(images, **settings)
            if len(self._processed) > _SIZES:
                self._processed.popitem(last=False)
        return copy.copy(self._processed[sizes])

    def __getattr__(self, name: str) -> Any:
        """What else processors ask for, such as the number of patches of an image."""
        return getattr(self._image_processor, name)


class Prompts:
    """Encodes prompts.

    With a processor: its chat template where it has one, else the prompt as it is; then the
    processor itself, on blank images of the images' sizes. Without one: the tokenizer, every
    `<image>` repeated as often as an image has positions in the text.

    Args:
        tokenizer: of the model.
        processor: of the model; None where it has none.
        family: of the model.
        tokens: positions that an image takes; needed without a processor.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        processor: Any,
        family: Family,
        tokens: int,
    ) -> None:
        self.tokenizer = tokenizer
        self._processor, self._family, self._tokens = copy.copy(processor), family, tokens
        if processor is not None:
            self._processor.image_processor = _OnBlankImages(processor.image_processor)

    def encode(self, prompt: str, sizes: Sequence[tuple[int, int]]) -> Encoded:
        """A prompt with as many `<image>` as images.

        Args:
            sizes: (H, W) of its images; of a class that looks at one view, that of the view.

        Raises:
            ValueError: it has another number of them, or the class looks at one image alone.
        """
        placeholders, images = prompt.count(PLACEHOLDER), len(sizes)
        if placeholders != images:
            raise ValueError(f"prompt {prompt!r}: {placeholders} {PLACEHOLDER}, {images} images")
        if self._family.one_image and images != 1:
            raise ValueError(
                f"prompt {prompt!r}: {self._family.title} looks at one image at "
                f"a time, not {images}"
            )
        if self._processor is None:
            expanded = prompt.replace(PLACEHOLDER, PLACEHOLDER * self._tokens)
            return Encoded(list(self.tokenizer(expanded)["input_ids"]))
        arguments: dict[str, Any] = {"text": [self._text(prompt)]}
        if images:
            blanks = [Image.new("RGB", (w, h), (128, 128, 128)) for h, w in sizes]
            arguments |= {"images": [blanks], "images_kwargs": self._family.one_view}
        encoded = dict(self._processor(**arguments))
        ids = list(encoded.pop("input_ids")[0])
        extras = {
            name: [int(value) for value in rows[0]]
            for name, rows in encoded.items()
            if name not in _NOT_READ and not name.startswith(_BESIDES) and len(rows[0]) == len(ids)
        }
        besides = {n: list(rows[0]) for n, rows in encoded.items() if n.startswith(_BESIDES)}
        return Encoded(ids, extras, besides)

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


def equal_batches(shapes: Sequence[Hashable], batch_size: int) -> Iterator[list[int]]:
    """Places of equal shapes, at most `batch_size` at a time."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, shape in enumerate(shapes):
        groups[shape].append(index)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]

"""What recipes share: command line, tokenizer, preprocessing, checkpoints, saving, schedule."""

from __future__ import annotations

import argparse
import copy
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split as SplitPattern
from tokenizers.processors import TemplateProcessing
from transformers import CLIPImageProcessor, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from trainables.codecs import RECORD_FILE
from trainables.datasets.images.files import replacing, write_json
from trainables.encoders.pretrained import Preprocessing

PREPROCESSING = Preprocessing(112, tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD))
SPECIAL_TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>", "<image>")
# CLIPTextModel treats eos_token_id == 2 as "old checkpoint, take the largest id", so <eos> must not
# be number 2.
PAD_ID, UNK_ID, BOS_ID, EOS_ID, IMAGE_ID = range(5)


def recipe_parser(description: str | None) -> argparse.ArgumentParser:
    """The command line of a recipe, with what every recipe has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="directory of checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def begin(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; set up the log and the number of threads."""
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    return options


def build_tokenizer(vocabulary: Sequence[str], *, end: bool) -> PreTrainedTokenizerFast:
    """The word-level tokenizer of a made world.

    Args:
        vocabulary: the world's words.
        end: <bos> TEXT <eos>, padded on the right, as CLIP has it; else <bos> TEXT, padded on the
            left, for text that goes on.
    """
    words = {word: i for i, word in enumerate((*SPECIAL_TOKENS, *vocabulary))}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = SplitPattern(" ", behavior="removed")
    tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <eos>" if end else "<bos> $A",
        special_tokens=[("<bos>", BOS_ID), ("<eos>", EOS_ID)],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=["<image>"],
        padding_side="right" if end else "left",
        clean_up_tokenization_spaces=False,
    )


def image_processor() -> CLIPImageProcessor:
    """The preprocessing that the models expect, to stand beside their weights."""
    side = {"height": PREPROCESSING.size, "width": PREPROCESSING.size}
    return CLIPImageProcessor(
        size=side, crop_size=side, image_mean=OPENAI_CLIP_MEAN, image_std=OPENAI_CLIP_STD
    )


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Learning-rate factor in (0, 1]: linear warm-up, then half a cosine down to 0.02."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * progress))


def save_half(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    directory: Path,
    accuracy: Mapping[str, Any],
) -> None:
    """Write a model in half precision, its tokenizer, preprocessing and recorded accuracy."""
    half: Any = copy.deepcopy(model)  # transformers leaves `to` untyped
    half.to(dtype=torch.float16)
    half.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    image_processor().save_pretrained(directory)
    write_json(directory / RECORD_FILE, dict(accuracy), indent=2)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write atomically: a killed recipe never leaves a half-written checkpoint."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state saved last, or None."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state

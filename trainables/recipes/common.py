"""What the recipes of the teacher and of the MLLM share: tokenizer, preprocessing constants,
checkpoints, saving, schedule."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split as SplitPattern
from tokenizers.processors import TemplateProcessing
from transformers import CLIPImageProcessor, PreTrainedModel, PreTrainedTokenizerFast

from trainables.datasets.scenes.captions import vocabulary

IMAGE_SIZE = 112
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
SPECIAL_TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>", "<image>")
# CLIPTextModel treats eos_token_id == 2 as "old checkpoint, take the largest id", so <eos> must not
# be number 2.
PAD_ID, UNK_ID, BOS_ID, EOS_ID, IMAGE_ID = range(5)


def build_tokenizer(*, end: bool) -> PreTrainedTokenizerFast:
    """The word-level tokenizer of the demo's world.

    Args:
        end: <bos> TEXT <eos>, padded on the right, as CLIP has it; else <bos> TEXT, padded on the
            left, for text that goes on.
    """
    words = {word: i for i, word in enumerate((*SPECIAL_TOKENS, *vocabulary()))}
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
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return CLIPImageProcessor(
        size=side, crop_size=side, image_mean=list(IMAGE_MEAN), image_std=list(IMAGE_STD)
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
    (directory / "accuracy.json").write_text(json.dumps(dict(accuracy), indent=2) + "\n")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write atomically: a killed recipe never leaves a half-written checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state saved last, or None."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


class SpareCores:
    """How many threads to use beside other work: two threads that wait for each other on a busy
    core are slower than one.

    Args:
        threads: what `threads()` always answers; 0 means "what others leave free", measured.
    """

    def __init__(self, threads: int) -> None:
        self._fixed = threads
        self._cores = os.cpu_count() or 1
        self._process = psutil.Process()
        self._last = self._read()

    def _read(self) -> tuple[float, float]:
        whole, process_times = psutil.cpu_times(), self._process.cpu_times()
        busy = sum(whole) - whole.idle - getattr(whole, "iowait", 0.0)
        return busy - process_times.user - process_times.system, time.monotonic()

    def threads(self) -> int:
        """Number of threads for the next steps, at least 1."""
        if self._fixed:
            return self._fixed
        (before, then), (after, now) = self._last, self._read()
        self._last = (after, now)
        busy_cores = (after - before) / max(1e-3, now - then)
        return max(1, self._cores - math.ceil(busy_cores - 0.35))

"""Real processors for the tiny MLLMs, as they stand beside the weights of the real models."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    Blip2Processor,
    BlipImageProcessor,
    CLIPImageProcessor,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InstructBlipProcessor,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
)

from tests.trainables.tiny_mllms import GRID, IMAGE, PATCH, PINPOINTS, SIDE, TINY, VOCAB

HALF = (0.5, 0.5, 0.5)


def tokenizer(*, named: bool = True, **marks: str) -> PreTrainedTokenizerFast:
    """Words w0 .. of the tiny models' vocabulary, with the image token in its place.

    named: it says which its image token is, as all but BLIP-2's do.
    """
    special = {IMAGE: "<image>", 1: "<s>", 2: "</s>", 0: "<pad>"}
    special |= {50 + n: mark for n, mark in enumerate(marks.values())}
    names = {special.get(i, f"w{i}"): i for i in range(VOCAB)}
    made = Tokenizer(WordLevel(names, unk_token="w3"))
    made.pre_tokenizer = WhitespaceSplit()
    made.add_special_tokens(["<image>", "<s>", "</s>", "<pad>", *marks.values()])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="w3",
        extra_special_tokens={"image_token": "<image>", **marks} if named else {},
    )


def processors() -> dict[str, Any]:
    """By the name of the tiny model."""
    square = {"height": SIDE, "width": SIDE}
    siglip = SiglipImageProcessor(size=square, image_mean=HALF, image_std=HALF)
    paligemma = SiglipImageProcessor(size=square, image_mean=HALF, image_std=HALF)
    paligemma.image_seq_length = TINY["PaliGemma"].tokens
    smol = Idefics3ImageProcessor(
        size={"longest_edge": SIDE},
        max_image_size={"longest_edge": SIDE},
        image_mean=HALF,
        image_std=HALF,
    )
    marks = {"boi_token": "<boi>", "eoi_token": "<eoi>"}
    idefics = {
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    template = (
        "{% for turn in messages %}{% for part in turn.content %}"
        "{% if part.type == 'image' %}<image>{% else %} w5 {{ part.text }}{% endif %}"
        "{% endfor %}{% endfor %}{% if add_generation_prompt %} w9{% endif %}"
    )
    blip = BlipImageProcessor(size=square, image_mean=HALF, image_std=HALF)
    queries = TINY["BLIP-2"].tokens
    crops: dict[str, Any] = {
        "image_grid_pinpoints": PINPOINTS,
        "image_mean": HALF,
        "image_std": HALF,
    }
    next_ = LlavaNextImageProcessor(size={"shortest_edge": SIDE}, crop_size=square, **crops)
    return {
        "LLaVA, CLIP": LlavaProcessor(
            CLIPImageProcessor(size=square, crop_size=square, image_mean=HALF, image_std=HALF),
            tokenizer(),
            patch_size=8,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=template,
        ),
        "LLaVA, SigLIP": LlavaProcessor(
            siglip, tokenizer(), patch_size=8, vision_feature_select_strategy="full"
        ),
        "PaliGemma": PaliGemmaProcessor(paligemma, tokenizer()),
        "Gemma 3": Gemma3Processor(
            Gemma3ImageProcessor(size=square, image_mean=HALF, image_std=HALF),
            tokenizer(**marks),
            image_seq_length=TINY["Gemma 3"].tokens,
        ),
        "Idefics 3": Idefics3Processor(
            smol, tokenizer(**idefics), image_seq_len=TINY["Idefics 3"].tokens
        ),
        "BLIP-2": Blip2Processor(blip, tokenizer(named=False), queries),
        "BLIP-2, T5": Blip2Processor(blip, tokenizer(named=False), queries),
        "InstructBLIP": InstructBlipProcessor(
            blip, tokenizer(named=False), tokenizer(named=False), queries
        ),
        "LLaVA-NeXT": LlavaNextProcessor(
            next_,
            tokenizer(),
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        "Granite Vision": LlavaNextProcessor(
            next_, tokenizer(), patch_size=PATCH, vision_feature_select_strategy="full"
        ),
        "LLaVA-OneVision": LlavaOnevisionProcessor(
            LlavaOnevisionImageProcessor(size=square, **crops),
            tokenizer(),
            LlavaOnevisionVideoProcessor(size=square),
            num_image_tokens=GRID**2,
            vision_feature_select_strategy="full",
        ),
    }

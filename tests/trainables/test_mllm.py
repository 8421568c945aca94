"""MLLMs behind one interface, against their own `generate` and forward pass on the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlavaProcessor,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
)

from tests.trainables.tiny_mllms import BLOCKS, IMAGE, SIDE, TINY, VOCAB, make
from trainables.bridge import Entry, hidden_at, parts_of
from trainables.mllms import FAMILIES, REFUSED, Mllm, UnknownMllmError, family_of
from trainables.mllms.__main__ import main as table
from trainables.pretrained import Preprocessing

SWEPT = [name for name in TINY if make(name).config.model_type in FAMILIES]
HALF = (0.5, 0.5, 0.5)


def tokenizer(**marks: str) -> PreTrainedTokenizerFast:
    """Words w0 .. of the tiny models' vocabulary, with the image token in its place."""
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
        extra_special_tokens={"image_token": "<image>", **marks},
    )


def mllm_of(name: str, dtype: torch.dtype = torch.float32, beams: int = 1) -> Mllm:
    return Mllm(make(name, dtype), tokenizer(), Preprocessing(SIDE, HALF, HALF), beams=beams)


def images(count: int) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def by_itself(name: str, mllm: Mllm, image: Tensor, text: str, beams: int) -> str:
    """What the class says about one image, from pixels."""
    prompt = text.replace("<image>", "<image> " * TINY[name].tokens)
    ids = mllm.tokenizer(prompt, return_tensors="pt")["input_ids"]
    pixels = mllm.preprocess(image[None]).to(mllm.model.dtype)
    extras = TINY[name].inputs(1, ids)
    generated = mllm.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=pixels.view(1, *TINY[name].pixels),
        max_new_tokens=6,
        num_beams=beams,
        do_sample=False,
        **extras,
    )
    said: str = mllm.tokenizer.decode(generated[0, ids.shape[1] :], skip_special_tokens=True)
    return said.strip()


class Extras:
    """Stands for what a processor adds per token, as the tiny models need it."""

    def __init__(self, name: str, mllm: Mllm) -> None:
        self._name, self._tokenizer = name, mllm.tokenizer
        self.tokenizer = mllm.tokenizer
        self._image = "<image> " * TINY[name].tokens

    def __call__(self, text: list[str], **_: Any) -> dict[str, Any]:
        ids = self._tokenizer(text[0].replace("<image>", self._image), return_tensors="pt")
        extras = TINY[self._name].inputs(1, ids["input_ids"])
        return {"input_ids": ids["input_ids"].tolist(), **extras}

    image_token = "<image>"
    chat_template = None


def ready(name: str, dtype: torch.dtype = torch.float32, beams: int = 1) -> Mllm:
    mllm = mllm_of(name, dtype, beams)
    mllm.prompts._processor = Extras(name, mllm)
    # The tiny tokenizer has no rule of its own for where a processor puts the image.
    mllm.prompts._text = lambda prompt: prompt  # type: ignore[method-assign]
    return mllm


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", SWEPT)
def test_answers_are_those_of_generate_from_pixels_and_from_the_bridge(
    name: str, beams: int
) -> None:
    mllm, given = ready(name, beams=beams), images(3)
    prompts = ["<image> w5 w7", "<image> w9 w5 w7", "<image> w5 w7"]
    expected = [by_itself(name, mllm, i, p, beams) for i, p in zip(given, prompts, strict=True)]
    assert len(set(expected)) == 3, "the test's MLLM says the same about everything"
    features = mllm.look(Entry(given, None))
    assert len(features[0]) == mllm.tokens_per_image == TINY[name].tokens
    assert mllm.answer(prompts, [[one] for one in features], 6, batch_size=2) == expected
    tokens = hidden_at(mllm.tower, 2, lambda: mllm.look(Entry(given, None)))
    bridged = mllm.look(Entry(tokens, 2))
    for found, wanted in zip(bridged, features, strict=True):
        assert torch.equal(found, wanted)
    wrong = mllm.look(Entry(tokens, 1))
    assert not any(torch.allclose(a, b, atol=1e-3) for a, b in zip(wrong, features, strict=True))


@pytest.mark.parametrize("name", SWEPT)
def test_likelihoods_are_those_of_the_models_own_forward_pass(name: str) -> None:
    mllm, given = ready(name), images(2)
    choices = [["w5", "w6 w8", "w11"], ["w20 w21 w22", "w5"]]
    prompts = ["<image> w9", "<image> w5 w7"]
    features = [[one] for one in mllm.look(Entry(given, None))]
    found = mllm.likelihoods(prompts, features, choices, batch_size=2)
    for image, prompt, own, values in zip(given, prompts, choices, found, strict=True):
        for choice, value in zip(own, values, strict=True):
            text = prompt.replace("<image>", "<image> " * TINY[name].tokens)
            start = len(mllm.tokenizer(text)["input_ids"])
            ids = mllm.tokenizer(f"{text} {choice}", return_tensors="pt")["input_ids"]
            with torch.no_grad():
                logits = mllm.model(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    pixel_values=mllm.preprocess(image[None]).view(1, *TINY[name].pixels),
                    **TINY[name].inputs(1, ids),
                ).logits[0]
            expected = -torch.nn.functional.cross_entropy(
                logits[start - 1 : -1], ids[0, start:], reduction="sum"
            )
            assert value == pytest.approx(expected.item(), abs=1e-4)


def test_bf16_runs_in_bf16() -> None:
    mllm = ready("LLaVA, CLIP", torch.bfloat16)
    given = images(1)
    features = mllm.look(Entry(given, None))
    assert features[0].dtype == torch.bfloat16
    tokens = hidden_at(mllm.tower, 2, lambda: mllm.look(Entry(given, None)))
    for found, wanted in zip(mllm.look(Entry(tokens.float(), 2)), features, strict=True):
        assert torch.equal(found, wanted)
    expected = [by_itself("LLaVA, CLIP", mllm, image, "<image> w5", 1) for image in given]
    assert mllm.answer(["<image> w5"], [features], 6, 1) == expected


def test_a_layer_before_the_bridge_cannot_be_read() -> None:
    mllm = mllm_of("LLaVA, CLIP")  # reads hidden state -2
    with pytest.raises(ValueError, match="hidden state 3, which comes before it"):
        mllm.look(Entry(torch.zeros(1, 17, 32), BLOCKS))
    assert "forward" not in vars(parts_of(mllm.tower).blocks[0])


def processors() -> dict[str, Any]:
    """Real processors, as they stand beside the weights of the real models."""
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
    }


@pytest.mark.parametrize("name", processors())
def test_a_model_with_its_processor_loads_and_answers_as_they_do_together(
    name: str, tmp_path: Path
) -> None:
    processor = processors()[name]
    make(name).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    mllm = Mllm.load(str(tmp_path))
    levels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    pictures = [Image.fromarray(one) for one in levels]
    given = torch.from_numpy(levels).permute(0, 3, 1, 2) / 255
    features = mllm.look(Entry(given, None))
    found = mllm.answer(["<image> w7"] * 3, [[one] for one in features], 6, batch_size=3)
    mark = getattr(processor, "image_token", "<image>")
    text = f"{mark} w7"
    if processor.chat_template:
        content = [{"type": "image"}, {"type": "text", "text": "w7"}]
        turn = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(turn, add_generation_prompt=True)
        assert text == "<image> w5 w7 w9"
    settings = dict(mllm.family.one_view)
    for picture, answer in zip(pictures, found, strict=True):
        inputs = processor(
            text=[text], images=[[picture]], images_kwargs=settings, return_tensors="pt"
        )
        generated = mllm.model.generate(**inputs, max_new_tokens=6, do_sample=False)
        new = generated[0, inputs["input_ids"].shape[1] :]
        assert answer == mllm.tokenizer.decode(new, skip_special_tokens=True).strip()
    assert len(set(found)) > 1, "the test's MLLM says the same about everything"


def test_classes_that_cannot_be_swept_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownMllmError, match="llava_next reads crops"):
        family_of("llava_next")
    with pytest.raises(UnknownMllmError, match=r"'bert' is no MLLM that is known; llava, "):
        family_of("bert")
    table()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(FAMILIES) + len(REFUSED)
    assert not FAMILIES.keys() & REFUSED.keys()

"""MLLMs behind one interface, against their own `generate` and forward pass on the same pixels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from search_spaces.facts.mllm_families import FAMILIES, REFUSED, family_of, find_family
from tests.trainables.tiny_mllms import BLOCKS, SIDE, TINY, make
from tests.trainables.tiny_processors import HALF, processors, tokenizer
from trainables.encoders.bridge import Entry, hidden_at, parts_of
from trainables.encoders.pretrained import Preprocessing
from trainables.mllms import Mllm
from trainables.mllms.__main__ import main as table
from trainables.mllms.prompts import Prompts

PROCESSORS = processors()


def _alone(name: str) -> bool:
    """Whether the class can do without its processor."""
    family = find_family(make(name).config.model_type)
    return family is not None and not family.crops and not family.pixels_only


SWEPT = [name for name in TINY if _alone(name)]


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
            extras = TINY[name].inputs(1, ids)
            if name == "PaliGemma":
                extras["token_type_ids"][:, start:] = 1  # what is said, as in its own training
            with torch.no_grad():
                logits = mllm.model(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    pixel_values=mllm.preprocess(image[None]).view(1, *TINY[name].pixels),
                    **extras,
                ).logits[0]
            expected = -torch.nn.functional.cross_entropy(
                logits[start - 1 : -1], ids[0, start:], reduction="sum"
            )
            assert value == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("name", SWEPT)
def test_choices_continue_a_prompt_that_is_computed_once(name: str, batch_size: int) -> None:
    """Values are those of each prompt and choice computed as a whole, however they are batched."""
    mllm = ready(name)
    prompts = ["<image> w9", "<image> w5 w7", "<image> w12", "<image> w13"]
    choices = [["w5", "w6 w8", "w11 w12 w13"], ["w20 w21", "w5"], ["w7", "w8"], ["w9 w9"]]
    features = [[one] for one in mllm.look(Entry(images(4), None))]
    rows = mllm._encoded(prompts, features)
    wholes = [
        mllm._log_likelihoods([row], [mllm.prompts.of_text(text)], [image], 1).item()
        for row, image, texts in zip(rows, features, choices, strict=True)
        for text in texts
    ]
    widths: list[int] = []
    mllm.model.register_forward_pre_hook(
        lambda model, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    found = mllm.likelihoods(prompts, features, choices, batch_size)
    assert [value for values in found for value in values] == pytest.approx(wholes, abs=1e-5)
    if batch_size == 64 and name != "Kosmos-2":
        short, long = (len(row.ids) for row in rows[:2])
        # Prompts of two lengths, and the tokens of choices before the last of them.
        assert sorted(widths) == sorted([short, 2, long, 1])


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
    with pytest.raises(ValueError, match="hidden state 3"):
        mllm.look(Entry(torch.zeros(1, 17, 32), BLOCKS))
    assert "forward" not in vars(parts_of(mllm.tower).blocks[0])


def saved(name: str, directory: Path, dtype: torch.dtype, beams: int) -> tuple[Mllm, Any]:
    """A tiny model as loaded from a directory beside its processor, and the processor."""
    make(name).save_pretrained(directory)
    PROCESSORS[name].save_pretrained(directory)
    return Mllm.load(str(directory), dtype, beams), PROCESSORS[name]


def asked(processor: Any, words: str) -> str:
    """A question about one image, as the processor wants it."""
    if processor.chat_template:
        content = [{"type": "image"}, {"type": "text", "text": words}]
        turn = [{"role": "user", "content": content}]
        text: str = processor.apply_chat_template(turn, add_generation_prompt=True)
        assert text == f"<image> w5 {words} w9"
        return text
    if "Blip" in type(processor).__name__:
        return words
    return f"{getattr(processor, 'image_token', '<image>')} {words}"


def together(mllm: Mllm, processor: Any, picture: Image.Image, words: str) -> dict[str, Tensor]:
    """What the processor makes of an image and a question: the path from pixels."""
    made: dict[str, Tensor] = dict(
        processor(
            text=[asked(processor, words)],
            images=[[picture]],
            images_kwargs=dict(mllm.family.one_view),
            return_tensors="pt",
        )
    )
    made.pop("labels", None)
    made["pixel_values"] = made["pixel_values"].to(mllm.model.dtype)
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", PROCESSORS)
def test_a_model_with_its_processor_answers_as_they_do_together(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """It from pixels, by the processor; we entered with their hidden states; beams 1 and 3."""
    mllm, processor = saved(name, tmp_path, dtype, beams=1)
    # Not of the encoder's size where the class cuts an image by itself.
    height, width = (3 * SIDE, 2 * SIDE + 8) if mllm.family.crops else (SIDE, SIDE)
    levels = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    words = ["w7", "w9 w7", "w7"]
    answers = set()
    for picture, text in zip(levels, words, strict=True):
        inputs = together(mllm, processor, Image.fromarray(picture), text)
        views = mllm.views(picture)
        pixels = inputs["pixel_values"].reshape(-1, 3, SIDE, SIDE)
        given = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2) / 255
        if dtype == torch.float32:
            torch.testing.assert_close(mllm.preprocess(given), pixels, atol=1e-5, rtol=0)
        run = partial(mllm.model.generate, **inputs, max_new_tokens=6, do_sample=False)
        tokens = hidden_at(mllm.tower, 2, run)
        features = mllm.look(Entry(tokens.float(), 2), (height, width))
        wrong = mllm.look(Entry(tokens.float(), 1), (height, width))
        assert not torch.allclose(features[0], wrong[0], atol=1e-2)
        for beams in (1, 3):
            mllm._beams = beams
            generated = run(num_beams=beams)[0]
            start = 1 if mllm.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
            expected = mllm.tokenizer.decode(generated[start:], skip_special_tokens=True).strip()
            assert mllm.answer([f"<image> {text}"], [features], 6, 1) == [expected]
            answers.add(expected)
    assert len(answers) > 2, "the test's MLLM says the same about everything"


@pytest.mark.parametrize("name", PROCESSORS)
def test_blank_images_are_processed_once_and_prompts_are_the_processor_s_own(name: str) -> None:
    processor = PROCESSORS[name]
    family = family_of(make(name).config.model_type)
    prompts = Prompts(processor.tokenizer, processor, family, TINY[name].tokens)
    plain = Prompts(processor.tokenizer, processor, family, TINY[name].tokens)
    plain._processor = processor
    square, wide, pair = [(SIDE, SIDE)], [(SIDE, 2 * SIDE)], [(SIDE, SIDE)] * 2
    questions = [("<image> w5", square), ("<image> w5 w7", square), ("<image> w7", square)]
    questions += [("<image> w5", wide), ("<image> w8", wide)] if family.crops else []
    questions += [] if family.one_image else [("<image> w5 <image>", pair)] * 2
    kept = prompts._processor.image_processor._processed
    for prompt, sizes in questions:
        known = dict(kept)
        assert prompts.encode(prompt, sizes) == plain.encode(prompt, sizes)
        assert all(kept[size] is processed for size, processed in known.items())
    assert len(kept) == len({tuple(sizes) for _, sizes in questions})
    assert processor.image_processor is not prompts._processor.image_processor


@pytest.mark.parametrize("name", PROCESSORS)
def test_likelihoods_behind_a_processor_are_those_of_its_own_pixels(
    name: str, tmp_path: Path
) -> None:
    mllm, processor = saved(name, tmp_path, torch.float32, beams=1)
    height, width = (2 * SIDE, 3 * SIDE) if mllm.family.crops else (SIDE, SIDE)
    levels = np.random.default_rng(1).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    choices = [["w5", "w6 w8", "w11"], ["w20 w21 w22", "w5"]]
    words, features = ["w7 w9", "w9"], []
    expected: list[list[float]] = []
    for picture, text, own in zip(levels, words, choices, strict=True):
        inputs = together(mllm, processor, Image.fromarray(picture), text)
        tokens = hidden_at(mllm.tower, 2, partial(mllm.model, **starting(mllm, inputs)))
        features += [mllm.look(Entry(tokens, 2), (height, width))]
        expected.append([by_forward(mllm, inputs, choice) for choice in own])
    found = mllm.likelihoods([f"<image> {text}" for text in words], features, choices, 2)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
    assert len({round(value, 3) for row in found for value in row}) == 5


def starting(mllm: Mllm, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a text model with an encoder needs besides for a forward pass."""
    if not mllm.model.config.is_encoder_decoder:
        return inputs
    return {**inputs, "decoder_input_ids": torch.zeros_like(inputs["input_ids"][:, :1])}


def by_forward(mllm: Mllm, inputs: dict[str, Tensor], choice: str) -> float:
    """Log-likelihood of a text behind a prompt, by the class's own forward pass from pixels."""
    tail = mllm.tokenizer(choice, return_tensors="pt")["input_ids"]
    if mllm.model.config.is_encoder_decoder:
        start = torch.zeros_like(tail[:, :1])
        told = torch.cat((start, tail[:, :-1]), 1)
        logits = mllm.model(**inputs, decoder_input_ids=told).logits[0]
    else:
        longer = dict(inputs)
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            if name in inputs:
                more = {"input_ids": tail, "attention_mask": torch.ones_like(tail)}
                if mllm.model.config.model_type == "paligemma":
                    more["token_type_ids"] = torch.ones_like(tail)  # as in its own training
                longer[name] = torch.cat((inputs[name], more.get(name, torch.zeros_like(tail))), 1)
        logits = mllm.model(**longer).logits[0, inputs["input_ids"].shape[1] - 1 : -1]
    loss = torch.nn.functional.cross_entropy(logits.float(), tail[0], reduction="sum")
    return -loss.item()


def test_several_images_are_refused_where_a_class_looks_at_one(tmp_path: Path) -> None:
    for name in ("BLIP-2", "LLaVA-OneVision"):
        mllm, _ = saved(name, tmp_path / name, torch.float32, beams=1)
        views = torch.zeros(len(mllm.views(np.zeros((SIDE, SIDE, 3), np.uint8))), 3, SIDE, SIDE)
        (seen,) = mllm.look(Entry(views, None), (SIDE, SIDE))
        with pytest.raises(ValueError, match=f"{name}.* 2$"):
            mllm.answer(["<image> <image> w5"], [[seen, seen]], 6, 1)


def test_classes_that_need_a_processor_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"BLIP-2.*processor"):
        mllm_of("BLIP-2")


def test_the_command_lists_families_with_their_distribution_and_refused_classes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert table([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*FAMILIES.names(), *REFUSED]
    assert all("(bridgesweep)" in line for line in lines[: len(FAMILIES.names())])
    assert not set(FAMILIES.names()) & REFUSED.keys()

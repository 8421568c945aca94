"""What the text model sees of an image, for towers with and without a class token."""

from typing import Any

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipVisionConfig,
)

from trainables.mllm import Mllm
from trainables.recipes.common import BOS_ID, EOS_ID, IMAGE_ID, PAD_ID, build_tokenizer

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TOWERS: dict[str, Any] = {
    "clip": CLIPVisionConfig(**SIZES),
    "siglip": SiglipVisionConfig(**SIZES),
}


def make_mllm(tower: str, strategy: str) -> Mllm:
    tokenizer = build_tokenizer(end=False)
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=TOWERS[tower],
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.4,
            bos_token_id=BOS_ID,
            eos_token_id=EOS_ID,
            pad_token_id=PAD_ID,
        ),
        image_token_index=IMAGE_ID,
        vision_feature_layer=-2,
        vision_feature_select_strategy=strategy,
    )
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.model.multi_modal_projector.parameters():
            parameter.mul_(20)
    return Mllm(model, tokenizer, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("tower", "strategy", "tokens"),
    [
        ("clip", "default", 16),
        ("clip", "full", 17),
        ("siglip", "full", 16),
        ("siglip", "default", 15),
    ],
)
def test_an_images_tokens_and_answers_are_those_of_the_model_itself(
    tower: str, strategy: str, tokens: int
) -> None:
    mllm = make_mllm(tower, strategy)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    features = mllm.image_features(pixels)
    expected = torch.stack(list(mllm.model.get_image_features(pixels).pooler_output))
    assert features.shape == (2, tokens, 32)
    assert mllm.tokens_per_image == tokens
    torch.testing.assert_close(features, expected, rtol=0, atol=0)

    prompt = "<image> describe the scene :"
    answers = mllm.answer([prompt] * 2, [one[None] for one in features], 8, batch_size=2)
    inputs = mllm.tokenizer(prompt.replace("<image>", "<image>" * tokens), return_tensors="pt")
    model: Any = mllm.model
    for image, answer in zip(pixels, answers, strict=True):
        generated = model.generate(
            **{name: inputs[name] for name in ("input_ids", "attention_mask")},
            pixel_values=image[None],
            max_new_tokens=8,
            do_sample=False,
        )
        new = generated[0, inputs["input_ids"].shape[1] :]
        assert answer == mllm.tokenizer.decode(new, skip_special_tokens=True).strip()
    assert answers[0]

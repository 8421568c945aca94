"""Text weights against their definition, on transformers' own text features."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModel

from search_spaces import Space, Stages
from search_spaces.facts.texts import read_templates
from search_spaces.scenarios import point_stage
from tests.trainables.conftest import Small
from tests.trainables.small import (
    NAMES,
    TEMPLATES,
    VISION,
    make_clip,
    make_siglip,
    make_space,
    make_tokenizer,
    point,
)
from trainables.encoders.text_embeddings import read_text_weights, text_weights, write_text_weights
from trainables.encoders.tower import Tower


def test_text_weights_follow_their_definition(small_stages: Small) -> None:
    clip, tokenizer = make_clip(), make_tokenizer()
    columns = []
    for name in NAMES:
        embedded = []
        for template in TEMPLATES:
            # One text at a time: no padding that could leak.
            batch = tokenizer(template.format(name) + " <eos>", return_tensors="pt")
            with torch.no_grad():
                features = clip.get_text_features(
                    input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
                ).pooler_output.double()
            embedded.append((features / features.norm())[0])
        mean = torch.stack(embedded).mean(0)
        columns.append(mean / mean.norm())
    stored = load_file(small_stages.text / "text.safetensors")["weights"]
    torch.testing.assert_close(stored.double(), torch.stack(columns, 1), atol=1e-6, rtol=1e-5)


def test_a_tokenizer_that_ends_texts_itself_is_left_alone() -> None:
    class Ending:
        eos_token_id, pad_token_id = 3, 0

        def __call__(self, text: str) -> dict[str, list[int]]:
            ids = plain(text)["input_ids"]
            assert isinstance(ids, list)
            return {"input_ids": [*ids, 3]}

    tower, plain = Tower(make_clip()), make_tokenizer()
    expected = text_weights(tower, plain, NAMES, TEMPLATES)
    assert torch.equal(text_weights(tower, Ending(), NAMES, TEMPLATES), expected)


def test_siglip_reads_lower_case_texts_of_full_length_to_the_last_position() -> None:
    siglip, tokenizer = make_siglip(), make_tokenizer()
    ids = tokenizer.get_vocab()
    columns = []
    for name in NAMES:
        embedded = []
        for template in TEMPLATES:
            row = [ids[word] for word in template.format(name).split()]
            row += [ids["<pad>"]] * (16 - len(row))
            with torch.no_grad():
                output = siglip.text_model(input_ids=torch.tensor([row]))
            hidden = output.last_hidden_state[0, -1]
            vector = torch.nn.functional.linear(
                hidden, siglip.text_model.head.weight, siglip.text_model.head.bias
            ).detach()
            embedded.append(vector / vector.norm())
        mean = torch.stack(embedded).mean(0)
        columns.append(mean / mean.norm())
    loud = [template.upper() for template in TEMPLATES]
    for templates in (TEMPLATES, loud):
        weights = text_weights(Tower(siglip), tokenizer, NAMES, templates)
        torch.testing.assert_close(weights, torch.stack(columns, 1), atol=1e-5, rtol=1e-4)


def given_texts(small: Small, **texts: object) -> Space:
    surrogate = small.space.surrogate.model_copy(update=texts)
    return small.space.model_copy(update={"surrogate": surrogate})


def test_templates_and_names_come_from_files(small_stages: Small, tmp_path: Path) -> None:
    (tmp_path / "templates.txt").write_text("photo of {}\n\na {} photo\n")
    (tmp_path / "names.txt").write_text("blue\nred\ngreen\n")
    texts = {"templates": str(tmp_path / "templates.txt"), "classes": str(tmp_path / "names.txt")}
    space = given_texts(small_stages, **texts)
    write_text_weights(space, small_stages.world, tmp_path / "text.safetensors")
    expected = text_weights(
        Tower(make_clip()),
        make_tokenizer(),
        ["blue", "red", "green"],
        ["photo of {}", "a {} photo"],
    )
    torch.testing.assert_close(read_text_weights(tmp_path), expected)
    (tmp_path / "names.txt").write_text("blue\nred\n")
    with pytest.raises(ValueError, match=r"2 .* 3 classes"):
        write_text_weights(space, small_stages.world, tmp_path / "text.safetensors")


def test_the_eighty_templates_are_eighty_different_ones() -> None:
    templates = read_templates("imagenet-80")
    assert templates is not None
    assert len(set(templates)) == 80
    assert all(template.count("{}") == 1 for template in templates)
    assert {"a photo of a {}.", "itap of my {}.", "a {} in a video game."} <= set(templates)


def test_keys_follow_the_texts_only_where_the_loss_reads_them(small_stages: Small) -> None:
    space, other = small_stages.space, given_texts(small_stages, templates="plain")
    images = Stages(space).train_images()
    assert Stages(space).text(images) != Stages(other).text(images)
    assert Stages(space).features() == Stages(other).features()
    d1 = point(space, "d1")
    assert point_stage(Stages(space), d1) != point_stage(Stages(other), d1)
    alone = [{"until": 1, "ce": 0, "distill": 1}]
    pair = [
        make_space(Path(space.teacher.model), surrogate={"phases": alone, "templates": name})
        for name in ("data", "plain")
    ]
    assert point_stage(Stages(pair[0]), d1) == point_stage(Stages(pair[1]), d1)


def test_an_encoder_without_a_text_tower_says_so(small_stages: Small, tmp_path: Path) -> None:
    CLIPVisionModel(CLIPVisionConfig(**VISION)).save_pretrained(tmp_path / "vision")
    teacher = small_stages.space.teacher.model_copy(update={"model": str(tmp_path / "vision")})
    space = small_stages.space.model_copy(update={"teacher": teacher})
    with pytest.raises(ValueError, match=r"teacher\.model.* ce "):
        write_text_weights(space, small_stages.world, tmp_path / "text.safetensors")

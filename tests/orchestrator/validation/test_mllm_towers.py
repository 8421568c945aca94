"""An MLLM whose tower is not the teacher, or that reads before block k, is refused before a run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, LlavaConfig, LlavaForConditionalGeneration

from orchestrator.validation.mllm_towers import check_towers, served
from orchestrator.validation.teachers import check_teacher
from search_spaces import Space, load_space
from tests.trainables.tiny_mllms import TINY, make

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 32,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, and MLLMs made by transformers: with its tower, or with another one."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    clip = CLIPModel(CLIPConfig(vision_config=SIZES, text_config=TEXT, projection_dim=8))
    clip.save_pretrained(root / "clip")
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **SIZES},
        text_config={"model_type": "llama", **TEXT},
        vision_feature_layer=-2,
    )
    llava = LlavaForConditionalGeneration(config)
    llava.save_pretrained(root / "other")
    own = dict(llava.model.vision_tower.named_parameters())
    given = dict(clip.vision_model.named_parameters())
    with torch.no_grad():
        for name, value in given.items():
            own[name.removeprefix("vision_model.")].copy_(value)
    llava.save_pretrained(root / "same", max_shard_size="20KB")
    for dtype in (torch.float16, torch.bfloat16):
        llava.to(dtype).save_pretrained(root / str(dtype).removeprefix("torch."))
        llava.float()
    return root


def space(models: Path, mllm: str, *settings: str) -> Space:
    given = [f"teacher.model={models / 'clip'}", f"mllms=[{models / mllm}]"]
    return load_space("smoke", [*given, "neck.init=random", *settings])


@pytest.mark.parametrize("mllm", ["same", "float16", "bfloat16"])
def test_a_tower_with_the_teachers_weights_fits_in_any_precision(models: Path, mllm: str) -> None:
    assert len(list((models / "same").glob("*.safetensors"))) > 1, "sharded"
    assert check_towers(space(models, mllm)) == []


def test_another_tower_is_refused(models: Path) -> None:
    (problem,) = check_towers(space(models, "other"))
    assert problem.startswith(f"mllms.0 = '{models / 'other'}': ")
    assert "encoder.layers.2." in problem, "of the blocks that the bridge uses"


def changed(models: Path, directory: Path, block: int) -> Path:
    """The fitting MLLM with one weight matrix of one block fine-tuned."""
    shutil.copytree(models / "float16", directory)
    state = load_file(directory / "model.safetensors")
    (name,) = (n for n in state if n.endswith(f"encoder.layers.{block}.mlp.fc1.weight"))
    state[name] = state[name] * 1.1
    save_file(state, directory / "model.safetensors", {"format": "pt"})
    return directory


@pytest.mark.parametrize(("block", "refused"), [(1, False), (2, True), (3, False)])
def test_only_the_blocks_between_k_and_the_layer_that_is_read_count(
    models: Path, tmp_path: Path, block: int, refused: bool
) -> None:
    """k = 2 and hidden state -2 = 3: block 2 alone is shared."""
    mllm = changed(models, tmp_path / "mllm", block)
    problems = check_towers(space(models, str(mllm)))
    assert len(problems) == refused
    assert all("encoder.layers.2.mlp.fc1.weight" in problem for problem in problems)


def test_a_layer_before_block_k_is_refused_in_the_variant_that_has_it(models: Path) -> None:
    found = check_towers(
        space(
            models,
            "same",
            "variants.a={}",
            "variants.b={teacher.block: 4, surrogate.token_layer: -1}",
        )
    )
    assert len(found) == 1
    for value in ("hidden state 3 ", "teacher.block = 4", "0 to 3"):
        assert value in found[0]


def test_a_tower_of_another_size_or_kind_is_refused(models: Path, tmp_path: Path) -> None:
    for number, (change, expected) in enumerate(
        [
            ({"num_hidden_layers": 5}, "blocks 5 against 4"),
            ({"model_type": "pixtral"}, "'pixtral'"),
        ]
    ):
        mllm = tmp_path / str(number)
        shutil.copytree(models / "float16", mllm)
        config = json.loads((mllm / "config.json").read_text())
        config["vision_config"].update(change)
        (mllm / "config.json").write_text(json.dumps(config))
        (problem,) = check_towers(space(models, str(mllm)))
        assert expected in problem


def test_a_class_that_cannot_be_swept_is_refused_for_baselines_too(
    models: Path, tmp_path: Path
) -> None:
    for number, (kind, expected) in enumerate(
        [
            ("qwen2_5_vl", "qwen2_5_vl"),
            ("bert", "'bert'"),
        ]
    ):
        mllm = tmp_path / str(number)
        shutil.copytree(models / "float16", mllm)
        config = json.loads((mllm / "config.json").read_text())
        (mllm / "config.json").write_text(json.dumps({**config, "model_type": kind}))
        for scenarios in ("scenarios=[]", "scenarios=[d1]"):
            (problem,) = check_towers(space(models, str(mllm), scenarios))
            assert problem.startswith(f"mllms.0 = '{mllm}': ")
            assert expected in problem.removeprefix(f"mllms.0 = '{mllm}': ")


@pytest.fixture(scope="module")
def own_towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLLMs with towers of their own kinds; InstructBLIP's is BLIP-2's."""
    root = tmp_path_factory.mktemp("own")
    blip, other = make("BLIP-2"), make("InstructBLIP")
    given = dict(TINY["BLIP-2"].tower_of(blip).named_parameters())
    with torch.no_grad():
        for name, parameter in TINY["InstructBLIP"].tower_of(other).named_parameters():
            parameter.copy_(given[name])
    blip.save_pretrained(root / "blip")
    other.save_pretrained(root / "instructblip")
    for name in ("InternVL", "Kosmos-2", "Idefics 3", "SmolVLM", "LLaVA-NeXT", "LLaVA, CLIP"):
        make(name).save_pretrained(root / name)
    return root


def _phases(ce: int) -> str:
    return f"surrogate.phases=[{{until: 1, ce: {ce}, distill: 1}}]"


ALONE = ("surrogate.pooled=0", "surrogate.tokens=1", _phases(0), "tasks=[vqa]")


def of_own(teacher: Path, *mllms: Path, settings: tuple[str, ...] = ALONE) -> Space:
    names = ", ".join(f"'{path}'" for path in mllms)
    given = [f"teacher.model={teacher}", f"mllms=[{names}]", "neck.init=random"]
    return load_space("smoke", [*given, *settings])


@pytest.mark.parametrize("name", ["blip", "InternVL", "Kosmos-2", "Idefics 3", "LLaVA, CLIP"])
def test_an_mllm_is_a_teacher_for_itself(own_towers: Path, name: str) -> None:
    found = of_own(own_towers / name, own_towers / name)
    assert check_teacher(found) == []
    assert check_towers(found) == []
    assert served(found) == f"serves {own_towers / name}"


def test_one_tower_serves_all_that_share_it(own_towers: Path) -> None:
    both = of_own(own_towers / "blip", own_towers / "blip", own_towers / "instructblip")
    assert check_towers(both) == []
    assert served(both).endswith(f"/blip, {own_towers / 'instructblip'}")
    crops = of_own(own_towers / "LLaVA-NeXT", own_towers / "LLaVA-NeXT", Path("no/such/hub"))
    assert served(crops).endswith(
        "LLaVA-NeXT (coded crop by crop); "
        "no/such/hub if they share its encoder (not all is at hand)"
    )
    (problem,) = check_towers(of_own(own_towers / "blip", own_towers / "Kosmos-2"))
    assert "family kosmos-2 against blip-2" in problem


def test_other_weights_of_an_own_tower_are_found(own_towers: Path, tmp_path: Path) -> None:
    """k = 2, and InternVL reads what its last block makes: blocks 2 and 3 count."""
    for block, differs in ((1, 0), (3, 1)):
        other = tmp_path / str(block)
        shutil.copytree(own_towers / "InternVL", other)
        state = load_file(other / "model.safetensors")
        (name,) = (n for n in state if n.endswith(f"encoder.layer.{block}.mlp.fc1.weight"))
        state[name] = state[name] * 1.1
        save_file(state, other / "model.safetensors", {"format": "pt"})
        assert len(check_towers(of_own(own_towers / "InternVL", other))) == differs


def test_what_an_own_tower_does_not_have_is_said(own_towers: Path) -> None:
    wanted = ("surrogate.pooled=1", _phases(1), "tasks=[vqa]")
    asked = of_own(own_towers / "blip", own_towers / "blip", settings=wanted)
    neck = asked.neck.model_copy(update={"init": "encoder"})
    asked = asked.model_copy(update={"neck": neck, "tasks": ("classification", "vqa")})
    problems = sorted(check_teacher(asked))
    settings = ("neck.init = 'encoder': ", "surrogate.phases: ", "surrogate.pooled", "tasks: ")
    assert len(problems) == len(settings)
    for problem, setting in zip(problems, settings, strict=True):
        assert problem.startswith(setting)
    for choice in ("clip or siglip", "'random'", "blip-2"):
        assert choice in problems[0]
    assert "classification" in problems[3]
    # LLaVA's is a CLIP after all, which a neck can start from.
    llava = of_own(own_towers / "LLaVA, CLIP", own_towers / "LLaVA, CLIP")
    neck = llava.neck.model_copy(update={"init": "encoder"})
    assert check_teacher(llava.model_copy(update={"neck": neck})) == []


def test_a_class_of_one_image_is_refused_where_a_task_shows_several(
    models: Path, tmp_path: Path
) -> None:
    for kind, title in (("blip-2", "BLIP-2"), ("llava_onevision", "LLaVA-OneVision")):
        shutil.copytree(models / "float16", tmp_path / kind)
        config = json.loads((tmp_path / kind / "config.json").read_text())
        (tmp_path / kind / "config.json").write_text(json.dumps({**config, "model_type": kind}))
        found = check_towers(space(models, str(tmp_path / kind), "scenarios=[]"))
        assert len(found) == 1
        assert f"{title} " in found[0]
        assert "tasks: fewshot" in found[0]
        alone = space(models, str(tmp_path / kind), "scenarios=[]", "tasks=[vqa]")
        assert check_towers(alone) == []


def test_sent_tokens_need_the_teachers_tower_and_the_oracle_whole_images(
    models: Path, own_towers: Path
) -> None:
    (problem,) = check_towers(space(models, "other", "scenarios=[]", "baselines=[feature_coding]"))
    assert "encoder.layers." in problem
    crops = of_own(own_towers / "LLaVA-NeXT", own_towers / "LLaVA-NeXT")
    asked = crops.model_copy(update={"baselines": ("end_to_end_oracle",)})
    (problem,) = check_towers(asked)
    assert "crops" in problem
    assert "baselines: end_to_end_oracle" in problem


def test_what_is_not_at_hand_is_not_judged_and_baselines_need_no_bridge(models: Path) -> None:
    assert check_towers(space(models, "other", "scenarios=[]")) == []
    assert (
        check_towers(load_space("smoke", [f"teacher.model={models / 'clip'}", "mllms=[no/hub]"]))
        == []
    )

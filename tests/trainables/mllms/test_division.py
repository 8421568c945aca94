"""An MLLM divided over several devices answers as on one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from search_spaces import load_space
from search_spaces.facts.mllm_families import family_of
from tests.trainables.mllms.test_mllm import PROCESSORS, images, ready
from tests.trainables.simulated_devices import (
    DeviceMismatchError,
    Placed,
    simulated_devices,
    to_simulated,
)
from tests.trainables.tiny_mllms import BLOCKS, SIDE, make
from trainables.encoders.bridge import Entry, TowerError, entered, hidden_at
from trainables.evaluation import loaded_models
from trainables.evaluation.loaded_models import load_answerer, load_mllm
from trainables.mllms import Mllm, mllm
from trainables.mllms.division import device_map_of
from trainables.points.models import PointModel

accelerate = pytest.importorskip("accelerate", reason="the package accelerate is not installed")

PROMPTS = ["<image> w5 w7", "<image> w9 w5 w7", "<image> w5 w7"]
CHOICES = [["w5"], ["w6 w8"], ["w5"]]
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="GPUs are there: see the last")


def bytes_of(model: torch.nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


def on_device(device_map: Mapping[str, int], weight: str) -> int:
    """The device of the longest path that holds a weight."""
    paths = [path for path in device_map if weight == path or weight.startswith(f"{path}.")]
    return device_map[max(paths, key=len)]


def deep_llava() -> Any:
    """A tiny LLaVA's configuration whose text model is larger than its tower."""
    config = make("LLaVA, CLIP").config
    config.text_config.num_hidden_layers = 12
    config.text_config.layer_types = None
    return config


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_fit_the_room_of_each_gpu_and_the_tower_stays_whole(dtype: torch.dtype) -> None:
    config = deep_llava()
    model = type(make("LLaVA, CLIP"))(config).to(dtype)
    room = {0: int(0.8 * bytes_of(model)), 1: int(0.8 * bytes_of(model))}
    device_map = device_map_of(config, family_of("llava"), dtype, room)
    taken = {0: 0, 1: 0}
    towers = set()
    for name, weight in model.named_parameters():
        device = on_device(device_map, name)
        taken[device] += weight.numel() * weight.element_size()
        if name.startswith("model.vision_tower."):
            towers.add(device)
    assert len(towers) == 1
    assert sum(taken.values()) == bytes_of(model)
    assert all(0.2 * bytes_of(model) < taken[gpu] <= room[gpu] for gpu in room)


def test_a_model_that_does_not_fit_is_refused_with_its_size_and_what_to_give() -> None:
    room = {0: 2**17, 1: 2**17}
    with pytest.raises(ValueError, match="do not fit 2 GPUs") as caught:
        device_map_of(deep_llava(), family_of("llava"), torch.float32, room)
    assert "gpus_per_worker" in str(caught.value)


def halves(model: Mllm) -> dict[str, int]:
    """The tower and what follows it on device 0, the rest of the text model on device 1."""
    tower = bytes_of(model.tower)
    whole = [*(model.model._no_split_modules or ()), type(model.tower).__name__]
    for share in (1.2, 1.4, 1.6, 2, 3):
        room = {0: int(share * tower), 1: 4 * bytes_of(model.model)}
        device_map: dict[str, int] = accelerate.infer_auto_device_map(model.model, room, whole)
        if set(device_map.values()) == {0, 1}:
            return device_map
    raise AssertionError("no division")


def divided(model: Mllm) -> None:
    """Divide a model over two simulated GPUs, as `from_pretrained` does by a `device_map`."""
    device_map = halves(model)
    to_simulated(model.model, device_map)
    with simulated_devices():
        accelerate.dispatch_model(
            model.model,
            {path: f"cuda:{gpu}" for path, gpu in device_map.items()},
            main_device="cuda:0",
            skip_keys=model.model._skip_keys_device_placement,
        )


@without_cuda
@pytest.mark.parametrize(
    ("name", "beams"),
    [("LLaVA, CLIP", 1), ("LLaVA, CLIP", 3), ("VipLLaVA", 1), ("SmolVLM", 1), ("Kosmos-2", 1)],
)
def test_two_simulated_gpus_answer_like_one_device_from_the_bridge(name: str, beams: int) -> None:
    model, given = ready(name, beams=beams), images(3)
    tokens = hidden_at(model.tower, 2, lambda: model.look(Entry(given, None)))
    features = [[one] for one in model.look(Entry(tokens, 2))]
    answers = model.answer(PROMPTS, features, 4, batch_size=2)
    likelihoods = model.likelihoods(PROMPTS, features, CHOICES, batch_size=2)
    assert len(set(answers)) > 1, "the test's MLLM says the same about everything"
    divided(model)
    assert {str(weight.device) for weight in model.model.parameters()} == {"cuda:0", "cuda:1"}
    with simulated_devices():
        for device in ("cpu", "cuda:0", "cuda:1"):
            looked = [[one] for one in model.look(Entry(tokens.to(device), 2))]
            assert all(
                torch.allclose(one.cpu(), whole, atol=1e-4)
                for [one], [whole] in zip(looked, features, strict=True)
            )
        assert model.answer(PROMPTS, looked, 4, batch_size=2) == answers
        found = model.likelihoods(PROMPTS, looked, CHOICES, batch_size=2)
        assert torch.allclose(torch.tensor(found), torch.tensor(likelihoods), atol=1e-4)


@without_cuda
@pytest.mark.parametrize("name", ["LLaVA-NeXT", "BLIP-2, T5"])
def test_classes_with_crops_or_pixels_alone_answer_like_one_device(
    name: str, tmp_path: Path
) -> None:
    make(name).save_pretrained(tmp_path)
    PROCESSORS[name].save_pretrained(tmp_path)
    model = Mllm.load(str(tmp_path))
    views = images(1)
    if model.family.crops:
        pixels = (views[0].permute(1, 2, 0) * 255).byte().numpy()
        views = torch.stack([torch.from_numpy(v).permute(2, 0, 1) for v in model.views(pixels)])
        views = views.float() / 255
    size = (SIDE, SIDE)
    tokens = hidden_at(model.tower, 2, lambda: model.look(Entry(views, None), size))
    answers = model.answer(["<image> w7"], [model.look(Entry(tokens, 2), size)], 6, 1)
    divided(model)
    with simulated_devices():
        looked = model.look(Entry(tokens.to("cuda:1"), 2), size)
        assert isinstance(looked[0], Placed)
        assert model.answer(["<image> w7"], [looked], 6, 1) == answers


@without_cuda
def test_simulated_devices_refuse_what_gpus_refuse() -> None:
    with simulated_devices():
        here, there = torch.ones(2, device="cuda:0"), torch.ones(2, device="cuda:1")
        with pytest.raises(DeviceMismatchError):
            here + there
        assert (here + there.to("cuda:0")).tolist() == [2.0, 2.0]


def test_a_divided_model_is_loaded_where_it_is_divided_and_answers_like_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("LLaVA, CLIP").save_pretrained(tmp_path)
    PROCESSORS["LLaVA, CLIP"].save_pretrained(tmp_path)
    whole, given = Mllm.load(str(tmp_path)), images(2)
    tokens = hidden_at(whole.tower, 2, lambda: whole.look(Entry(given, None)))
    prompts = ["<image> w7", "<image> w9 w5"]
    answers = whole.answer(prompts, [[one] for one in whole.look(Entry(tokens, 2))], 6, 2)
    asked_for = []

    def to_disk(config: Any, family: Any, dtype: torch.dtype, room: Any) -> dict[str, Any]:
        asked_for.append(room)
        return {path: {0: "cpu", 1: "disk"}[gpu] for path, gpu in halves(whole).items()}

    monkeypatch.setattr(mllm, "free_memory", lambda gpus: dict.fromkeys(range(gpus), 2**30))
    monkeypatch.setattr(mllm, "device_map_of", to_disk)
    load_mllm.forget()
    model = load_mllm(str(tmp_path), "fp32", 1, torch.device("cpu"), 2)
    load_mllm.forget()
    assert asked_for == [{0: 2**30, 1: 2**30}]
    assert set(model.model.hf_device_map.values()) == {"cpu", "disk"}
    assert {weight.device.type for weight in model.model.parameters()} == {"cpu", "meta"}
    looked = [[one] for one in model.look(Entry(tokens, 2))]
    assert model.answer(prompts, looked, 6, 2) == answers


def test_the_answerer_of_a_measurement_is_divided_over_as_many_gpus_as_the_evaluation_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space, loaded = load_space("smoke"), []
    monkeypatch.setattr(loaded_models, "load_mllm", lambda *arguments: loaded.append(arguments))
    measurement = next(iter(space.measurements))
    device, model = torch.device("cuda"), cast(PointModel, None)
    load_answerer(space, measurement, Path(), None, model, device, 3)
    assert loaded == [("shipped:llava-scenes", "fp32", 1, device, 3)]


def test_a_divided_tower_is_entered_once_at_a_time_and_left_as_it_was() -> None:
    model = ready("LLaVA, CLIP")
    accelerate.dispatch_model(model.model, {"": "cpu"}, force_hooks=True)
    before = vars(model.tower.embeddings)["forward"]  # type: ignore[arg-type]
    tokens = torch.zeros(1, 17, 32)
    with entered(model.tower, BLOCKS, tokens):
        with pytest.raises(TowerError, match="entered twice"), entered(model.tower, 2, tokens):
            pass
        assert vars(model.tower.embeddings)["forward"] is not before  # type: ignore[arg-type]
    assert vars(model.tower.embeddings)["forward"] is before  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_answer_like_one_device(tmp_path: Path) -> None:
    type(make("LLaVA, CLIP"))(deep_llava()).save_pretrained(tmp_path)
    PROCESSORS["LLaVA, CLIP"].save_pretrained(tmp_path)
    whole, given = Mllm.load(str(tmp_path)), images(2)
    tokens = hidden_at(whole.tower, 2, lambda: whole.look(Entry(given, None)))
    prompts = ["<image> w7", "<image> w9 w5"]
    answers = whole.answer(prompts, [[one] for one in whole.look(Entry(tokens, 2))], 6, 2)
    model = Mllm.load(str(tmp_path), gpus=2)
    assert {weight.device.index for weight in model.model.parameters()} == {0, 1}
    looked = [[one] for one in model.look(Entry(tokens.to("cuda:1"), 2))]
    assert model.answer(prompts, looked, 6, 2) == answers

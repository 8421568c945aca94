"""Towers entered at block k against the same models on pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tests.trainables.tiny_mllms import BLOCKS, TINY, inputs, make
from tests.trainables.tiny_towers import TOWERS, make_tower, tower_output
from trainables.encoders.bridge import TowerError, blocks_skipped_from, entered, hidden_at, parts_of


def logits(model: PreTrainedModel, given: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(**given).logits
    return found


def generated(model: Any, given: dict[str, Any], beams: int) -> Tensor:
    ids: Tensor = model.generate(**given, max_new_tokens=6, num_beams=beams, do_sample=False)
    return ids


@pytest.mark.parametrize("name", TINY)
def test_logits_of_a_bridged_mllm_are_those_of_pixels(name: str) -> None:
    """Difference 0: the same blocks run on the same numbers. Entered with other pixels at hand."""
    model, given, other = make(name), inputs(name, 2), inputs(name, 2, seed=1)
    tower = TINY[name].tower_of(model)
    bridged = {**given, "pixel_values": other["pixel_values"]}
    expected = logits(model, given)
    assert not torch.equal(logits(model, bridged), expected)
    for block in (0, 2, TINY[name].deepest):
        tokens = hidden_at(tower, block, lambda: model(**given))
        with entered(tower, block, tokens):
            assert torch.equal(logits(model, bridged), expected)
        with entered(tower, block - 1 if block else 1, tokens):
            assert not torch.allclose(logits(model, bridged), expected, atol=1e-3)
    assert torch.equal(logits(model, given), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", TINY)
def test_a_bridged_mllm_generates_what_it_generates_from_pixels(
    name: str, dtype: torch.dtype
) -> None:
    model, given = make(name, dtype), inputs(name, 2, dtype)
    tower = TINY[name].tower_of(model)
    bridged = {**given, "pixel_values": inputs(name, 2, dtype, seed=1)["pixel_values"]}
    tokens, expected = hidden_at(tower, 2, lambda: model(**given)), logits(model, given)
    with entered(tower, 2, tokens.float()):
        assert torch.equal(logits(model, bridged), expected)
    for beams in (1, 3):
        expected = generated(model, given, beams)
        with entered(tower, 2, tokens.float()):
            assert torch.equal(generated(model, bridged, beams), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", TOWERS)
def test_towers_of_other_packages_are_entered_exactly(name: str, dtype: torch.dtype) -> None:
    try:
        tower = make_tower(name, dtype)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    side = TOWERS[name].side
    generator = torch.Generator().manual_seed(0)
    pixels, other = torch.randn(2, 2, 3, side, side, generator=generator).to(dtype)
    expected = tower_output(tower, pixels)
    for block in (0, 2, 3):
        tokens = hidden_at(tower, block, lambda: tower_output(tower, pixels))
        with entered(tower, block, tokens):
            assert torch.equal(tower_output(tower, other), expected)
        wrong = block + 1 if tokens.dim() == 3 else block
        spoilt = tokens if tokens.dim() == 3 else tokens.flip(0)
        with entered(tower, wrong, spoilt):
            assert not torch.allclose(tower_output(tower, other), expected, atol=1e-4)


def test_gradients_reach_the_tokens_that_enter() -> None:
    """They are those that autograd has at block 2 of the path from pixels."""
    name = "LLaVA, CLIP"
    model, given = make(name), inputs(name, 2)
    tower = TINY[name].tower_of(model)
    found: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(given[0])
        given[0].retain_grad()

    given["pixel_values"].requires_grad_()
    with parts_of(tower).blocks[2].register_forward_pre_hook(keep):
        model(**given).logits.square().sum().backward()
    tokens = found[0].detach().requires_grad_()
    with entered(tower, 2, tokens):
        model(**given).logits.square().sum().backward()
    assert found[0].grad is not None
    assert found[0].grad.abs().max() > 0
    assert tokens.grad is not None
    torch.testing.assert_close(tokens.grad, found[0].grad, rtol=0, atol=0)


def test_blocks_that_nobody_reads_need_not_run() -> None:
    name = "LLaVA, CLIP"
    model, given = make(name), inputs(name, 2)
    tower = TINY[name].tower_of(model)
    expected = logits(model, given)
    with blocks_skipped_from(tower, BLOCKS - 1):
        assert torch.equal(logits(model, given), expected)
    with blocks_skipped_from(tower, BLOCKS - 2):
        assert not torch.allclose(logits(model, given), expected, atol=1e-3)


def test_what_cannot_be_entered_is_said() -> None:
    name = "LLaVA, CLIP"
    model = make(name)
    tower = TINY[name].tower_of(model)
    tokens = torch.zeros(1, 17, 32)
    with pytest.raises(TowerError, match=r"block 5.* 0 to 3"):
        entered(tower, 5, tokens).__enter__()
    with entered(tower, 2, tokens), pytest.raises(TowerError, match="twice"):
        entered(tower, 2, tokens).__enter__()
    with pytest.raises(TowerError, match="Linear"):
        entered(nn.Linear(2, 2), 0, tokens).__enter__()
    assert torch.equal(logits(model, inputs(name, 1)), logits(make(name), inputs(name, 1)))

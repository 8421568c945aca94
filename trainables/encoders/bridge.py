"""The bridge: entering a visual tower at block k, whoever wrote the model around it.

    with entered(model.visual, block=2, tokens=neck(y_hat)):
        answer = model.generate(...)   # unmodified; its pixels are looked at by nobody

The tower's own code runs: what stands before block k gives the tokens (the stem) or passes its
input on (blocks 0 .. k - 1), so hidden states keep their numbers and everything that the model does
with them stays as it is. Known are towers of these forms, bare or one attribute down:

| form                              | of                                                    |
|-----------------------------------|-------------------------------------------------------|
| `embeddings`, `encoder.layers`    | transformers' CLIP, SigLIP, Idefics, Kosmos-2, BLIP-2 |
| `embeddings`, `encoder.layer`     | transformers' InternVL                                |
| `patch_embed`, `blocks`           | transformers' Qwen2.5-VL: all images' tokens in a row |
| `ln_pre`, `transformer.resblocks` | OpenAI's `clip`, `open_clip`                          |
| `embeddings`, `encoder.stages`    | transformers' ConvNeXt: entered with a feature map    |
| `stem`, `stages`                  | timm's ConvNeXt, which `open_clip` uses: likewise     |

*Bridging Compressed Image Latents and Multimodal Large Language Models* (ICLR 2025, arXiv
2407.19651), section 3.1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

_INSIDE = ("", "vision_model", "visual", "trunk", "model")
"""Where a tower may stand in what is called one."""
_FORMS = (
    # stem, what stands between it and block 0, blocks
    ("embeddings", ("pre_layrnorm",), "encoder.layers"),
    ("embeddings", (), "encoder.layer"),
    ("embeddings", (), "encoder.stages"),
    ("patch_embed", (), "blocks"),
    ("ln_pre", (), "transformer.resblocks"),
    ("stem", (), "stages"),
)


class TowerError(ValueError):
    """A tower that cannot be entered, or not there."""


@dataclass(frozen=True)
class Entry:
    """What enters an encoder.

    given: tokens (B, T, D) at the input of block `block`; where `block` is None, images
    (B, 3, H, W) in [0, 1].
    """

    given: Tensor
    block: int | None


@dataclass(frozen=True)
class TowerParts:
    """What stands before block k: the stem, what follows it, and the blocks."""

    stem: nn.Module
    between: tuple[nn.Module, ...]
    blocks: Sequence[nn.Module]


def parts_of(tower: nn.Module) -> TowerParts:
    """The parts of a visual tower.

    Raises:
        TowerError: it has none of the known forms.
    """
    for inside in _INSIDE:
        module = tower if not inside else getattr(tower, inside, None)
        for stem, between, blocks in _FORMS if isinstance(module, nn.Module) else ():
            try:
                modules = attrgetter(stem, blocks)(module)
            except AttributeError:
                continue
            after = tuple(getattr(module, name) for name in between if hasattr(module, name))
            return TowerParts(modules[0], after, list(modules[1]))
    forms = "; ".join(f"{stem} and {blocks}" for stem, _, blocks in _FORMS)
    raise TowerError(
        f"{type(tower).__name__} is no tower that can be entered: it has none of {forms}"
    )


@contextlib.contextmanager
def entered(tower: nn.Module, block: int, tokens: Tensor) -> Iterator[None]:
    """While this lasts, the tower's hidden state `block` is `tokens`, whatever its pixels are.

    Gradients reach the tokens. A tower is entered by one thread at a time.

    Args:
        tower: of a form that the module names.
        block: k, 0 .. number of blocks; of a ConvNeXt the number of a stage.
        tokens: as the input of block k, cast to the tower's precision: (B, T, D); of Qwen2.5-VL
            (tokens of all images, D) in the order of its patches; of a ConvNeXt (B, C, h, w).

    Raises:
        TowerError: no such tower or block, or it is entered already.
    """
    parts = parts_of(tower)
    if not 0 <= block <= len(parts.blocks):
        raise TowerError(f"block {block}: the tower has blocks 0 to {len(parts.blocks) - 1}")
    tokens = tokens.to(next(parts.blocks[-1].parameters()).dtype)
    passed = [*parts.between, *parts.blocks[:block]]
    with _calls(parts.stem, lambda *_, **__: tokens), contextlib.ExitStack() as stack:
        for module in passed:
            stack.enter_context(_calls(module, _unchanged))
        yield


@contextlib.contextmanager
def blocks_skipped_from(tower: nn.Module, first: int) -> Iterator[None]:
    """While this lasts, blocks from `first` on pass their input on: their output is not read."""
    with contextlib.ExitStack() as stack:
        for module in parts_of(tower).blocks[first:]:
            stack.enter_context(_calls(module, _unchanged))
        yield


def hidden_at(tower: nn.Module, block: int, run: Callable[[], Any]) -> Tensor:
    """The input of a block while something runs the tower, as `entered` takes it.

    Args:
        tower: as in `entered`.
        block: 0 .. number of blocks, which stands for the last block's output.
        run: runs the tower once, such as `lambda: tower(pixel_values=x)`.
    """
    parts = parts_of(tower)
    hidden = _hidden(parts, block, run)
    attention = getattr(parts.blocks[0], "attn", None)
    if isinstance(attention, nn.MultiheadAttention) and not attention.batch_first:
        # OpenAI's clip turns to (T, B, D) after the stem.
        return hidden.transpose(0, 1)
    if hidden.dim() == 2:
        # Qwen2.5-VL sorts patches by window after the stem: number them to see where they go.
        # In two digits, as half precision counts to 256 alone.
        index = torch.arange(len(hidden), device=hidden.device)
        digits = torch.zeros_like(hidden)
        digits[:, 0], digits[:, 1] = index // 256, index % 256
        with _calls(parts.stem, lambda *_, **__: digits):
            probe = _hidden(parts, 0, run)[:, :2].long()
        order = 256 * probe[:, 0] + probe[:, 1]
        hidden = torch.empty_like(hidden).index_copy(0, order, hidden)
    return hidden


def _hidden(parts: TowerParts, block: int, run: Callable[[], Any]) -> Tensor:
    tokens: list[Tensor] = []
    if block < len(parts.blocks):
        hook = parts.blocks[block].register_forward_pre_hook(
            lambda _, arguments: tokens.append(arguments[0])
        )
    else:
        hook = parts.blocks[-1].register_forward_hook(
            lambda _, __, output: tokens.append(_first(output))
        )
    try:
        run()
    finally:
        hook.remove()
    return tokens[0]


def _first(output: Any) -> Tensor:
    """The hidden state of what a block returns, which may be a tuple."""
    hidden: Tensor = output if isinstance(output, Tensor) else output[0]
    return hidden


def _unchanged(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden


class _Replacement(partial[Tensor]):
    """The `forward` of a module while a tower is entered."""


@contextlib.contextmanager
def _calls(module: nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
    """Another `forward` for one instance, which hooks on the module still see.

    A module of a model that is divided over several devices has a `forward` of its instance already
    (by accelerate, which moves the inputs); it is set again behind.
    """
    before = vars(module).get("forward")
    if isinstance(before, _Replacement):
        raise TowerError(f"{type(module).__name__} has been changed already: entered twice?")
    module.forward = _Replacement(forward)
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before

"""Is the bridge exact? Measured on tiny randomly initialised models of the real classes.

Of each class: its own path from pixels, against the same class given other pixels and entered at
block k with the true input of that block. Exact means a difference of 0, and the same ids; entered
one block too early, it must differ, or nothing was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.facts.mllm_families import FAMILIES, REFUSED
from trainables.encoders.bridge import entered, hidden_at
from trainables.mllms.tiny import TINY, inputs, make
from trainables.mllms.tiny_towers import TOWERS, make_tower, said

BLOCK = 2
"""k."""
BEAMS = (1, 3)
_NEW_TOKENS = 6


@dataclass(frozen=True)
class Agreement:
    """What was measured of a class.

    what: the class, or a tower; why_not: the reason if nothing could be measured, or why a class
    whose bridge is exact cannot be swept; fp32, bf16: maximum absolute difference of the logits
    (of a tower, of its output); wrong: the difference, in fp32, when entered one block too early;
    same_ids: whether the generated ids are the same by precision and beams, empty for a tower.
    """

    what: str
    fp32: float | None = None
    bf16: float | None = None
    wrong: float | None = None
    same_ids: tuple[bool, ...] = ()
    why_not: str = ""

    @property
    def exact(self) -> bool:
        """Whether the bridge gave what pixels give, and would not from anywhere."""
        measured = (self.fp32, self.bf16) == (0.0, 0.0) and all(self.same_ids)
        return measured and self.wrong is not None and self.wrong > 1e-3


def check_mllm(name: str) -> Agreement:
    """Measure one of the tiny MLLMs (a key of `TINY`)."""
    found: dict[torch.dtype, tuple[float, float]] = {}
    same: list[bool] = []
    for dtype in (torch.float32, torch.bfloat16):
        model: Any = make(name, dtype)
        tower = TINY[name].tower_of(model)
        given = inputs(name, 2, dtype)
        other = {**given, "pixel_values": inputs(name, 2, dtype, seed=1)["pixel_values"]}
        by_pixels, by_others = partial(_logits, model, given), partial(_logits, model, other)
        found[dtype] = _differences(tower, by_pixels, by_others)
        tokens = hidden_at(tower, BLOCK, by_pixels)
        for beams in BEAMS:
            how = {"max_new_tokens": _NEW_TOKENS, "num_beams": beams, "do_sample": False}
            expected = model.generate(**given, **how)
            with entered(tower, BLOCK, tokens):
                same.append(torch.equal(model.generate(**other, **how), expected))
    kind = model.config.model_type
    return Agreement(
        f"{name} ({kind})",
        found[torch.float32][0],
        found[torch.bfloat16][0],
        found[torch.float32][1],
        tuple(same),
        "" if kind in FAMILIES else f"not swept: {REFUSED[kind]}",
    )


def check_tower(name: str) -> Agreement:
    """Measure one of the tiny towers (a key of `TOWERS`)."""
    found: dict[torch.dtype, tuple[float, float]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        try:
            tower = make_tower(name, dtype)
        except ModuleNotFoundError as error:
            return Agreement(name, why_not=str(error))
        side = TOWERS[name].side
        generator = torch.Generator().manual_seed(0)
        pixels, other = torch.randn(2, 2, 3, side, side, generator=generator).to(dtype)
        by_pixels, by_others = partial(said, tower, pixels), partial(said, tower, other)
        found[dtype] = _differences(tower, by_pixels, by_others)
    return Agreement(
        name, found[torch.float32][0], found[torch.bfloat16][0], found[torch.float32][1]
    )


def _logits(model: Any, given: dict[str, Any]) -> Tensor:
    logits: Tensor = model(**given).logits
    return logits


@torch.no_grad()
def _differences(
    tower: nn.Module, by_pixels: Callable[[], Tensor], by_others: Callable[[], Tensor]
) -> tuple[float, float]:
    """Of the bridged run from that by pixels: entered at block k, and where it must not be."""
    expected = by_pixels()
    tokens = hidden_at(tower, BLOCK, by_pixels)
    with entered(tower, BLOCK, tokens):
        bridged = by_others()
    # A ConvNeXt's stages take maps of other sizes: there another image's map is what is wrong.
    early, spoilt = (BLOCK - 1, tokens) if tokens.dim() < 4 else (BLOCK, tokens.flip(0))
    with entered(tower, early, spoilt):
        wrong = by_others()
    return (bridged - expected).abs().max().item(), (wrong - expected).abs().max().item()


def check_all() -> Iterator[Agreement]:
    """Every tiny MLLM, then every tiny tower."""
    yield from map(check_mllm, TINY)
    yield from map(check_tower, TOWERS)


def table(agreements: Iterable[Agreement]) -> Iterator[str]:
    """Lines of a table, as soon as each is measured; below it what is said of some."""
    width = max(len(name) for name in (*TINY, *TOWERS)) + 22
    columns = ("fp32", "bf16", "ids, 1 beam", "ids, 3 beams", "wrong block")
    head = "largest difference, bridged - pixels"
    yield f"{head:<{width}}" + "".join(f"{name:>14}" for name in columns)
    notes = []
    for one in agreements:
        if one.why_not:
            notes.append(f"{one.what}: {one.why_not}")
        if one.fp32 is None or one.bf16 is None or one.wrong is None:
            continue
        values = [f"{one.fp32:g}", f"{one.bf16:g}"]
        for number in range(len(BEAMS)):
            both = one.same_ids[number :: len(BEAMS)]
            values.append("-" if not both else "same" if all(both) else "OTHER")
        values.append(f"{one.wrong:.3g}")
        yield f"{one.what:<{width}}" + "".join(f"{value:>14}" for value in values)
    yield from notes

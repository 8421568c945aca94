"""What each part costs: parameters, and kMAC per pixel of the image given to the codec.

    sender     x -> analysis g_a -> hyper analysis h_a -> entropy networks -> bytes
    receiver   bytes -> entropy networks -> y_hat --+-> neck ------------------------+-> encoder_run
                                                    +-> synthesis g_s --+-> encoder_skipped --+
                                                                        +-> ... --------------+

    python -m trainables.commands.complexity [SPACE] [--set PATH=VALUE] [--codec NAME] [--json FILE]

What a codec and the encoder cost is counted for every space; parts that only a scenario has are
counted by the scenario. At the paper's sizes its own figures are printed beside them, with what
explains each difference.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from pydantic import BaseModel
from torch import nn

from search_spaces import Space, SpaceError, load_space
from search_spaces.codecs.elic import ElicCodec
from search_spaces.scenarios import Scenario, scenarios_of
from search_spaces.specs.data import DataSpec
from trainables.commands.paper_figures import Comparison, compare, table
from trainables.encoders.load import meta_tower
from trainables.points.building import complete_encoder, partial_encoder
from trainables.points.contract import Method, method_of
from trainables.points.counting import (
    Counting,
    Part,
    codec_parts,
    codecs_of,
    meta,
)

PAPER: Final = Space(
    name="paper",
    codecs=(ElicCodec(arch="elic2022-chandelier"),),
    data=DataSpec(size=256),
    mllms=("none",),
)
"""The sizes of the paper: ELIC 192/320 at 256 x 256, CLIP ViT-L/14 at 224, k = 2."""

COMMON: Final = ("entropy", "encoder_run")
"""The parts that every receiver of compressed images runs; the paper compares the rest. A codec's
entropy networks are common at whatever size of the image they run."""
_SIZES = (
    *("model", "block", "layers", "heads", "mlp_ratio", "channels", "levels"),
    *("arch", "N", "M", "groups", "context_width"),
)
"""Settings that decide what parts cost."""


@dataclass(frozen=True)
class Total:
    """What one scenario costs with one codec, in kMAC/pixel.

    Attributes:
        codec: label of the codec, or name of the scenario's own.
        scenario: its name.
        sender: encoding.
        receiver: from bytes to the layer that the MLLM reads.
        own: the receiver without `COMMON`, the number that the paper compares.
        own_parameters: of those parts.
        saving: share of `own` that is saved against the space's reference scenario, of its variants
            the cheapest; None where the space has no such scenario.
        variant: as in `Part`.
    """

    codec: str
    scenario: str
    sender: float
    receiver: float
    own: float
    own_parameters: int
    saving: float | None
    variant: str = ""


Row = TypeVar("Row", Part, Total)


def encoder_parts(counting: Counting) -> Iterator[Part]:
    """The encoder before block k and from there on, and the teacher."""
    space, tower = counting.space, counting.tower
    block, surrogate = space.teacher.block, space.surrogate
    whole, partial = complete_encoder(space, tower), partial_encoder(space, tower)
    image = meta(3, counting.size, counting.size)
    hidden = torch.empty_like(whole.hidden(image, block))
    blocks = list(tower.blocks)
    yield counting.part(
        "",
        "encoder_skipped",
        "receiver",
        "patch embedding and blocks before k",
        [tower.embeddings, tower.pre_norm or nn.Identity(), *blocks[:block]],
        lambda: whole.hidden(image, block),
    )
    yield counting.part(
        "",
        "encoder_run",
        "receiver",
        "blocks k up to the layer that is read",
        blocks[block : partial.token_index],
        lambda: partial.hidden(hidden, surrogate.token_layer),
    )
    yield counting.part(
        "",
        "teacher",
        "training",
        "the complete encoder, as in training",
        [whole],
        lambda: whole(image, surrogate.pooled > 0, surrogate.tokens > 0),
    )


def scenario_parts(counting: Counting) -> list[Part]:
    """The parts that only some scenarios of the space have, each once."""
    methods = dict.fromkeys(method_of(scenario.name) for scenario in scenarios_of(counting.space))
    parts = (part for method in methods for part in method.parts(counting))
    return list(dict.fromkeys(parts))


def complexity(space: Space) -> tuple[list[Part], list[Total]]:
    """All parts of a space's operating points, and what its scenarios cost.

    Raises:
        OSError: the teacher's configuration cannot be read.
        ValueError: the space's sizes do not fit together.
    """
    parts, countings = {}, {}
    shared: list[Part] = []
    for variant in space.variants or ("",):
        variant_space = space.of(variant)
        counting = Counting(variant_space, meta_tower(variant_space.teacher.model))
        countings[variant] = counting
        shared = shared or [
            part for codec in counting.codecs.items() for part in codec_parts(counting, *codec)
        ]
        parts[variant] = [*shared, *scenario_parts(counting), *encoder_parts(counting)]
    reference = {
        label: min(costs)
        for label in codecs_of(space)
        if (costs := list(_reference_costs(label, countings, parts)))
    }
    sums = {
        variant: totals(counting, parts[variant], reference)
        for variant, counting in countings.items()
    }
    return _told_apart(parts), _told_apart(sums)


def _reference_costs(
    label: str, countings: Mapping[str, Counting], parts: Mapping[str, Sequence[Part]]
) -> Iterator[float]:
    """What a codec's receiver costs in the reference scenario, variant by variant."""
    for variant, counting in countings.items():
        for scenario in scenarios_of(counting.space):
            if scenario.is_cost_reference:
                of_codec = _of_codec(label, parts[variant])
                yield _kmac(of_codec, _without_common(method_of(scenario.name)))


def _told_apart(of: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The rows of all variants; one that is the same in all of them once, without a name."""
    found = []
    for place, (variant, rows) in enumerate(of.items()):
        for row in rows:
            if not all(row in other for other in of.values()):
                found.append(replace(row, variant=variant))
            elif place == 0:
                found.append(row)
    return found


def totals(
    counting: Counting, parts: Iterable[Part], reference: Mapping[str, float]
) -> list[Total]:
    """What each scenario costs with each codec.

    Args:
        counting: of a space without variants, or of one.
        parts: its parts.
        reference: kMAC/pixel by codec that savings are measured against.
    """
    space, parts = counting.space, list(parts)
    rows = []
    for label, spec in counting.codecs.items():
        for scenario in scenarios_of(space):
            if scenario.applies_to(space, spec) or scenario.look.role == "bound":
                rows.append(_total(label, scenario, parts, reference.get(label)))
    for scenario in scenarios_of(space):
        coders = {point.coder for point in scenario.own_points(space) if point.lmbda is not None}
        rows += [_total(coder, scenario, parts, reference.get(label)) for coder in sorted(coders)]
    return rows


def _of_codec(label: str, parts: Iterable[Part]) -> dict[str, Part]:
    """The parts of a codec's points by name, with those that depend on no codec."""
    return {part.part: part for part in parts if part.codec in (label, "")}


def _total(label: str, scenario: Scenario, parts: Sequence[Part], reference: float | None) -> Total:
    method, of_codec = method_of(scenario.name), _of_codec(label, parts)
    names = _without_common(method)
    kmac = _kmac(of_codec, names)
    return Total(
        codec=label,
        scenario=scenario.name,
        sender=_kmac(of_codec, method.sender),
        receiver=_kmac(of_codec, method.receiver),
        own=kmac,
        own_parameters=sum(of_codec[name].parameters for name in names),
        saving=None if reference is None else 1 - kmac / reference,
    )


def _kmac(of_codec: Mapping[str, Part], names: Iterable[str]) -> float:
    return sum(of_codec[name].kmac_per_pixel for name in names)


def _without_common(method: Method) -> tuple[str, ...]:
    return tuple(name for name in method.receiver if not name.endswith(COMMON))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.commands.complexity",
        description="Parameters and kMAC/pixel of everything that an operating point is made of.",
    )
    parser.add_argument(
        "space", nargs="?", help="named space or YAML file (default: the paper's sizes)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE")
    parser.add_argument("--codec", help="only the codec of this name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    options = parser.parse_args(argv)
    try:
        space = _space(options.space, options.set, options.codec)
        parts, sums = complexity(space)
    except (SpaceError, OSError, ValueError) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    print(_table(space, parts, sums))
    for label, rows in against_paper(space, parts).items():
        print(f"\n{label} {table(rows)}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(as_data(space, parts, sums), indent=1) + "\n", "utf-8")
    return 0


def against_paper(space: Space, parts: Sequence[Part]) -> dict[str, list[Comparison]]:
    """The paper's figures beside those of each codec that has the paper's sizes, by label.

    Empty for a space without the reference scenario, which the paper compares with.
    """
    figures = {}
    for variant in space.variants or ("",):
        variant_space = space.of(variant)
        if not _has_paper_sizes(variant_space):
            continue
        of_variant = [part for part in parts if part.variant in ("", variant)]
        for label, spec in codecs_of(space).items():
            if _sizes(spec) == _sizes(PAPER.codecs[0]):
                of_codec = _of_codec(label, of_variant)
                kmac = {name: part.kmac_per_pixel for name, part in of_codec.items()}
                parameters = {name: part.parameters for name, part in of_codec.items()}
                figures[f"{label} {variant}".strip()] = compare(kmac, parameters)
    return figures


def _has_paper_sizes(space: Space) -> bool:
    """Whether teacher, neck, reference scenario and images have the paper's sizes."""
    reference = next((s for s in scenarios_of(space) if s.is_cost_reference), None)
    if reference is None or space.data.size != PAPER.data.size:
        return False
    settings = (
        (space.teacher, PAPER.teacher),
        (space.neck, PAPER.neck),
        (space.settings_of(reference.key), PAPER.settings_of(reference.key)),
    )
    return all(_sizes(given) == _sizes(paper) for given, paper in settings)


def _sizes(spec: BaseModel) -> dict[str, Any]:
    """The settings of a spec that decide on sizes."""
    return {name: value for name, value in spec.model_dump().items() if name in _SIZES}


def as_data(space: Space, parts: Sequence[Part], sums: Iterable[Total]) -> dict[str, Any]:
    """The numbers as JSON data: `parts`, `totals` and `paper` have a row per table row."""
    return {
        "space": space.name,
        "size": space.data.size,
        "teacher": space.teacher.model,
        "block": space.teacher.block,
        "parts": [asdict(part) for part in parts],
        "totals": [asdict(total) for total in sums],
        "paper": {
            label: [asdict(row) for row in rows]
            for label, rows in against_paper(space, parts).items()
        },
    }


def _space(name: str | None, overrides: Sequence[str], codec: str | None) -> Space:
    if name is None:
        if overrides:
            raise ValueError("--set changes a space: name one, e.g. demo")
        space = PAPER
    else:
        space = load_space(name, overrides)
    if codec is None:
        return space
    chosen = tuple(spec for spec in space.codecs if spec.label == codec)
    if not chosen:
        names = ", ".join(spec.label for spec in space.codecs)
        raise ValueError(f"--codec {codec}: {space.name} has {names}")
    return space.model_copy(update={"codecs": chosen})


def _table(space: Space, parts: Sequence[Part], sums: Sequence[Total]) -> str:
    side, block = space.data.size, space.teacher.block
    names = [_with_variant(p.part, p) for p in parts]
    names += [_with_variant(t.scenario, t) for t in sums]
    wide = max(15, *map(len, names)) + 2
    lines = [
        f"{space.name}: images of {side} x {side}, {space.teacher.model}, k = {block}",
        "",
        f"{'codec':<22}{'part':<{wide}}{'side':<10}{'parameters':>13}{'kMAC/pixel':>12}  meaning",
    ]
    lines += [
        f"{p.codec:<22}{_with_variant(p.part, p):<{wide}}{p.side:<10}{p.parameters:>13,}"
        f"{p.kmac_per_pixel:>12.3f}  {p.meaning}"
        for p in parts
    ]
    lines += [
        "",
        "kMAC/pixel in all; own: without what every receiver of compressed images runs, "
        f"{' and '.join(COMMON)}",
        f"{'codec':<22}{'scenario':<{wide}}{'sender':>10}{'receiver':>10}{'own':>10}"
        f"{'own parameters':>16}{'saved against ' + _reference_name(space):>31}",
    ]
    lines += [
        f"{t.codec:<22}{_with_variant(t.scenario, t):<{wide}}{t.sender:>10.2f}{t.receiver:>10.2f}"
        f"{t.own:>10.2f}{t.own_parameters:>16,}"
        + (f"{t.saving:>30.1%}" if t.saving is not None else f"{'-':>30}")
        for t in sums
    ]
    return "\n".join(lines)


def _reference_name(space: Space) -> str:
    names = [scenario.name for scenario in scenarios_of(space) if scenario.is_cost_reference]
    return names[0] if names else "nothing"


def _with_variant(name: str, row: Part | Total) -> str:
    return f"{name} {row.variant}".strip()


if __name__ == "__main__":
    sys.exit(main())

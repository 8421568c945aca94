"""The cost of each part: parameters, and kMAC per pixel of the image given to the codec.

    sender     x -> analysis g_a -> hyper analysis h_a -> entropy networks -> bytes
    receiver   bytes -> entropy networks -> y_hat --+-> neck ------------------------+-> encoder_run
                                                    +-> synthesis g_s --+-> encoder_skipped --+
                                                                        +-> ... --------------+

    python -m trainables.commands.complexity [SPACE|STORAGE/SWEEP] [--set PATH=VALUE] [--codec NAME]
        [--json FILE]

At the paper's sizes, the paper's figures are printed beside the counted ones, with the reason of
each difference. `costs.py` counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from search_spaces import Space, load_space, named_spaces
from search_spaces.codecs.elic import ElicCodec
from search_spaces.scenarios import scenarios_of
from search_spaces.specs.data import DataSpec
from trainables.commands.costs import COMMON, Total, complexity, parts_of_codec
from trainables.commands.errors import refuse
from trainables.commands.paper_figures import Comparison, compare, table
from trainables.datasets.images.files import write_json
from trainables.evaluation.finished_points import space_of_sweep
from trainables.points.counting import Part, codecs_of

PROGRAM: Final = "python -m trainables.commands.complexity"
PAPER: Final = Space(
    name="paper",
    codecs=(ElicCodec(arch="elic2022-chandelier"),),
    data=DataSpec(size=256),
    mllms=("none",),
)
"""The sizes of the paper: ELIC 192/320 at 256 x 256, CLIP ViT-L/14 at 224, k = 2."""

_SIZES = (
    *("model", "block", "layers", "heads", "mlp_ratio", "channels", "levels"),
    *("arch", "N", "M", "groups", "context_width"),
)
"""Settings that decide what parts cost."""


def parser(prog: str = PROGRAM) -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Parameters and kMAC/pixel of everything that an operating point is made of.",
    )
    parser.add_argument(
        "space",
        nargs="?",
        metavar="SPACE_OR_SWEEP",
        help="named space or YAML file, or a sweep's directory (<storage>/<sweep>); default: the "
        "paper's sizes",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE")
    parser.add_argument("--codec", help="only the codec of this name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    """The command; returns its exit code: 0, or 2 for bad input."""
    options = parser(prog).parse_args(argv)
    try:
        space = _space(options.space, options.set, options.codec)
        parts, sums = complexity(space)
    except Exception as error:  # also of what no check foresaw
        return refuse(error)
    print(_table(space, parts, sums))
    for label, rows in against_paper(space, parts).items():
        print(f"\n{label} {table(rows)}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, as_data(space, parts, sums))
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
                of_codec = parts_of_codec(label, of_variant)
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
    elif name not in named_spaces() and Path(name).is_dir():
        if overrides:
            raise ValueError("--set changes a space: name one, and not what a sweep was run with")
        space = space_of_sweep(name)
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

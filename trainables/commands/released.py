"""Describe weights files: their origin, and the sizes of the codec and of the neck in them.

python -m trainables.commands.released FILE [FILE ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from trainables.codecs.released import read_weights
from trainables.commands.errors import refuse

PROGRAM = "python -m trainables.commands.released"


def describe(file: Path) -> str:
    """Describe a weights file in a line.

    Raises:
        OSError, ValueError: the file cannot be read, or holds no known weights.
    """
    weights = read_weights(file)
    parts = [f"{file}: {weights.origin}", f"codec of {_size(weights.codec)}"]
    by_end = [(n, t) for n, t in weights.codec.items() if n.startswith("g_a.") and t.dim() == 4]
    if by_end:
        parts.append(f"N = {by_end[0][1].shape[0]}")
    if weights.neck:
        linear = weights.neck.get("linear.weight")
        shape = "" if linear is None else f" from M = {linear.shape[1]} to width {linear.shape[0]}"
        parts.append(f"neck of {_size(weights.neck)}{shape}")
    return ", ".join(parts)


def _size(tensors: Mapping[str, Tensor]) -> str:
    return f"{sum(t.numel() for t in tensors.values()) / 1e6:.2f} M numbers in {len(tensors)} names"


def parser(prog: str = PROGRAM) -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Describe weights files: their origin, and the sizes in them."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    """Print a line per weights file; returns the exit code: 0, or 2 where one cannot be read."""
    for file in parser(prog).parse_args(arguments).files:
        try:
            print(describe(file))
        except (OSError, ValueError) as error:
            return refuse(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())

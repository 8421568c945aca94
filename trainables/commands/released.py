"""Describe weights files: their origin, and the sizes of the codec and of the neck in them.

python -m trainables.commands.released FILE [FILE ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from trainables.codecs.released import read_weights


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line per weights file; exit code 2 where one cannot be read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    for file in parser.parse_args(arguments).files:
        try:
            print(describe(file))
        except (OSError, ValueError) as error:
            parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()

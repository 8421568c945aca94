"""`python -m trainables.mllms`: which MLLMs can be swept, and why others cannot."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from search_spaces.facts.mllm_families import FAMILIES, REFUSED


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table; returns the exit code 0."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.mllms", description="The classes of MLLMs that can be swept."
    )
    parser.parse_args(argv)
    width = max(map(len, (*FAMILIES, *REFUSED)))
    for name, family in FAMILIES.items():
        view = "crops, each coded as an image of its own" if family.crops else "one view"
        print(f"{name:<{width}}  {family.title}; tower {family.tower}; reads {view}")
    for name, reason in REFUSED.items():
        print(f"{name:<{width}}  not: {reason}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

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
    width = max(map(len, (*FAMILIES.names(), *REFUSED)))
    for name, family in FAMILIES.working().items():
        view = "crops, each coded as an image of its own" if family.crops else "one view"
        about = f"{family.title}; tower {family.tower}; reads {view}"
        print(f"{name:<{width}}  {about} ({FAMILIES.origin(name).distribution})")
    for name, reason in {**REFUSED, **FAMILIES.broken()}.items():
        print(f"{name:<{width}}  not: {reason}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m trainables.mllms`: which MLLMs can be swept, and why others cannot.

With `--check` the bridge is measured on a tiny model of each class and tower.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from search_spaces.facts.mllm_families import FAMILIES, REFUSED


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table; returns the exit code: 0, or 1 if a bridge is not exact."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.mllms", description="The classes of MLLMs that can be swept."
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="measure that the bridge is exact, on tiny random models of the real classes",
    )
    if parser.parse_args(argv).check:
        return _check()
    width = max(map(len, (*FAMILIES, *REFUSED)))
    for name, family in FAMILIES.items():
        view = "crops, each coded as an image of its own" if family.crops else "one view"
        print(f"{name:<{width}}  {family.title}; tower {family.tower}; reads {view}")
    for name, why in REFUSED.items():
        print(f"{name:<{width}}  not: {why}")
    return 0


def _check() -> int:
    # Imported late: the table of classes needs no transformers.
    from trainables.mllms.check import Agreement, check_all, table

    measured: list[Agreement] = []

    def kept() -> Iterator[Agreement]:
        for one in check_all():
            measured.append(one)
            yield one

    for line in table(kept()):
        print(line, flush=True)
    wrong = [one.what for one in measured if one.fp32 is not None and not one.exact]
    if wrong:
        print(f"not exact: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())

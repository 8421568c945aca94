"""What `trainables.commands.complexity` counted: `complexity.json` beside the points."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import pandas as pd

from analysis.io.files import exists, join, read_bytes
from analysis.io.schema import AnalysisError

COMPLEXITY: Final = "complexity.json"
"""Its name beside the points, where the report finds it by itself."""


@dataclass(frozen=True)
class Costs:
    """What `trainables.commands.complexity` counted.

    Attributes:
        totals: columns `codec, variant, scenario, sender, receiver, own` (kMAC per pixel given to
            the codec; `own` is the receiver's without what every receiver of compressed images
            runs) and `own_parameters`; `variant` is empty where all variants cost the same.
        size: side of the image in pixels.
        teacher: the encoder.
    """

    totals: pd.DataFrame
    size: int
    teacher: str


def read_costs(path: str) -> Costs:
    """Read what `python -m trainables.commands.complexity SPACE --json FILE` wrote.

    Raises:
        AnalysisError: no such file, or not such a file; the message names it.
    """
    try:
        content = json.loads(read_bytes(path))
    except FileNotFoundError:
        raise AnalysisError(f"{path}: no such file") from None
    except ValueError:
        raise AnalysisError(f"{path}: not JSON") from None
    columns = ["codec", "variant", "scenario", "sender", "receiver", "own", "own_parameters"]
    try:
        totals = pd.DataFrame([{name: row[name] for name in columns} for row in content["totals"]])
        costs = Costs(totals, int(content["size"]), str(content["teacher"]))
        totals[columns[3:]].astype("float64")
    except (KeyError, TypeError, ValueError) as error:
        raise AnalysisError(
            f"{path}: not what `trainables.commands.complexity --json` writes ({error!r})"
        ) from None
    return costs


def find_costs(directory: str | None, path: str | None) -> Costs | None:
    """The costs of a file, or those beside the points, where they are there.

    Args:
        directory: where the points are; None where they are in no directory.
        path: the file, where one is named.

    Raises:
        AnalysisError: as `read_costs`.
    """
    if path is not None:
        return read_costs(path)
    beside = None if directory is None else join(directory, COMPLEXITY)
    return read_costs(beside) if beside is not None and exists(beside) else None

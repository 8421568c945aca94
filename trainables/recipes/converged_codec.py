"""Pack the base codecs that the sweep `demo-base-codecs` trained, as the package ships them.

    shipped:mbt2018-mean-scenes --sweep, until its loss stands still--> a codec per lambda --> here

Run `python -m orchestrator.sweep demo-base-codecs --storage STORAGE`, hours on two cores, then
`python -m trainables.recipes.converged_codec STORAGE --work DIR`. It writes DIR/NAME for each codec
that has ended: its weights in 8 bits, how it was trained and what it reaches in `accuracy.json`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from trainables.codecs import load_codec
from trainables.recipes.base_codec import RECIPES, finish
from trainables.recipes.common import begin, recipe_parser
from trainables.training.history import trainings_before

log = logging.getLogger("converged_codec")
START = "mbt2018-mean-scenes"
CONVERGED = {
    f"{START}-7e-6": 0.000007,
    f"{START}-2e-5": 0.00002,
    f"{START}-6e-5": 0.00006,
    f"{START}-1.8e-4": 0.00018,
}
"""Name of a shipped codec -> its lambda in `demo-base-codecs`."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack the codecs of a storage; see the module."""
    parser = recipe_parser(__doc__)
    parser.add_argument("storage", type=Path, help="directory that the sweep wrote to")
    options = begin(parser, arguments)
    stages = stages_by_lambda(options.storage)
    for name, lmbda in CONVERGED.items():
        if lmbda not in stages:
            log.warning("%s: no base codec of lambda %g in %s", name, lmbda, options.storage)
            continue
        codec = load_codec(RECIPES[START].spec, stages[lmbda])
        finish(codec, (lmbda,), trainings_before(stages[lmbda]), options.work / name)


def stages_by_lambda(storage: Path) -> dict[float, Path]:
    """Directories of the base codecs that a sweep trained until their loss stood still."""
    stages = {}
    for manifest in sorted(storage.glob("stages/codec/*/manifest.json")):
        spec = json.loads(manifest.read_text(encoding="utf-8"))["spec"]
        if spec["arch"] == RECIPES[START].spec.arch and spec["train"].get("until") == "plateau":
            stages[float(spec["lmbda"])] = manifest.parent
    return stages


if __name__ == "__main__":
    main()

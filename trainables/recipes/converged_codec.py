"""Pack the base codecs of a made world that a sweep trained, as the package ships them.

    shipped:mbt2018-mean-scenes --sweep, until its loss stands still--> a codec per lambda --> here

Run `python -m orchestrator.sweep demo-base-codecs --storage STORAGE`, hours on two cores, then
`python -m trainables.recipes.converged_codec WORLD STORAGE --work DIR`. It writes DIR/NAME for each
codec that has ended: its weights in 8 bits, how it was trained and what it reaches in
`accuracy.json`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.codecs import load_codec
from trainables.recipes.base_codec import RECIPES, finish
from trainables.recipes.common import begin, recipe_parser
from trainables.training.history import trainings_before

log = logging.getLogger("converged_codec")
START = "mbt2018-mean-scenes"
CONVERGED: Mapping[str, Mapping[str, float]] = {
    "scenes": {
        "mbt2018-mean-scenes-7e-6": 0.000007,
        "mbt2018-mean-scenes-2e-5": 0.00002,
        "mbt2018-mean-scenes-6e-5": 0.00006,
        "mbt2018-mean-scenes-1.8e-4": 0.00018,
    },
}
"""World -> name of a shipped codec -> the lambda that it was trained at."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack the codecs of a storage; see the module."""
    parser = recipe_parser(__doc__)
    parser.add_argument("world", choices=sorted(CONVERGED))
    parser.add_argument("storage", type=Path, help="directory that the sweep wrote to")
    options = begin(parser, arguments)
    stages = stages_by_lambda(options.storage, options.world)
    for name, lmbda in CONVERGED[options.world].items():
        if lmbda not in stages:
            log.warning("%s: no base codec of lambda %g in %s", name, lmbda, options.storage)
            continue
        stage, out = stages[lmbda], options.work / name
        codec = load_codec(RECIPES[START].spec, stage)
        finish(codec, (lmbda,), trainings_before(stage), options.world, out)


def stages_by_lambda(storage: Path, world: str) -> dict[float, Path]:
    """Directories of the base codecs that a sweep trained on a world until their loss stood
    still."""
    images = {
        path.parent.name
        for path in storage.glob("stages/train_images/*/manifest.json")
        if _manifest(path)["spec"]["kind"] == world
    }
    stages = {}
    for path in sorted(storage.glob("stages/codec/*/manifest.json")):
        manifest = _manifest(path)
        spec = manifest["spec"]
        if spec["arch"] != RECIPES[START].spec.arch or spec["train"].get("until") != "plateau":
            continue
        if images.intersection(manifest["inputs"]):
            stages[float(spec["lmbda"])] = path.parent
    return stages


def _manifest(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


if __name__ == "__main__":
    main()

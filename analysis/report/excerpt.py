"""Write a copy of a sweep that is small enough to share: `python -m analysis.report.excerpt`.

    points.parquet, samples.parquet   whole; without the ids of MLflow runs
    sweep.json                        without addresses of the tracking store and the logs
    examples/                         one test image, of the operating points of its panel
    complexity.json                   unchanged, where it exists

`analysis/example/`, which the notebooks read, was made with it.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow.parquet as pq

from analysis.curves.assemble import assemble
from analysis.io.complexity import COMPLEXITY
from analysis.io.files import exists, join, read_bytes, write_bytes
from analysis.io.frames import leaves
from analysis.io.read import POINTS, AnalysisError, Sweep, read_sweep
from analysis.io.schema import from_parquet, to_table
from analysis.io.sweep import MANIFEST, SAMPLES
from analysis.qualitative.examples import example_of
from analysis.qualitative.matched_rate import panels
from search_spaces.settings.secrets import print_error

_PATH: Final = re.compile(r"^(/|~|[A-Za-z]:[\\/])|://")


def write_excerpt(source: str, out: str) -> list[str]:
    """Write an excerpt of a sweep to a directory or fsspec URI.

    Args:
        source: a sweep's directory.
        out: where to; made if it is not there.

    Returns:
        The settings that still name a place outside, as `setting = value`.

    Raises:
        AnalysisError: see `read_sweep`; or `source` is no sweep's directory.
    """
    sweep = read_sweep(source)
    inside = sweep.directory
    if inside is None or not all(exists(join(inside, name)) for name in (POINTS, MANIFEST)):
        raise AnalysisError(f"{source}: not a sweep's directory with {POINTS} and {MANIFEST}")
    points = from_parquet(read_bytes(join(inside, POINTS)), source)
    buffer = io.BytesIO()
    pq.write_table(to_table(points.assign(run_id=None)), buffer)
    write_bytes(join(out, POINTS), buffer.getvalue())
    kept = _examples(sweep)
    whole = [name for name in (SAMPLES, COMPLEXITY) if exists(join(inside, name))]
    images = [
        image for examples in kept.values() for example in examples for image in example["images"]
    ]
    files = dict.fromkeys(image[part] for image in images for part in ("input", "decoded"))
    for name in (*whole, *filter(None, files)):
        write_bytes(join(out, name), read_bytes(join(inside, name)))
    manifest = _without_places(sweep.manifest, kept)
    write_bytes(join(out, MANIFEST), json.dumps(manifest, separators=(",", ":")).encode())
    return [
        f"{name} = {value}"
        for name, value in leaves(manifest)
        if isinstance(value, str) and _PATH.search(value)
    ]


def _examples(sweep: Sweep) -> dict[str, list[dict[str, Any]]]:
    """Point key -> its examples that are kept, without their drawn pages."""
    kept: dict[str, list[dict[str, Any]]] = {}
    for panel in panels(assemble(sweep, 2), 1):
        for point in panel.shown:
            entries = sweep.manifest["points"][point.key]["examples"]
            kept[point.key] = [
                {**e, "page": None} for e in entries if example_of(e).shared_key == panel.shared_key
            ]
    return kept


def _without_places(
    manifest: Mapping[str, Any], kept: Mapping[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """The manifest without addresses that exist only where the sweep ran."""
    points = {
        key: {**record, "run_id": None, "examples": kept.get(key, [])}
        for key, record in manifest["points"].items()
    }
    missing = [{**point, "log": ""} for point in manifest["missing"]]
    gone = {"tracking_uri": None, "parent_run_id": None}
    return {**manifest, **gone, "points": points, "missing": missing}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 for input that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report.excerpt",
        description="Make a sweep small enough to hand on.",
    )
    parser.add_argument("source", metavar="SWEEP", help="a sweep's directory")
    parser.add_argument("out", metavar="OUT", help="where to write")
    options = parser.parse_args(arguments)
    try:
        named = write_excerpt(options.source, options.out)
    except (AnalysisError, OSError) as error:
        print_error(str(error))
        return 2
    print(f"written to {options.out}")
    for line in named:
        print(f"names a place outside: {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A benchmark becomes what an evaluation reads: its images at one size, its samples, its classes.

    items --> images, decoded once --> place, PNG --> images_test.parquet
          --> boxes, which follow the image -------> tasks_test.parquet

A box that leaves the image (only where `fit` is crop) is cut off at its border; where less than
half of it is left, the sample is left out, and said to be in `benchmark.json`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from search_spaces import BenchmarkSpec
from trainables.datasets.benchmarks.read import Benchmark, read_benchmark
from trainables.datasets.images.convert import TEMPLATES
from trainables.datasets.images.decode import UnreadableImageError, decode_rgb, fit, pad, png_of
from trainables.datasets.images.files import open_root, write_json
from trainables.datasets.images.placement import Placement, area, clipped, cropped, padded
from trainables.datasets.images.schemas import IMAGES_SCHEMA, TASKS_SCHEMA

LEFT = 0.5
"""Share of a box that must be inside the image."""
_GROUP_ROWS = 64
_Sizes = dict[str, tuple[int, int]]


def write_benchmark(
    spec: BenchmarkSpec, size: int, max_unreadable: float, out: Path
) -> dict[str, Any]:
    """Write a benchmark to a directory, as the test half of a world.

    Args:
        size: side of the images in pixels.
        max_unreadable: share of unreadable images above which it fails; samples of others are left
            out.

    Returns:
        What became of it, as `benchmark.json` says it.

    Raises:
        SourceError: its files have changed and cannot be used any more.
        ValueError: too many images are unreadable, or no sample is left.
    """
    benchmark = read_benchmark(spec)
    out.mkdir(parents=True, exist_ok=True)
    sizes, unreadable = _write_images(spec, benchmark, size, out / "images_test.parquet")
    if len(unreadable) > max_unreadable * (len(sizes) + len(unreadable)):
        raise ValueError(
            f"{len(unreadable)} of {len(sizes) + len(unreadable)} images of {spec.label} are "
            f"unreadable, more than data.max_unreadable = {max_unreadable:g}: "
            f"{dict(list(unreadable.items())[:3])}"
        )
    rows, outside = [], []
    for item in benchmark.items:
        if unreadable.keys() & set(item.images):
            continue
        reference = dict(item.reference)
        if item.box is not None:
            original = sizes[item.images[0]]
            moved = _place(spec, original, size).box(item.box, original)
            inside = clipped(moved, size)
            if area(inside) < LEFT * area(moved):
                outside.append(item.sample_id)
                continue
            reference |= {"box": list(inside), "size": size}
        row = (item.sample_id, spec.task, list(item.images), item.prompt, json.dumps(reference))
        rows.append(dict(zip(TASKS_SCHEMA.names, row, strict=True)))
    if not rows:
        raise ValueError(f"no sample of {spec.label} is left")
    pq.write_table(pa.Table.from_pylist(rows, TASKS_SCHEMA), out / "tasks_test.parquet")
    if benchmark.classes:
        classes = {"names": benchmark.classes, "templates": TEMPLATES}
        write_json(out / "classes.json", classes)
    about = {
        "samples": len(rows),
        "images": len(sizes),
        "unreadable": unreadable,
        "boxes_outside": outside,
        "left_out": dict(benchmark.left_out),
    }
    write_json(out / "benchmark.json", about)
    return about


def _place(spec: BenchmarkSpec, original: tuple[int, int], size: int) -> Placement:
    return (padded if spec.fitted == "pad" else cropped)(original, size)


def _write_images(
    spec: BenchmarkSpec, benchmark: Benchmark, size: int, file: Path
) -> tuple[_Sizes, dict[str, str]]:
    """Write the images; the sizes of the originals, and why others could not be read."""
    sizes: _Sizes = {}
    unreadable: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    square = pad if spec.fitted == "pad" else fit
    with pq.ParquetWriter(file, IMAGES_SCHEMA, compression="none") as writer:
        for name, data in _originals(benchmark):
            try:
                image, _ = decode_rgb(data)
                png = png_of(square(image, size))
            except UnreadableImageError as error:
                unreadable[name] = str(error)
                continue
            sizes[name] = image.size
            placement = _place(spec, image.size, size)
            width, height = (min(side, size) for side in (placement.width, placement.height))
            row = {"image_id": name, "png": png, "width": width, "height": height}
            rows.append({**row, "classes": []})
            if len(rows) == _GROUP_ROWS:
                writer.write_table(pa.Table.from_pylist(rows, IMAGES_SCHEMA))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, IMAGES_SCHEMA))
    return sizes, unreadable


def _originals(benchmark: Benchmark) -> Iterator[tuple[str, bytes]]:
    """The images as they are kept, each once."""
    names = dict.fromkeys(name for item in benchmark.items for name in item.images)
    if benchmark.root is None:
        for name in names:
            try:
                yield name, base64.b64decode(benchmark.embedded[name])
            except binascii.Error:
                yield name, b""
        return
    fs, root = open_root(benchmark.root)
    for name in names:
        yield name, fs.cat_file(f"{root}/{name}")

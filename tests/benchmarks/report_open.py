"""How long a report of many operating points takes to write and to open in headless Chromium.

    python -m tests.benchmarks.report_open [--points 1000] [--repeats 5] [--keep DIR]

A simulated sweep: five codecs, five scenarios, four rates and as many seeds as it takes; five
metrics each. Its specs and provenance are as long as a real sweep's. Milliseconds from the start of
the navigation, of a page on the disk, medians of the repeats:
    first paint    the first content is seen (the page is complete without its script)
    loaded         everything in the page is parsed and shown
    interactive    every figure of the first screen and of the section scrolled to can be pointed at
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.io.read import read_sweep, write_points
from analysis.report.build import write_report
from tests.analysis.browser import MISSING, Browser
from tests.analysis.sweeps import make_sweep

CODECS = ("elic", "mbt2018-mean", "tic", "cheng2020-anchor", "bmshj2018-hyperprior")


def make_large(directory: Path, points: int, samples: int) -> Path:
    """A sweep of about so many operating points: copies of a simulated one with other seeds."""
    make_sweep(directory, n=samples, codecs=CODECS)
    sweep = read_sweep(str(directory))
    assert sweep.samples is not None
    manifest, rng = dict(sweep.manifest), np.random.default_rng(0)
    frames, answers, expected, points_made = [], [], [], {}
    per_seed = sweep.points["point_key"].nunique()
    settings = {f"setting_{i}": {"value": i, "unit": "steps", "of": "training"} for i in range(40)}
    for seed in range(-(-points // per_seed)):
        value = sweep.points["value"] + rng.normal(0, 0.003, len(sweep.points))
        error = 0.3 * (1.1 - value / max(value)) * np.exp(rng.normal(0, 0.1, len(value)))
        of_seed = sweep.points.assign(seed=seed, distill_pooled=error, distill_tokens=error**0.5)
        frames.append(
            of_seed.assign(point_key=of_seed["point_key"] + f"-{seed}", value=of_seed["value"])
        )
        keys = sweep.samples["point_key"].astype("str") + f"-{seed}"
        answers.append(sweep.samples.assign(point_key=keys))
        for point in manifest["expected"]:
            key = f"{point['point_key']}-{seed}"
            expected.append({**point, "point_key": key, "seed": seed})
            made = manifest["points"][point["point_key"]]
            points_made[key] = {**made, "spec": made["spec"] | {"train": settings}}
    manifest |= {"expected": expected, "points": points_made}
    write_points(pd.concat(frames).drop(columns="variant"), str(directory))
    pd.concat(answers).to_parquet(directory / "samples.parquet")
    (directory / "sweep.json").write_text(json.dumps(manifest), encoding="utf-8")
    return directory


def opened(page: Path) -> tuple[float, float, float]:
    """(first paint, loaded, interactive) of one opening in a new browser, in milliseconds."""
    with Browser() as browser:
        browser.show(page, 1200, 900)
        browser.until("performance.getEntriesByName('first-contentful-paint').length")
        paint, loaded = browser.run(
            "return [performance.getEntriesByName('first-contentful-paint')[0].startTime,"
            " performance.getEntriesByType('navigation')[0].loadEventEnd]"
        )
        start = time.perf_counter()
        browser.run("document.getElementById('figures').scrollIntoView()")
        in_view = (
            "[...document.querySelectorAll('figure[data-live]')].filter((one) => {"
            " const box = one.getBoundingClientRect();"
            " return box.top < innerHeight && box.bottom > 0; })"
        )
        browser.until(f"{in_view}.length && {in_view}.every((one) => one.querySelector('.plotly'))")
        lit = 1000 * (time.perf_counter() - start)
    return paint, loaded, lit


def main() -> None:
    """Write, open, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    if MISSING:
        raise SystemExit(MISSING)
    with tempfile.TemporaryDirectory() as scratch:
        directory = make_large(
            (options.keep or Path(scratch)) / "large", options.points, options.samples
        )
        start = time.perf_counter()
        page = Path(write_report(str(directory)).html)
        written = time.perf_counter() - start
        count = read_sweep(str(directory)).points["point_key"].nunique()
        print(
            f"{count} operating points: written in {written:.1f} s, {page.stat().st_size:,} bytes"
        )
        times = np.median([opened(page) for _ in range(options.repeats)], axis=0)
    for name, value in zip(
        ("first paint", "loaded", "figures after scrolling"), times, strict=True
    ):
        print(f"{name:<24}{value:>8.0f} ms")


if __name__ == "__main__":
    main()

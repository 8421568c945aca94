"""How long does a large sweep's comparison take, and how much memory?

    python -m tests.benchmarks.analysis_speed [--points 1000] [--samples 5000] [--resamples 2000]

Writes points and per-sample values of codecs with eight rates, five scenarios and four tasks each,
as the orchestrator stores them, reads them back, and compares every curve with its reconstruction.
Says seconds by the clock and seconds of work of all threads: on a busy machine they differ.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.curves.assemble import assemble
from analysis.io.read import read_sweep, write_points
from analysis.stats.compare import compare
from analysis.stats.savings import savings
from analysis.stats.significance import significance

SCENARIOS = ("reconstruction", "post_processing", "d1", "d2", "d3")
TASKS = ("captioning", "vqa", "rec", "fewshot")


def write(directory: Path, n_points: int, n: int) -> None:
    """A points file and its samples, a row group per operating point."""
    rng = np.random.default_rng(0)
    ease = {task: rng.uniform(size=n) for task in TASKS}
    ids = {task: [f"{task}-{i:06d}" for i in range(n)] for task in TASKS}
    rows = []
    writer = None
    directory.mkdir()
    for number in range(n_points // len(TASKS)):
        rate, rest = number % 8, number // 8
        scenario, codec = SCENARIOS[rest % 5], f"codec{rest // 5}"
        bits = 0.05 * 1.5**rate * np.exp(rng.normal(0, 0.3, n))
        frames = []
        for task in TASKS:
            p = 0.3 + 0.06 * rate + 0.03 * (rest % 5)
            value = (0.6 * ease[task] + 0.4 * rng.uniform(size=n) < p).astype(float)
            key = f"{number:016x}"
            kind = {"point_key": key, "mllm": "m", "task": task, "metric": "accuracy"}
            more = {"answer": "a sentence of some words", "prompt": "what is in the image?"}
            frames.append(
                pd.DataFrame({**kind, "sample_id": ids[task], "value": value, "bpp": bits, **more})
            )
            rows.append(
                {
                    **kind,
                    **{"codec": codec, "scenario": scenario, "lmbda": 0.001 * 2**rate, "seed": 0},
                    **{"value": value.mean(), "bpp": bits.mean(), "n_samples": n},
                }
            )
        table = pa.Table.from_pandas(pd.concat(frames), preserve_index=False)
        writer = writer or pq.ParquetWriter(directory / "samples.parquet", table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    empty = dict.fromkeys(("value_low", "value_high", "bpp_estimated", "psnr"), np.nan)
    about = {"sweep": "large", "dataset": "d", "split": "test", "run_id": None}
    write_points(pd.DataFrame(rows).assign(**empty, **about), str(directory))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--resamples", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "large", options.points, options.samples)
        start, worked = time.perf_counter(), time.process_time()

        def report(step: str) -> None:
            nonlocal start, worked
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            seconds, of_work = time.perf_counter() - start, time.process_time() - worked
            print(f"{step:12} {seconds:6.1f} s, {of_work:6.1f} s of work, {peak:.1f} GiB at most")
            start, worked = time.perf_counter(), time.process_time()

        report("(start)")
        sweep = read_sweep(folder)
        report("read")
        assembled = assemble(sweep, options.resamples)
        report("assemble")
        comparison = compare(sweep, assembled=assembled)
        report("compare")
        savings(assembled)
        report("savings")
        significance(assembled)
        report("significance")
        defined = comparison["bd_rate_low"].notna().sum()
        print(f"{len(comparison)} curves, {defined} of them with an interval of the BD-rate")


if __name__ == "__main__":
    main()

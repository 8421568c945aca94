"""Published benchmarks: their files become images and samples that an evaluation reads.

annotations --read--> items --images found by listing--> Benchmark --write--> the layout of a world

Imports no torch, so that a sweep can be planned without it.
"""

from trainables.datasets.benchmarks.read import Benchmark, read_benchmark
from trainables.datasets.benchmarks.write import write_benchmark

__all__ = ["Benchmark", "read_benchmark", "write_benchmark"]

"""Readers of what benchmark suites write: bytes in, plain scores out; no files, no sweeps."""

"""A thread that multiplies matrices while the process forks must not wait for ever."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, subprocess, sys, threading, time

from orchestrator.recording.recorder import compute_in_calling_thread

if sys.argv[1] == "limited":
    compute_in_calling_thread()
import numpy as np

weights, values, products = np.ones((2000, 27)), np.ones((27, 1)), [0]

def multiply():
    while True:
        weights @ values
        products[0] += 1

threading.Thread(target=multiply, daemon=True).start()
for _ in range(40):  # as Ray starts its processes
    subprocess.run([sys.executable, "-S", "-c", ""], preexec_fn=os.getpid, check=True)
before = products[0]
until = time.monotonic() + 30
while products[0] < before + 10 and time.monotonic() < until:
    time.sleep(0.05)
print(products[0] >= before + 10, flush=True)
os._exit(0)
"""


def test_a_product_of_matrices_ends_though_the_process_forks() -> None:
    command = [sys.executable, "-c", PROGRAM, "limited"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert run.stdout == "True\n"

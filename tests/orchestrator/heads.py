"""Heads of clusters that are started from the command line."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.orchestrator.waiting import wait_until

RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def head(**environment: str) -> Iterator[str]:
    """The address of a head that was started from the command line."""
    port, directory = free_port(), tempfile.mkdtemp(prefix="ray", dir="/tmp")
    command = [str(RAY), "start", "--head", "--block", f"--port={port}", "--num-cpus=1"]
    command += ["--include-dashboard=false", f"--temp-dir={directory}"]
    # A sweep in this process leaves its own token there.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    process = subprocess.Popen(
        command,
        env={**kept, "RAY_USAGE_STATS_ENABLED": "0", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: is_listening(port), 60, lambda: process.poll() is None)
        yield f"127.0.0.1:{port}"
    finally:
        end(process)
        shutil.rmtree(directory, ignore_errors=True)


def end(head_process: subprocess.Popen[bytes]) -> None:
    """End a head and what it has started; on a busy machine Ray takes its time for that."""
    if head_process.poll() is not None:
        return
    started = psutil.Process(head_process.pid).children(recursive=True)
    head_process.send_signal(signal.SIGTERM)
    try:
        head_process.wait(30)
    except subprocess.TimeoutExpired:
        head_process.kill()
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        head_process.wait()

"""A closed terminal stops a sweep as Ctrl-C does, unless the sweep was started to outlive it."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import signal, time
from orchestrator.stopping import stopped_by_signals
if not {ignores_hangups}:  # as the tests do which somebody has started with nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
try:
    with stopped_by_signals("the command"):
        print("ready", flush=True)
        time.sleep(20)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize(
    ("before", "number", "said"),
    [
        ((), signal.SIGHUP, "stopped\n"),
        ((), signal.SIGTERM, "stopped\n"),
        (("nohup",), signal.SIGHUP, ""),
        (("nohup",), signal.SIGTERM, "stopped\n"),
    ],
)
def test_a_signal_stops_a_sweep(before: tuple[str, ...], number: int, said: str) -> None:
    program = PROGRAM.format(ignores_hangups=bool(before))
    command = [*before, sys.executable, "-c", program]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as sweep:
        assert sweep.stdout is not None
        try:
            assert sweep.stdout.readline() == "ready\n"
            sweep.send_signal(number)
            if said:
                assert sweep.stdout.read() == said
                assert sweep.wait(5) == 0
            else:
                with pytest.raises(subprocess.TimeoutExpired):
                    sweep.wait(1)
        finally:
            sweep.kill()


SLOW = """
import time
from orchestrator.stopping import stopped_by_signals
try:
    with stopped_by_signals("the command"):
        try:
            print("ready", flush=True)
            time.sleep(20)
        finally:
            time.sleep(3)
except KeyboardInterrupt:
    print("stopped")
"""


def test_who_stops_a_sweep_is_told_at_once_that_it_will_end() -> None:
    command = [sys.executable, "-c", SLOW]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as sweep:
        assert sweep.stdout is not None
        assert sweep.stdout.readline() == "ready\n"
        sweep.send_signal(signal.SIGINT)
        assert sweep.stdout.read() == "\nstopping ...\nstopped\n"

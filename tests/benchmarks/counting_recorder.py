"""The recorder's process, which counts its calls and says at its end what it cost.

`thousand_points.py` lets the driver start this module in the place of the recorder's own. It writes
`recorder.json` into the directory that `instant_jobs.DIRECTORY` names in the environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

from mlflow import MlflowClient

from orchestrator.recording import recorder_child, report
from orchestrator.recording.point_log import PointLog
from orchestrator.recording.recorder import Recorder
from tests.benchmarks import instant_jobs
from tests.benchmarks.meter import Meter, count_calls, marked


def main() -> None:
    """Record, and write what it cost."""
    meter, calls = Meter(), Counter[str]()
    count_calls(MlflowClient, calls)
    instant_jobs.count_storage_calls()
    marked(meter, PointLog, "close", "close")
    marked(meter, report, "write_sweep", "files")
    marked(meter, Recorder, "report", "report")
    exit_recorder = Recorder.__exit__

    def exit_and_write(recorder: Recorder, *error: object) -> None:
        exit_recorder(recorder, *error)
        meter.mark("end")
        result = {
            "memory": meter.memory,
            "marks": meter.marks,
            "storage_calls": instant_jobs.storage_calls,
            "mlflow_calls": calls,
        }
        file = Path(os.environ[instant_jobs.DIRECTORY], instant_jobs.RECORDER)
        file.write_text(json.dumps(result), encoding="utf-8")

    Recorder.__exit__ = exit_and_write  # type: ignore[method-assign]
    meter.marks["begin"] = time.monotonic(), time.process_time()
    recorder_child.main(int(sys.argv[1]))


if __name__ == "__main__":
    main()

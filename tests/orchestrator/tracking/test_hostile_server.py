"""A tracking server whose answers are wrong costs the log, never the sweep."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.tracking.log_queue import LogQueue
from orchestrator.tracking.mlflow_runs import Tracker
from tests.orchestrator.tracking.trackers import identity

_EXPERIMENT = {"experiment": {"experiment_id": "1", "name": "x", "lifecycle_stage": "active"}}
ANSWERS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "a page": b"<!DOCTYPE html><html>" + b"x" * 100_000 + b"</html>",
    "not UTF-8": b"\xff\xfe",
    "a list": b"[1, 2]",
    "a number": b"3",
    "null": b"null",
    "deep": b"[" * 50_000,
    "an empty object": b"{}",
    "other fields": b'{"spam": 1}',
    "other types": json.dumps({"experiment": 3, "run": [], "runs": {}}).encode(),
    "no run": json.dumps({**_EXPERIMENT, "run": {}, "runs": [{}]}).encode(),
    "a run of other types": json.dumps(
        {**_EXPERIMENT, "run": {"info": 3, "data": "x"}, "runs": [{"info": []}]}
    ).encode(),
    "tags of other types": json.dumps(
        {**_EXPERIMENT, "run": {"info": {"run_id": "r"}, "data": {"tags": [{"key": {}}]}}}
    ).encode(),
}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    class Hostile(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(ANSWERS[request.param])))
            self.end_headers()
            self.wfile.write(ANSWERS[request.param])

        def do_POST(self) -> None:
            self.do_GET()

        def do_PATCH(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}"
        listener.shutdown()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("server", list(ANSWERS), indirect=True)
def test_whatever_the_server_answers_the_sweep_goes_on(server: str, tmp_path: Path) -> None:
    notes: list[str] = []
    queue = LogQueue(lambda: Tracker(server, None, identity()), notes.append)
    queue.put(lambda tracker: tracker.sweep_run.log_done(1, 2))
    queue.close()
    assert queue.error is None, "no fault of this program"
    assert all(len(note.splitlines()) == 1 and len(note) < 1000 for note in notes), notes

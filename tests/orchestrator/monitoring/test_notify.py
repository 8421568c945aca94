"""Notifications, to a real server and to commands of the shell."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator.monitoring import notify
from orchestrator.monitoring.notify import Notifier, check_notify, command_text, shown
from orchestrator.sweep import main
from tests.orchestrator.models import SMOKE

FACTS = {"event": "complete", "text": 'smoke: all "done"; $HOME', "points": 11, "left": None}


class Server(HTTPServer):
    """Keeps what is posted to it, and answers with a status."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.location = status, ""
        self.posted: list[tuple[str, str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, self.headers["Content-Type"], json.loads(body)))
        is_redirected = self.server.location and self.path != self.server.location
        self.send_response(self.server.status if is_redirected or not self.server.location else 200)
        if is_redirected:
            self.send_header("Location", self.server.location)
        self.end_headers()

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.posted.append((self.path, "GET", None))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(params=[200, 403])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_gets_json_and_its_refusal_is_a_line_without_the_secret(server: Server) -> None:
    lines: list[str] = []
    notifier = Notifier(f"http://127.0.0.1:{server.server_port}/T0/hunter2", lines.append)
    notifier.send(FACTS)
    notifier.close()
    assert server.posted == [("/T0/hunter2", "application/json", FACTS)]
    if server.status == 200:
        assert lines == []
    else:
        (line,) = lines
        assert "403" in line
        assert "hunter2" not in line


@pytest.mark.parametrize("server", [307, 308], indirect=True)
def test_a_redirect_that_keeps_the_post_is_followed(server: Server) -> None:
    server.location = "/elsewhere"
    notifier = Notifier(f"http://127.0.0.1:{server.server_port}/T0", pytest.fail)
    notifier.send(FACTS)
    notifier.close()
    assert server.posted == [
        ("/T0", "application/json", FACTS),
        ("/elsewhere", "application/json", FACTS),
    ]


@pytest.mark.parametrize("server", [301, 302, 303], indirect=True)
def test_a_redirect_that_would_lose_the_facts_is_a_line_and_a_warning(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.location = "/elsewhere/hunter3"
    lines: list[str] = []
    notifier = Notifier(f"http://127.0.0.1:{server.server_port}/T0/hunter2", lines.append)
    notifier.send(FACTS)
    notifier.close()
    assert [path for path, _, _ in server.posted] == ["/T0/hunter2"]
    (line,) = lines
    assert f"answers {server.status}, a redirect" in line
    assert "hunter" not in line
    assert [record.getMessage() for record in caplog.records] == lines


@pytest.mark.parametrize("server", [307], indirect=True)
def test_a_redirect_to_another_scheme_is_not_followed(server: Server) -> None:
    server.location = "ftp://127.0.0.1/x"
    lines: list[str] = []
    notifier = Notifier(f"http://127.0.0.1:{server.server_port}/T1", lines.append)
    notifier.send(FACTS)
    notifier.close()
    (line,) = lines
    assert "answers 307, a redirect" in line


def test_a_server_that_is_not_there_is_a_line_without_the_secret() -> None:
    lines: list[str] = []
    notifier = Notifier("http://127.0.0.1:9/hunter2?key=hunter3", lines.append)
    notifier.send(FACTS)
    notifier.close()
    (line,) = lines
    assert "hunter" not in line


def test_a_command_gets_the_facts_as_variables_that_the_shell_does_not_read(tmp_path: Path) -> None:
    lines: list[str] = []
    out = tmp_path / "out"
    notifier = Notifier(
        f'printf "%s|" "$BRIDGESWEEP_TEXT" "$BRIDGESWEEP_POINTS" > {out}', lines.append
    )
    notifier.send(FACTS)
    notifier.close()
    assert out.read_text() == f"{FACTS['text']}|11|"
    assert lines == []


@pytest.mark.parametrize(("command", "word"), [("exit 3", "3"), ("sleep 60; true", "1 s")])
def test_a_command_that_fails_or_hangs_is_a_line(
    command: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "TIMEOUT_S", 1.0)
    lines: list[str] = []
    notifier = Notifier(f"token=hunter2; {command}", lines.append)
    notifier.send(FACTS)
    notifier.close()
    (line,) = lines
    assert word in line
    assert "hunter2" not in line


def test_without_a_target_nothing_is_sent() -> None:
    notifier = Notifier(None, pytest.fail)
    notifier.send(FACTS)
    notifier.close()


@pytest.mark.parametrize(
    "target",
    [
        "https://hooks.example/T0/B0/x",
        "http://h:8080",
        "cat -s done me",
        "A=1 cat",
        "true && cat",
        "(cat)",
        "if true; then cat; fi",
    ],
)
def test_urls_and_commands_are_taken(target: str) -> None:
    assert check_notify(target) is None


@pytest.mark.parametrize(
    "target",
    [
        "htp://host/hunter2",
        "http:///hunter2",
        "http://[x/hunter2",
        "https://h:port/hunter2",
        "http://h/a b/hunter2",
        "",
        "  ",
        "echo 'hunter2",
        "nocommand-hunter2x --token hunter2",
        "***",
        "https://host/***",
    ],
)
def test_mistakes_are_found_and_hold_no_secret(target: str) -> None:
    mistake = check_notify(target)
    assert mistake is not None
    assert mistake.startswith("--notify ")
    assert "/hunter2" not in mistake
    assert "token hunter2" not in mistake


def test_a_mistake_ends_the_command_before_any_work_together_with_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMOKE, f"--storage={tmp_path}/new", "--only=scenario=d9", "--notify=ftp://h/hunter2"]
    assert main(words) == 2
    output = capsys.readouterr().err
    assert "--notify ftp://h/***" in output
    assert "scenario d9" in output
    assert "hunter2" not in output
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("form", ["--notify=X", "--notify X", "--noti=X"])
def test_the_command_to_repeat_shows_nothing_of_it(form: str) -> None:
    for target in ("https://hooks.example/T0/hunter2", "curl -H 'X: hunter2' h"):
        words = [word.replace("X", target) for word in form.split()]
        repeated = command_text(["smoke", *words], target)
        assert "hunter2" not in repeated
        assert "--not" in repeated
        assert shown(target) in repeated


def test_all_of_several_are_masked() -> None:
    words = ["smoke", "--notify", "curl hunter1", "--notif=https://h/hunter2", "--notify=x hunter3"]
    repeated = command_text(words, "x hunter3")
    assert "hunter" not in repeated
    assert repeated.count("--notif") == 3


def test_a_target_in_the_environment_is_the_default_and_stands_in_no_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BRIDGESWEEP_NOTIFY", "ftp://environment/hunter2")
    assert main([*SMOKE, f"--storage={tmp_path}/new"]) == 2
    assert "ftp://environment/***" in capsys.readouterr().err
    assert main([*SMOKE, f"--storage={tmp_path}/new", "--notify=ftp://given/hunter2"]) == 2
    assert "environment" not in capsys.readouterr().err
    monkeypatch.setenv("BRIDGESWEEP_NOTIFY", "")
    assert main([*SMOKE, "--plan", f"--storage={tmp_path}/new"]) == 0

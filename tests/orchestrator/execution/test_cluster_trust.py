"""A cluster that asks for no token is refused; one that does, and Ray started here, are used."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.execution import cluster
from orchestrator.execution.cluster import (
    NoClusterError,
    OpenClusterError,
    TokenRefusedError,
    _kept_private,
    cluster_to_join,
    demand_token,
    running,
)
from tests.orchestrator.heads import free_port, head

CURRENT_CLUSTERS = [
    ("", "this user", True),
    ("auto", "this user", True),
    ("local", "this user", False),
    ("10.0.0.9:6379", "", True),
    ("", "", False),
    ("auto", "", False),
    ("", "another user", False),
    ("auto", "another user", False),
    ("", "a link", False),
    ("", "a pipe", False),
]
"""RAY_ADDRESS, who wrote the file that `ray start` writes, whether its cluster is joined."""


def test_a_cluster_without_a_token_is_refused_in_one_line(
    command: Callable[..., list[str]], environment: dict[str, str], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    with head(RAY_AUTH_MODE="disabled") as address:
        with pytest.raises(OpenClusterError, match="--insecure"):
            demand_token(address)
        # A driver that would send a token is refused as well: the cluster takes any.
        mode = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        done = subprocess.run(
            command(tmp_path / "storage"),
            env={**environment, **mode},
            capture_output=True,
            text=True,
            timeout=300,
        )
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1
    assert "ray get-auth-token --generate" in lines[0]
    assert "RAY_ADDRESS=local" in lines[0], "it may be somebody else's"
    assert not (tmp_path / "storage" / "stages").exists()


def test_a_cluster_with_a_token_is_used(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    with head(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token)) as address:
        demand_token(address)


@pytest.mark.parametrize(
    ("environment", "advice"),
    [
        ({}, "export RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_MODE": "token"}, "copy ~/.ray/auth_token from its head"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "1" * 64}, "it is not the cluster's"),
    ],
)
def test_a_token_that_is_not_taken_is_said_at_once(
    environment: dict[str, str], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("it would try for long"))
    token = tmp_path / "token"
    token.write_text("0" * 64)
    with head(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token)) as address:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {**environment, "RAY_ADDRESS": address, "HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(TokenRefusedError, match=advice), running(verbose=False):
            pass


def test_a_cluster_that_cannot_be_asked_is_refused() -> None:
    with pytest.raises(NoClusterError, match="no Ray cluster answers at no-address"):
        demand_token("no-address")


TRIAL = """
import glob, os
from orchestrator.execution import cluster
with cluster.running(verbose=False):
    import ray
    from ray import tune
    tune.Tuner(lambda config: None).fit()
    session = ray._private.worker._global_node.get_session_dir_path()
print(session)
"""


def test_keys_of_the_storage_stand_in_no_log_of_ray(
    environment: dict[str, str], tmp_path: Path
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "id-of-a-test", "AWS_SECRET_ACCESS_KEY": "secret-of-a-test"}
    done = subprocess.run(
        [sys.executable, "-c", TRIAL],
        env={**environment, **keys, "HOME": os.environ["HOME"]},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    session = Path(done.stdout.split()[-1])
    logs = [file for file in (session / "logs").rglob("*") if file.is_file()]
    assert any("runtime_env" in file.name for file in logs)
    for file in logs:
        assert b"-of-a-test" not in file.read_bytes(), file


def test_an_open_cluster_is_sent_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("the token was sent"))
    with head(RAY_AUTH_MODE="disabled") as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(OpenClusterError), running(verbose=False):
            pass


@pytest.mark.parametrize(("named", "writes", "joins"), CURRENT_CLUSTERS)
def test_a_cluster_of_this_machine_is_joined_if_its_file_is_this_users(
    named: str, writes: str, joins: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_is_refused", lambda address: False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", named)
    (tmp_path / "ray").mkdir()
    file = tmp_path / "ray" / "ray_current_cluster"
    if writes == "a link":
        (tmp_path / "elsewhere").write_text("10.0.0.9:6379")
        file.symlink_to(tmp_path / "elsewhere")
    elif writes == "a pipe":
        os.mkfifo(file)
    elif writes:
        file.write_text("10.0.0.9:6379\n")
    if writes == "another user":
        if os.geteuid() != 0:
            pytest.skip("only root can make another user's file")
        os.chown(file, 54321, 54321)
    if joins:
        assert cluster_to_join() == "10.0.0.9:6379"
    elif named == "auto":
        with pytest.raises(NoClusterError, match="RAY_ADDRESS is auto"):
            cluster_to_join()
    else:
        assert cluster_to_join() is None


def note_cluster(address: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the file of `ray start`; returns it."""
    monkeypatch.setenv("RAY_TMPDIR", str(directory))
    file = directory / "ray" / "ray_current_cluster"
    file.parent.mkdir()
    file.write_text(f"{address}\n")
    return file


def test_a_sweep_starts_ray_where_the_noted_cluster_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"127.0.0.1:{free_port()}"
    file = note_cluster(address, tmp_path, monkeypatch)
    monkeypatch.delenv("RAY_ADDRESS")
    assert cluster_to_join() is None
    (line,) = caplog.messages
    assert f"the Ray cluster at {address} has ended, which {file} still names" in line
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert cluster_to_join() == address, "it was asked for"


@pytest.mark.parametrize(("named", "tells"), [("", True), ("auto", True), ("10.0.0.9:6379", False)])
def test_an_address_that_ray_has_noted_is_said_to_be_its(
    named: str, tells: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(address: str, **environment: str) -> bool:
        raise NoClusterError(f"no Ray cluster answers at {address}")

    note_cluster("10.0.0.9:6379", tmp_path, monkeypatch)
    monkeypatch.setenv("RAY_ADDRESS", named)
    monkeypatch.setattr(cluster, "_is_refused", lambda address: False)
    monkeypatch.setattr(cluster, "gives_its_identity", away)
    with pytest.raises(NoClusterError) as error, running(verbose=False):
        pass
    assert ("`ray stop` here removes it, and RAY_ADDRESS=local" in str(error.value)) is tells


OPEN_HERE = """
from orchestrator.execution import cluster
try:
    with cluster.running(verbose=False):
        pass
except cluster.OpenClusterError as error:
    print(error)
"""


def test_ray_that_is_started_here_without_a_token_is_refused_with_its_own_remedy(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPEN_HERE],
        env={**environment, "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "RAY_AUTH_MODE is disabled; unset it, or set it to token" in done.stdout, done.stderr
    assert "~/.ray/auth_token" not in done.stdout


PRIVACY = """
import json, os, signal
from orchestrator.execution import cluster
mine = lambda number, frame: None
signal.signal(signal.SIGTERM, mine)
with cluster.running(verbose=False):
    import ray
    session = ray._private.worker._global_node.get_session_dir_path()
    print(json.dumps([session, signal.getsignal(signal.SIGTERM) is mine]))
with cluster.running(verbose=False):
    print(ray.get(ray.remote(lambda: os.getpid()).remote()) != os.getpid())
"""


STOPPED_LATE = """
import os, signal, sys
from orchestrator.execution import cluster
def stop(number, frame):
    print("heard")
signal.signal(signal.SIGTERM, stop)
cluster.set_environment()
from ray._private.node import Node
end = Node.kill_all_processes
def end_late(node, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    end(node, **options)
Node.kill_all_processes = end_late
with cluster.running(verbose=False):
    pass
print("ended")
"""


def test_a_signal_while_ray_ends_its_processes_is_heard(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as temporary:
        done = subprocess.run(
            [sys.executable, "-c", STOPPED_LATE],
            env={**environment, "HOME": str(tmp_path), "RAY_TMPDIR": temporary},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert (done.returncode, done.stdout.split()) == (0, ["heard", "ended"]), done.stderr


def private_ray(environment: dict[str, str], home: Path, temporary: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PRIVACY],
        env={**environment, "HOME": str(home), "RAY_TMPDIR": temporary},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_nobody_else_reads_or_writes_where_ray_is_started_here(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as temporary:
        first, second = private_ray(environment, tmp_path, temporary)
        session, keeps_handler = json.loads(first)
        place = Path(session).parents[1]
        assert place.parent == Path(temporary)
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert keeps_handler
    assert second == "True", "Ray starts again in the same process"
    assert not (tmp_path / ".ray").exists(), "Ray would write its token there, readable by others"


def test_a_directory_that_another_user_has_put_in_rays_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"ray-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NoClusterError, match="RAY_TMPDIR names the place"):
        _kept_private()


LISTED = """
import sys
from pathlib import Path
from orchestrator.sweep import main
from orchestrator.execution import cluster
cluster.set_environment()
import ray
start = ray.init
def listed(**options):
    start(**options)
    for job in ray._private.state.jobs():
        print("LISTED", job["Entrypoint"], file=sys.__stdout__)
    print("SHOWN", Path("/proc/self/cmdline").read_text(), file=sys.__stdout__)
    raise RuntimeError("enough")
ray.init = listed
sys.exit(main(sys.argv[1:]))
"""


def test_a_cluster_does_not_list_what_is_secret_in_a_command_line(
    command: Callable[..., list[str]], environment: dict[str, str], tmp_path: Path
) -> None:
    _, _, _, *words = command(tmp_path / "storage", "--insecure")
    secrets = ["--notify", "curl https://hooks.example/hunter2"]
    secrets += ["--tracking-uri", "http://me:hunter3@127.0.0.1:9"]
    done = subprocess.run(
        [sys.executable, "-c", LISTED, *words, *secrets],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (listed,) = (line for line in done.stdout.splitlines() if line.startswith("LISTED"))
    assert "orchestrator.sweep smoke" in listed
    assert "--notify '***'" in listed
    assert "SHOWN python -m orchestrator.sweep smoke" in done.stdout
    assert "hunter" not in done.stdout + done.stderr

"""Starting or joining Ray quietly; the size of its cluster, and which of its nodes are alive."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from orchestrator.execution.environment import line_of
from orchestrator.plan.resources import LANE_SHARE, shortages_of
from orchestrator.plan.room import Cluster, Group
from search_spaces.specs.evaluation import WorkerResources

log = logging.getLogger(__name__)

MOST_BUNDLES = 1000
"""Processes that an autoscaler is asked for at most."""
CONNECT_S = 5.0
FOUND_HERE = ("", "auto")
"""Values of RAY_ADDRESS that mean the cluster that `ray start` has noted on this machine."""
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TOKEN_REFUSED = 3
_ASK = f"""
import os, sys
from ray._raylet import AuthenticationTokenLoader, GcsClient
from ray.exceptions import AuthenticationError
try:
    if os.environ.get("RAY_AUTH_MODE") == "token":
        # Without one, the client would end the process with a stack of C++.
        AuthenticationTokenLoader.instance().has_token()
    GcsClient(address=sys.argv[1])
except AuthenticationError:
    sys.exit({_TOKEN_REFUSED})
"""
"""A program that asks a cluster for its identity; in a process of its own, as Ray reads only once
whether to send a token."""
_SETTINGS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    # A thread that outlives the sweep's Ray must not start another one.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Train's controller looks at its workers this often; at the default of 2 s every report waits.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Workers may have to wait for another sweep's points, or for a new node.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1800",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Nobody restores an experiment; a snapshot lists all trials, and each lasts longer.
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    # Ctrl-C must reach this program, not a handler that saves an experiment nobody restores.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A waiting trial's thread must end before its process gets a job; on a busy machine that lasts.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",
    # The schedule starts no more trials than have room, on a cluster that may grow.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "600",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
_QUIET = {"TRANSFORMERS_VERBOSITY": "error", "RAY_DATA_LOG_LEVEL": "ERROR"}


class OpenClusterError(RuntimeError):
    """Whoever reaches the cluster can run programs on it."""


class TokenRefusedError(RuntimeError):
    """The cluster does not take the token of this process."""


class NoClusterError(RuntimeError):
    """Ray did not start here, or the cluster that was named does not answer."""


class Node(TypedDict):
    """What Ray lists of a node, as far as it is used."""

    NodeID: str
    NodeManagerHostname: str
    NodeManagerAddress: str
    NodeManagerPort: int
    Alive: bool
    Resources: dict[str, float]


def set_environment(verbose: bool = True) -> None:
    """Set what Ray and the libraries read from the environment, in this process.

    Every process sets it for itself: passed on by Ray's runtime environment, it would make Ray
    throw away the worker processes that it starts ahead of time.
    """
    for name, value in {**_SETTINGS, **({} if verbose else _QUIET)}.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def running(verbose: bool, insecure: bool = False, command: str = "") -> Iterator[str | None]:
    """Start Ray here, or join the cluster that RAY_ADDRESS (or `ray job submit`) names; leave it.

    A cluster that was started here ends, with all its processes, when the context does. A cluster
    is asked whether it demands a token before it is sent one.

    Args:
        verbose: show what Ray logs.
        insecure: go on although the cluster asks for no token.
        command: that Ray may show of this process, without secrets; empty for its command line.

    Yields:
        The address of the head, HOST:PORT; None of a cluster that was started here.

    Raises:
        NoClusterError: Ray did not start in its time, or the cluster does not answer.
        OpenClusterError: the cluster, or the Ray that was started here, asks for no token.
        TokenRefusedError: it does not take the one of this process.
    """
    set_environment(verbose)
    import ray  # reads its environment when it is imported

    address = cluster_to_join()
    private = {}
    if address is None:
        private = _kept_private()
    else:
        with _origin_told():
            if not insecure:
                demand_token(address)
            _offer_token(address)
    if command:
        _show_as(command)
    hear = _start(address, verbose, private)
    _keep_secrets_out_of_logs()
    if not verbose:
        for name in ("ray.tune", "ray.data", "ray.train"):
            logging.getLogger(name).setLevel(logging.ERROR)
    try:
        hear()
        if address is None and not insecure:
            _demand_token_here(ray.get_runtime_context().gcs_address)
        yield address
    finally:
        # Garbage with references into Ray that another thread collects while Ray ends would end
        # this process.
        gc.collect()
        with _signals_kept() as keep, _called_before_processes_end(keep):
            ray.shutdown()


def _start(address: str | None, verbose: bool, private: Mapping[str, Any]) -> Callable[[], None]:
    """Start Ray, or join a cluster.

    Returns:
        As `_signals_held` yields.

    Raises:
        NoClusterError: as of `running`.
    """
    import ray

    with _signals_held() as hear:
        try:
            ray.init(
                address=address or "local",
                include_dashboard=False,
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
                **private,
            )
        except Exception as error:  # Ray raises its plainest ones
            hear()
            where = "on this machine" if address is None else f"at {address}"
            raise NoClusterError(f"Ray {where}: {line_of(error)}") from error
    return hear


def joined(address: str) -> str:
    """A line about a cluster that was joined; nobody may have meant one that was found here.

    Args:
        address: of its head.
    """
    count = len(alive_nodes())
    text = f"joined the Ray cluster at {address} ({count} {'node' if count == 1 else 'nodes'})"
    if os.environ.get("RAY_ADDRESS"):
        return text
    return f"{text}, which runs on this machine; RAY_ADDRESS=local starts Ray for a sweep alone"


@contextlib.contextmanager
def _origin_told() -> Iterator[None]:
    """Say where an address comes from that the user may never have seen, if nobody answers there.

    Raises:
        NoClusterError: as the context does.
    """
    try:
        yield
    except NoClusterError as error:
        if os.environ.get("RAY_ADDRESS", "") not in FOUND_HERE:
            raise
        raise NoClusterError(
            f"{error}; `ray start` has noted this address on this machine: `ray stop` here removes "
            "it, and RAY_ADDRESS=local starts Ray for a sweep alone"
        ) from error


def cluster_to_join() -> str | None:
    """The head, HOST:PORT, that RAY_ADDRESS names, or else `ray start` on this machine; or None.

    Of a cluster that was killed, the file of `ray start` is still there: None, with a line.

    Raises:
        NoClusterError: RAY_ADDRESS is `auto`, and there is none.
    """
    from ray._common.utils import get_ray_address_file

    named = os.environ.get("RAY_ADDRESS", "")
    if named not in FOUND_HERE:
        return None if named == "local" else named
    file = Path(get_ray_address_file(None))
    address = (trusted_bytes(file) or b"").decode(errors="replace").strip() or None
    if address is None and named == "auto":
        raise NoClusterError(
            f"RAY_ADDRESS is auto, and {file} names no cluster that you or root have started here"
        )
    if address is not None and not named and _is_refused(address):
        log.warning(
            "the Ray cluster at %s has ended, which %s still names (`ray stop` removes it): Ray "
            "starts here, for this sweep alone",
            *(address, file),
        )
        return None
    return address


def _is_refused(address: str) -> bool:
    """Whether nothing listens at an address, HOST:PORT, of a machine that answers."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S):
            return False
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):  # who asks for its token will say more
        return False


def trusted_bytes(file: Path) -> bytes | None:
    """The content of a file that this user or root wrote; None if others did, or there is none.

    For files in Ray's directory, which everybody on the machine may be able to write.
    """
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(opened, "rb") as reader:
        about = os.fstat(opened)
        if stat.S_ISREG(about.st_mode) and about.st_uid in (os.geteuid(), 0):
            return reader.read()
    log.warning("%s is not used: another user wrote it", file)
    return None


def _kept_private() -> dict[str, Any]:
    """Keep others on this machine out of a Ray that is started here.

    Ray would let everybody write into its directory, and read a token that it made.

    Returns:
        Further options of `ray.init`.

    Raises:
        NoClusterError: the directory is another user's.
    """
    from ray._common.utils import get_default_ray_temp_dir

    shared: str = get_default_ray_temp_dir()  # type: ignore[no-untyped-call]
    directory = Path(f"{shared}-{os.geteuid()}")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = directory.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
        raise NoClusterError(
            f"Ray's directory {directory} is another user's; RAY_TMPDIR names the place for one"
        )
    directory.chmod(0o700)
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return {"_temp_dir": str(directory / "ray")}  # Ray lets everybody write into that one


@contextlib.contextmanager
def _signals_kept() -> Iterator[Callable[[], None]]:
    """Give the signals that stop a sweep back to it.

    `ray.init` takes them to end the process, and `ray.shutdown` leaves them to the system's way.

    Yields:
        A function that gives them back before the context ends.
    """
    handlers = {number: signal.getsignal(number) for number in _STOP_SIGNALS}

    def keep() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    try:
        yield keep
    finally:
        keep()


@contextlib.contextmanager
def _signals_held() -> Iterator[Callable[[], None]]:
    """Keep the signals that stop a sweep until Ray has started.

    An exception amid that could end the process in one of Ray's own threads, or be swallowed.

    Yields:
        A function that lets the first of them stop the sweep.
    """
    heard: list[int] = []
    handlers = {
        int(number): handler
        for number in _STOP_SIGNALS
        if callable(handler := signal.getsignal(number))
    }

    def hear() -> None:
        for number in heard[:1]:
            handlers[number](number, None)

    with _signals_kept():
        for number in handlers:
            signal.signal(number, lambda number, frame: heard.append(number))
        yield hear


@contextlib.contextmanager
def _called_before_processes_end(call: Callable[[], None]) -> Iterator[None]:
    """Call a function in `ray.shutdown`, between the end of Ray's library and of its processes.

    The processes take seconds, in which a signal that is left to the system would end this process
    with no line.
    """
    from ray._private.node import Node

    end = Node.kill_all_processes

    def call_and_end(node: Node, **options: bool) -> None:
        call()
        end(node, **options)

    Node.kill_all_processes = call_and_end  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Node.kill_all_processes = end  # type: ignore[method-assign]


def _show_as(command: str) -> None:
    """Let Ray show a command in the place of this process's command line, which may hold secrets.

    Whoever has the cluster's token can list the command lines of drivers; and a node whose memory
    is short writes those of its largest processes, as the system shows them, into its logs.
    """
    import ray._private.utils

    ray._raylet.setproctitle(command)  # type: ignore[attr-defined]
    ray._private.utils.get_entrypoint_name = lambda: command


def _keep_secrets_out_of_logs() -> None:
    """Let Tune pass no AWS keys on: Ray would write them into a log that every user can read.

    Each node has its keys, which its other processes need as well.
    """
    from ray.tune.execution import class_cache

    names = [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(names)


def demand_token(address: str) -> None:
    """Make sure that a cluster answers nobody without its token.

    Whether this process sends a token says nothing: a cluster without one takes any. Ray's head
    listens on all addresses of its machine, also where it was told to be 127.0.0.1.

    Args:
        address: of the head, HOST:PORT.

    Raises:
        NoClusterError: it could not be asked.
        OpenClusterError: it does.
    """
    if gives_its_identity(address, RAY_AUTH_MODE="disabled"):
        raise OpenClusterError(
            f"the Ray cluster at {address} asks for no token, so whoever reaches it can run "
            "programs on it: make one with `ray get-auth-token --generate`, copy ~/.ray/auth_token "
            "to every machine, `export RAY_AUTH_MODE=token` and start Ray again; or use "
            "--insecure; or, if it is not yours, `export RAY_ADDRESS=local` to start Ray here"
        )


def _demand_token_here(address: str) -> None:
    """Make sure that the Ray that was started here answers nobody without its token.

    Raises:
        NoClusterError: it could not be asked.
        OpenClusterError: it does.
    """
    if gives_its_identity(address, RAY_AUTH_MODE="disabled"):
        mode = os.environ.get("RAY_AUTH_MODE")
        raise OpenClusterError(
            "Ray would start here without a token, so whoever reaches this machine could run "
            f"programs on it: RAY_AUTH_MODE is {mode or 'not set'}; unset it, or set it to token; "
            "or use --insecure"
        )


def _offer_token(address: str) -> None:
    """Make sure that a cluster that demands a token takes the one of this process.

    `ray.init` would try for half a minute, and not say that it is the token.

    Raises:
        NoClusterError: it could not be asked.
        TokenRefusedError: it does not take it.
    """
    if gives_its_identity(address):
        return
    cause = (
        "it is not the cluster's, or there is none: copy ~/.ray/auth_token from its head, or name "
        "a file with its token in RAY_AUTH_TOKEN_PATH"
        if os.environ.get("RAY_AUTH_MODE") == "token"
        else "none is sent: `export RAY_AUTH_MODE=token`"
    )
    raise TokenRefusedError(
        f"the Ray cluster at {address} does not take the token of this process; {cause}"
    )


def gives_its_identity(address: str, **environment: str) -> bool:
    """Whether a cluster answers a process with such an environment; False: it wants a token.

    Raises:
        NoClusterError: it does not answer.
    """
    done = subprocess.run(
        [sys.executable, "-c", _ASK, address],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, _TOKEN_REFUSED):
        reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        raise NoClusterError(f"no Ray cluster answers at {address} ({reason})")
    return done.returncode == 0


def nodes(without: Collection[str] = ()) -> Cluster:
    """The nodes that are alive.

    Args:
        without: ids of nodes that are left out.
    """
    return Cluster.of(n["Resources"] for n in alive_nodes() if n["NodeID"] not in without)


def shortages(asks: Mapping[WorkerResources, Sequence[str]]) -> list[str]:
    """Why some jobs can never run on the cluster, a line for each different ask."""
    return [] if can_grow() else shortages_of(asks, nodes())


def ask_autoscaler(groups: Iterable[Group]) -> None:
    """Ask for room for so many processes, those that run included.

    An autoscaler sees nothing of jobs that wait for a lane.
    """
    if not can_grow():
        return
    from ray.autoscaler.sdk import request_resources

    bundles = [ask.ray_resources(LANE_SHARE) for ask, count in groups for _ in range(count)]
    request_resources(bundles=bundles[:MOST_BUNDLES])


def node_ids() -> frozenset[str]:
    """The ids of the nodes that are alive."""
    return frozenset(node["NodeID"] for node in alive_nodes())


def is_one_unreachable(nodes: Iterable[str]) -> bool:
    """Whether one of some nodes takes no connection, although Ray may not know yet that it is dead.

    Args:
        nodes: ids.
    """
    listed = [node for node in alive_nodes() if node["NodeID"] in set(nodes)]
    return any(not _takes_connections(node) for node in listed)


def _takes_connections(node: Node) -> bool:
    place = node["NodeManagerAddress"], node["NodeManagerPort"]
    try:
        with socket.create_connection(place, CONNECT_S):
            return True
    except OSError:
        return False


def node_of_actor(actor_id: str) -> str | None:
    """The id of the node that an actor stands or stood on; None if that is not known."""
    from ray._private.state import actors  # `ray.util.state` needs a dashboard

    address: dict[str, str] = actors(actor_id).get("Address", {})
    return address.get("NodeID") or None


def alive_nodes() -> list[Node]:
    """The nodes that are alive."""
    import ray  # after `running`, which sets the environment

    listed: list[Node] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in listed if node["Alive"]]


def can_grow() -> bool:
    """Whether an autoscaler may add nodes (Ray's cluster launcher, or KubeRay)."""
    if Path("~/ray_bootstrap_config.yaml").expanduser().exists():
        return True
    # KubeRay stops a head's own monitor where its autoscaler stands in the monitor's place; of a
    # worker, the command does not tell.
    start = os.environ.get("KUBERAY_GEN_RAY_START_CMD")
    return start is not None and ("--head" not in start or "--no-monitor" in start)

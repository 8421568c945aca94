"""Run a space: `python -m orchestrator.sweep [SPACE]`.

Trains and evaluates every operating point on Ray, keeps each in MLflow, and writes the points
file, the plots and the report. Running the same command again continues where it stopped.
Exit codes: 0 every point is there, 1 some are missing, 2 bad input, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from orchestrator.validation.inputs import InputError, read_input
from search_spaces import named_spaces

OK, MISSING, BAD_INPUT, STOPPED = 0, 1, 2, 130
STOP_AGAIN_S = 10.0
DEFAULT_STORAGE = "./bridgesweep-results"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    began = time.monotonic()
    arguments = _parser().parse_args(argv)
    if arguments.list:
        width = max(map(len, named_spaces()))
        for name, description in named_spaces().items():
            print(f"{name:<{width}} {description}")
        return OK
    try:
        space, points, store = read_input(
            arguments.space,
            arguments.set,
            arguments.only,
            arguments.name,
            arguments.storage,
            arguments.tracking_uri,
            touch=not arguments.plan,
        )
    except InputError as error:
        return _bad(str(error))
    name = arguments.name or space.name
    if arguments.plan:
        from orchestrator.driver.plan_text import overview

        print(overview(space, points, store, name))
        return OK

    from orchestrator.driver.jobs_on_ray import ClusterTooSmallError
    from orchestrator.driver.request import Request
    from orchestrator.driver.run import run
    from orchestrator.storage.lock import SweepHeldError

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _interrupt)
    request = Request(
        space, points, store, name, arguments.tracking_uri, arguments.verbose, began, _command(argv)
    )
    try:
        complete = run(request)
        if complete and space.search is not None:
            from orchestrator.search import search

            complete = search(request)
        return OK if complete else MISSING
    except (SweepHeldError, ClusterTooSmallError) as error:
        return _bad(str(error))
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(f"\nstopped; the same command continues:\n  {_command(argv)}", flush=True)
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.sweep",
        description="Sweep a space on Ray: from images to rate-accuracy curves. "
        "Run the same command again to continue a sweep that was stopped.",
        epilog="Exit codes: 0 every point is there, 1 some are missing, 2 bad input.",
    )
    parser.add_argument(
        "space", nargs="?", default="demo", help="named space or YAML file (default: demo)"
    )
    parser.add_argument("--list", action="store_true", help="name the spaces and exit")
    parser.add_argument(
        "--storage",
        default=DEFAULT_STORAGE,
        metavar="DIR|URI",
        help=f"directory or fsspec URI for everything that is made (default: {DEFAULT_STORAGE})",
    )
    parser.add_argument("--name", help="the sweep's name (default: the space's)")
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow tracking server (default: SQLite in the storage)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="change a setting of the space (repeatable), e.g. --set d1.steps=500",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="FIELD=VALUE[,VALUE]",
        help="only these operating points (repeatable); fields: codec, lmbda, scenario, seed, "
        "variant",
    )
    parser.add_argument(
        "--plan", action="store_true", help="say what would be done, start and touch nothing"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="also show what Ray and Tune say"
    )
    return parser


def _command(argv: Sequence[str] | None) -> str:
    import shlex

    given = sys.argv[1:] if argv is None else argv
    return shlex.join(["python", "-m", "orchestrator.sweep", *_without_secrets(given)])


def _without_secrets(argv: Sequence[str]) -> list[str]:
    from orchestrator.validation.inputs import safe_uri

    return [safe_uri(word) if "://" in word else word for word in argv]


def _bad(message: str) -> int:
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    return BAD_INPUT


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stop; again after a while, as a callback that happens to run may swallow the exception."""
    signal.setitimer(signal.ITIMER_REAL, STOP_AGAIN_S)
    raise KeyboardInterrupt


if __name__ == "__main__":
    code = main()
    if code == STOPPED:
        # Ray's library, interrupted while it starts, may crash in its destructors: a Ctrl-C would
        # then look like a fault. Its processes end with this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)

"""What the commands of all packages have in common: the packages they need, and how they end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import NoReturn

from search_spaces.settings.secrets import print_error

BROKEN_PIPE, BAD_INPUT, STOPPED = 1, 2, 130


class MissingExtraError(ImportError):
    """An extra is not installed; the message says in one line how to install it."""


def require(extra: str, *packages: str) -> None:
    """Make sure that packages of an extra are installed; none is imported.

    A command (`python -m ...`) ends with the message and exit code 2.

    Args:
        extra: of this distribution.
        packages: names to import.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if not missing:
        return
    verb = "is" if len(missing) == 1 else "are"
    message = f'{", ".join(missing)} {verb} not installed: pip install "bridgesweep[{extra}]"'
    if sys.argv[:1] == ["-m"]:  # Python looks for the module of a command
        print_error(message)
        sys.exit(BAD_INPUT)
    raise MissingExtraError(message)


def run_command(main: Callable[[], int]) -> NoReturn:
    """Run a command, and end the process with its exit code."""
    try:
        code = main()
        sys.stdout.flush()
    except MissingExtraError as error:
        print_error(str(error))
        code = BAD_INPUT
    except BrokenPipeError:  # who reads it, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    if code == STOPPED:
        # Interrupted while it starts, Ray's library may crash in its destructors: a Ctrl-C would
        # then look like a fault. Its processes end with this process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)

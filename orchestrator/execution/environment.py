"""Failures of the surroundings, which every other job would meet as well.

A full disk, a model that is not there, a refused token, a hub that does not answer, a package that
is not installed: the words for it name no job, so that two jobs' failures can be compared. A
training that diverged or an error in one scenario is nothing of that kind.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import Final

from search_spaces.settings.secrets import without_secrets

FULL_DISK: Final = "the disk is full, or a quota is used up"
"""The only failure that jobs of every kind would meet."""
LINE: Final = 300
"""Letters of a failure's line at most."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_LOST_PEERS: Final = (BrokenPipeError, ConnectionAbortedError, ConnectionResetError)
_CLIENTS: Final = (
    *("aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "httpcore", "httpx"),
    *("huggingface_hub", "requests", "urllib3"),
)
"""Packages that speak with a storage or a hub; many of their errors are no OSError."""
_VOLATILE: Final = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}([.-][0-9a-f]+)*\b", re.I)
"""Addresses, keys, and what follows them in the names of temporary files."""


class StorageAwayError(RuntimeError):
    """A storage that a command needs cannot be used; the message has one line and no secret."""


@contextlib.contextmanager
def storage_answers(uri: str) -> Iterator[None]:
    """Tell the errors of a storage from those of this program, while nothing else is asked.

    Args:
        uri: of the storage.

    Raises:
        StorageAwayError: the storage, or the client that speaks with it, raised an error.
    """
    try:
        yield
    except Exception as error:
        if not (isinstance(error, OSError) or is_of_client(error)):
            raise
        text = f"--storage {uri}: cannot be used ({line_of(error)})"
        raise StorageAwayError(without_secrets(text)) from error


def environment_in(error: BaseException) -> str | None:
    """What failed around a job, in words without any job; None if it is the job's own failure."""
    if is_disk_full(error):
        return FULL_DISK
    if isinstance(error, _LOST_PEERS):
        return None
    if not (isinstance(error, OSError | ImportError) or is_of_client(error)):
        return None
    line = line_of(error)
    # The path of a missing file tells whether it is the job's own.
    return line if isinstance(error, FileNotFoundError) else _VOLATILE.sub("*", line)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or the one that led to it, comes from a full disk or a quota."""
    return any(
        (isinstance(link, OSError) and link.errno in _FULL)
        # Of a directory that was copied in part; it has no number, only its files' lines.
        or (isinstance(link, shutil.Error) and any(f"[Errno {n}]" in str(link) for n in _FULL))
        or (type(link).__name__ == "OperationalError" and "disk is full" in str(link))  # SQLite
        or (type(link).__name__ == "SafetensorError" and _is_full(str(link)))
        for link in _chain(error)
    )


def _is_full(rust_message: str) -> bool:
    return any(f"(os error {number})" in rust_message for number in _FULL)


def is_of_client(error: BaseException) -> bool:
    """Whether an error comes from a package that speaks with a storage or a hub."""
    return type(error).__module__.partition(".")[0] in _CLIENTS


def line_of(error: BaseException) -> str:
    """An error as one line."""
    text = textwrap.shorten(str(error), LINE, placeholder=" ...")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__

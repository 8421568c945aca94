"""Checks the URIs of a command: of its storage, which must create files safely, and of MLflow."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import fsspec

from orchestrator.storage.references import RESERVED
from orchestrator.storage.store import Store
from search_spaces.settings.secrets import NO_SECRET, has_secret, without_secrets

_JOB_DIRECTORY = "runtime_resources/working_dir_files"
LONGEST_RUN_NAME = 250
STORAGES = "a directory, s3:// (AWS, recent MinIO), gs:// or abfs://"
"""Those that create a file in one step, only if it does not exist."""
TRACKING = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")


class InputError(Exception):
    """Bad input; the message has a line per mistake."""


def open_storage(uri: str, touch: bool, writes: bool = True) -> Store:
    """The storage, which can be written where that is needed.

    Args:
        uri: a directory or fsspec URI.
        touch: make the directory and write to it, to be sure.
        writes: False for what only reads it.

    Raises:
        InputError: unknown scheme, missing package, no permission, or a file in the way.
    """
    if not uri:
        raise InputError("--storage '': a directory, or an fsspec URI")
    # Not `urlsplit`, which raises at a bracket.
    found, shown = re.match(r"([a-z][\w+.-]*)(?=:)", uri.lower()), without_secrets(uri)
    scheme = found[1] if found else ""
    known = sorted(fsspec.available_protocols())
    if scheme in known and "://" not in uri and uri[len(scheme) :].startswith(":/"):
        raise InputError(f"--storage {shown}: a URI begins with {scheme}://")
    if "://" in uri and scheme not in known:
        raise InputError(f"--storage {shown}: unknown scheme {scheme!r}; valid: {STORAGES}")
    if "://" not in uri and not Path(uri).is_absolute() and _JOB_DIRECTORY in str(Path.cwd()):
        raise InputError(
            f"--storage {uri}: a job's working directory is deleted with the job; give an absolute "
            "directory that all nodes see, or a URI"
        )
    if has_secret(uri):
        raise InputError(f"--storage {shown}: the URI {NO_SECRET}")
    if scheme == "memory":
        raise InputError(
            f"--storage {uri}: memory is not shared between processes; use a directory"
        )
    try:
        store = Store(uri)
        if not store.remote:
            _check_directory(Path(store.root), writes)
            kinds = [f"stages/{kind}" for kind in store.names("stages")]
            for directory in (*RESERVED, *kinds):  # not only when a job has computed for hours
                store.refuse_links(store.path(directory))
        if touch:
            _try_to_write(store, shown)
    except InputError:
        raise
    except Exception as error:
        # Each storage has its own errors; after any of them it cannot be used.
        text = str(error).strip().splitlines()
        raise InputError(
            f"--storage {shown}: cannot be used ({type(error).__name__}: {text[0] if text else ''})"
        ) from error
    return store


def _try_to_write(store: Store, shown: str) -> None:
    """Write a file, as a file system may be read-only or full whatever its permission bits are.

    Args:
        shown: the URI without secrets.

    Raises:
        InputError: of two writers of a file, not the first one wins.
    """
    probe = f"tmp/probe-{uuid.uuid4().hex}"
    try:
        is_safe = store.creates_in_one_step and (
            store.create(probe, b"1") and not store.create(probe, b"2")
        )
    except (NotImplementedError, TypeError, ValueError):  # it does not know such a write
        is_safe = False
    finally:
        store.remove([probe])
    if not is_safe:
        raise InputError(
            f"--storage {shown}: it cannot create a file only if that does not exist, so two "
            f"sweeps could destroy each other's work; valid: {STORAGES}"
        )


def _check_directory(path: Path, writes: bool) -> None:
    above = path
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise InputError(f"--storage {path}: {above} is a file, not a directory")
    if not os.access(above, (os.W_OK if writes else os.R_OK) | os.X_OK):
        verb = "write in" if writes else "read"
        raise InputError(f"--storage {path}: no permission to {verb} {above}")


def check_run_names(experiment: str, owner: str | None) -> list[str]:
    """Mistakes in the names that MLflow's runs get, a line each.

    Args:
        experiment: as given by `--experiment`.
        owner: as given by `--owner`; None for the login name.
    """
    given = [("--experiment", experiment, "#'\""), ("--owner", owner, "'\"")]
    return [
        f"{option} {name!r}: 1 to {LONGEST_RUN_NAME} printable characters without {refused} and "
        "without a space at an end"
        for option, name, refused in given
        if name is not None
        and not (
            0 < len(name) <= LONGEST_RUN_NAME
            and name.isprintable()
            and name == name.strip()
            and not set(name) & set(refused)
        )
    ]


def check_tracking(uri: str) -> str | None:
    """The mistake in a tracking URI's form, or None."""
    try:
        url = urlsplit(uri)
    except ValueError as error:  # a bracket in a login or a host
        return f"--tracking-uri {without_secrets(uri)}: {error}; escape what stands before the host"
    scheme = url.scheme.partition("+")[0]
    if scheme not in TRACKING:
        return (
            f"--tracking-uri {without_secrets(uri)}: unknown scheme {scheme!r}; "
            f"http(s)://HOST:PORT, sqlite:///PATH, or {', '.join(f'{x}://' for x in TRACKING[3:])}"
        )
    if scheme in ("http", "https") and not url.hostname:
        return f"--tracking-uri {without_secrets(uri)}: no host; write http://HOST:PORT"
    if scheme == "sqlite" and not uri.startswith("sqlite:///"):
        return f"--tracking-uri {without_secrets(uri)}: write sqlite:///PATH"
    return None

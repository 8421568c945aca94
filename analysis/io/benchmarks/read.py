"""The results at a path: a score file of VLMEvalKit, results of lmms-eval, or a directory of such.

DIRECTORY/{model}_{benchmark}_acc.csv   -> vlmevalkit.py, each a task
DIRECTORY/*_results.json                -> lmms_eval.py, each of its tasks
DIRECTORY/MODEL/...                     the same, where it holds one such directory
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import fsspec

from analysis.io.benchmarks import lmms_eval, vlmevalkit
from analysis.io.benchmarks.scores import Results, ResultsError, UnknownFormError, parse_json


def read_results(path: str, mllm: str = "") -> dict[str, Results]:
    """Read all results at a path.

    In a directory, files of unknown form, and those that repeat another's score, are left out (see
    `Results.left_out`).

    Args:
        path: a file or directory, local or an fsspec URI.
        mllm: a name that the MLLM may have in names of files; the names of the two directories
            above a file are others.

    Returns:
        By the file's name.

    Raises:
        ResultsError: no such path, no results, several directories to choose from, a task in two
            files, or a file that cannot be read; the message names it.
    """
    with _store(path):
        fs, inner = fsspec.core.url_to_fs(path)
        if not fs.exists(inner):
            raise ResultsError(f"{path}: no such file or directory")
        directory, names = _files(fs, inner, path)
    results, unknown = {}, {}
    others = vlmevalkit.repeated(names)
    for name in names:
        if name in others:
            unknown[name] = f"the same score as {others[name]}"
            continue
        try:
            results[name] = _read(fs, directory, name, mllm)
        except UnknownFormError as error:
            unknown[name] = str(error)
        except ResultsError as error:
            raise ResultsError(f"{_place(path, name)}: {error}") from None
    if not results:
        name, reason = next(iter(unknown.items()))
        raise ResultsError(f"{_place(path, name)}: {reason}")
    _check_tasks(results, path)
    first = next(iter(results))
    lines = [f"{name}: {reason}" for name, reason in unknown.items()]
    results[first] = replace(results[first], left_out=(*results[first].left_out, *lines))
    return results


@contextmanager
def _store(place: str) -> Iterator[None]:
    """Errors of a store, which has kinds of its own, as errors of results."""
    try:
        yield
    except ResultsError:
        raise
    except (ValueError, ImportError, OSError) as error:  # no such protocol, no access
        raise ResultsError(f"{place}: {error}") from None
    except Exception as error:  # stores have kinds of their own
        raise ResultsError(f"{place}: {error!r}") from None


def _bytes(fs: Any, file: str) -> bytes | None:
    """A file's bytes; None where there is none."""
    with _store("not readable"):
        return bytes(fs.cat_file(file)) if fs.exists(file) else None


def _files(fs: Any, inner: str, path: str) -> tuple[str, list[str]]:
    """The directory of the results, and their names."""
    if not fs.isdir(inner):
        directory, name = posixpath.split(inner)
        return directory, [name]
    if names := _names(fs, inner):
        return inner, names
    inside = sorted(str(p) for p in fs.ls(inner, detail=False) if fs.isdir(p))
    having = {directory: names for directory in inside if (names := _names(fs, directory))}
    if len(having) == 1:
        return next(iter(having.items()))
    if having:
        listed = ", ".join(posixpath.basename(directory.rstrip("/")) for directory in having)
        raise ResultsError(f"{path}: results in several directories; name one: {listed}")
    raise ResultsError(
        f"{path}: no results here, nor in a directory inside: neither VLMEvalKit's "
        "MODEL_BENCHMARK_acc or _score, .csv or .json, nor lmms-eval's *_results.json"
    )


def _names(fs: Any, directory: str) -> list[str]:
    """The names in a directory that results may have."""
    names = (posixpath.basename(str(p).rstrip("/")) for p in fs.ls(directory, detail=False))
    forms = (vlmevalkit.FILE, lmms_eval.FILE)
    return sorted(name for name in names if any(form.fullmatch(name) for form in forms))


def _read(fs: Any, directory: str, name: str, mllm: str) -> Results:
    """The results in one file."""
    data = _bytes(fs, posixpath.join(directory, name))
    if data is None or not data.strip():
        raise ResultsError("an empty file")

    def samples_of(task: str) -> bytes | None:
        run = lmms_eval.FILE.fullmatch(name)
        samples = f"{run['run']}_samples_{task}.jsonl" if run else ""
        if "/" in samples or "\\" in samples:
            raise ResultsError(f"task {task!r}: its samples would be in another directory")
        return _bytes(fs, posixpath.join(directory, samples)) if samples else None

    if name.endswith(".json"):
        content = parse_json(data)
        if lmms_eval.is_lmms_eval(content):
            return lmms_eval.read_lmms_eval(content, samples_of)
        if lmms_eval.FILE.fullmatch(name):
            raise UnknownFormError("not lmms-eval's: no objects `results` and `configs`")
    above = [posixpath.basename(directory), posixpath.basename(posixpath.dirname(directory))]
    return vlmevalkit.read_vlmevalkit(data, name, [mllm, *above])


def _place(path: str, name: str) -> str:
    """A file's name below the path, for messages; the path where it is the file's own."""
    return path if posixpath.basename(path) == name else posixpath.join(path, name)


def _check_tasks(results: dict[str, Results], path: str) -> None:
    """Refuse a task that two files have, and names that no file can hold."""
    file_of: dict[str, str] = {}
    for name, result in results.items():
        for score in result.scores:
            names = (score.task, score.metric, score.split, result.model)
            try:
                "".join(names).encode()
            except UnicodeEncodeError:
                raise ResultsError(f"{_place(path, name)}: a name that is no text") from None
            if not score.task.strip() or not score.metric.strip():
                raise ResultsError(f"{_place(path, name)}: a task or metric without name")
            if file_of.setdefault(score.task, name) != name:
                raise ResultsError(
                    f"{path}: {score.task} is in several files, {file_of[score.task]} and {name}; "
                    "name the file"
                )

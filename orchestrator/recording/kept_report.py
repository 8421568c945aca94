"""A report that stays as long as what it shows does.

points, samples, settings, this program --digest--> report.json: the table, and the files' sizes

Drawing a thousand points takes longer than all else that a finished sweep does when it is run
again. Whoever wants a report drawn anew deletes it, or runs `python -m analysis.report`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, Field, ValidationError

from orchestrator.plan.past_sweeps import json_object
from orchestrator.storage import provenance
from orchestrator.storage.files import StoreError
from orchestrator.storage.store import Store
from orchestrator.tracking.measured import SAMPLES
from orchestrator.tracking.points_file import samples_content

if TYPE_CHECKING:
    from analysis.report.paths import ReportPaths

RECORD: Final = "report.json"
_MOMENT: Final = ("created", "timing")
"""Entries of `sweep.json` that each run has anew."""
_READ: Final = ("points.parquet", "complexity.json")
"""Files of a sweep that a report is made of, besides `sweep.json` and the samples."""
_DRAWS: Final = ("jinja2", "matplotlib", "pandas", "scipy")
"""Packages that make a report look otherwise, besides those of `provenance.PACKAGES`."""


class _Record(BaseModel, strict=True):
    """What is kept of a report.

    Attributes:
        content: digest of what it shows.
        files: name below the sweep's directory -> bytes; the page first, then the plots.
        sentence, columns, rows: of `ReportPaths`.
    """

    content: str
    files: Annotated[dict[str, int], Field(min_length=1)]
    sentence: str
    columns: list[str]
    rows: list[list[str]]


def keep(store: Store, name: str, content: str, report: ReportPaths) -> None:
    """Note what a report shows that was just written.

    Args:
        name: the sweep's.
        content: `content_of` the sweep.
    """
    directory = f"{store.uri}/{name}/"
    sizes = {path: info.size for path, info in store.infos(name).items()}
    names = [path.removeprefix(directory) for path in (report.html, *report.plots)]
    record = _Record(
        content=content,
        files={each: sizes[f"{name}/{each}"] for each in names},
        sentence=report.sentence,
        columns=[*report.summary.columns],
        rows=report.summary.to_numpy().tolist(),
    )
    store.write(f"{name}/{RECORD}", record.model_dump_json(indent=1).encode())


def kept(store: Store, name: str, content: str) -> ReportPaths | None:
    """The report of a sweep, if it is there and would be written in the same way again.

    Args:
        name: the sweep's.
        content: `content_of` the sweep.
    """
    try:
        text = store.read(f"{name}/{RECORD}")
        record = None if text is None else _Record.model_validate_json(text)
    except (StoreError, ValidationError):  # another one wrote it
        return None
    if record is None or record.content != content:
        return None
    sizes = {path: info.size for path, info in store.infos(name).items()}
    if any(sizes.get(f"{name}/{file}") != size for file, size in record.files.items()):
        return None
    import pandas as pd

    from analysis.report.paths import ReportPaths

    html, *plots = (f"{store.uri}/{name}/{file}" for file in record.files)
    summary = pd.DataFrame(record.rows, columns=record.columns)
    return ReportPaths(html, tuple(plots), summary, record.sentence)


def content_of(store: Store, name: str) -> str:
    """Digest of all that a report shows, and of the program that draws it."""
    sweep = json_object(store.read(f"{name}/sweep.json"))
    files = [hashlib.sha256(store.read(f"{name}/{file}") or b"").hexdigest() for file in _READ]
    samples = samples_content(store, f"{name}/{SAMPLES}") or b""
    content = [
        {entry: value for entry, value in sweep.items() if entry not in _MOMENT},
        files,
        samples.decode(),
        provenance.source_checksum(),
        _templates(),
        provenance.versions(),
        {package: importlib.metadata.version(package) for package in _DRAWS},
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _templates() -> str:
    """Digest of the page's template, style and script."""
    import analysis.report

    digest = hashlib.sha256()
    for file in sorted(Path(analysis.report.__path__[0]).iterdir()):
        if file.is_file() and file.suffix != ".py":
            digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()

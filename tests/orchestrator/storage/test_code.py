"""The commit that provenance records where the program was installed, without git."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from orchestrator.storage import provenance

COMMIT = "0123456789" * 4


@pytest.mark.parametrize(
    ("built", "commit", "dirty"),
    [
        (COMMIT, COMMIT, False),
        (f"{COMMIT}-dirty", COMMIT, True),
        ("", None, None),
        ("main", None, None),
    ],
)
def test_an_image_records_the_commit_that_it_was_built_of(
    built: str,
    commit: str | None,
    dirty: bool | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(provenance.COMMIT, built)
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    elsewhere = provenance.code()
    assert (elsewhere["commit"], elsewhere["dirty"]) == (None, None), "of other files"
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    installed = provenance.code()
    assert (installed["commit"], installed["dirty"]) == (commit, dirty)

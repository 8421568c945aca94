"""Files of a sweep's directory are written in their own places."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.io.files import write_bytes


@pytest.mark.parametrize("leads_to", ["file", "directory", "nothing"])
def test_a_link_in_the_place_of_a_file_is_replaced(tmp_path: Path, leads_to: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "file").write_text("mine")
    targets = {"file": home / "file", "directory": home, "nothing": home / "other"}
    place = tmp_path / "sweep" / "points.csv"
    place.parent.mkdir()
    place.symlink_to(targets[leads_to])
    write_bytes(str(place), b"new")
    assert place.read_bytes() == b"new"
    assert not place.is_symlink()
    assert [file.name for file in place.parent.iterdir()] == ["points.csv"]
    assert [file.read_text() for file in home.iterdir()] == ["mine"]

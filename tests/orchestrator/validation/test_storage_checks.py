"""A storage on which two writers of a file could both win is refused, in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from orchestrator import gc
from orchestrator.monitoring import status
from orchestrator.steering import command
from orchestrator.validation.inputs import read_input
from orchestrator.validation.uris import STORAGES, InputError, open_storage


class LooksThenWrites(MemoryFileSystem):
    """As fsspec's default does it: sftp, hdfs."""

    pipe_file = AbstractFileSystem.pipe_file


class Overwrites(MemoryFileSystem):
    """As object stores without conditional writes do it."""

    def pipe_file(self, path: str, value: bytes, mode: str = "", **options: object) -> None:
        super().pipe_file(path, value)


class KnowsNoMode(MemoryFileSystem):
    def pipe_file(self, path: str, value: bytes, **options: object) -> None:
        if options:
            raise TypeError("unexpected keyword 'mode'")
        super().pipe_file(path, value)


class Creates(MemoryFileSystem):
    """As S3 does it."""


def uri_of(kind: type[MemoryFileSystem], monkeypatch: pytest.MonkeyPatch) -> str:
    scheme = kind.__name__.lower()
    fsspec.register_implementation(scheme, kind, clobber=True)
    monkeypatch.setitem(known_implementations, scheme, {"class": f"{__name__}.{kind.__name__}"})
    return f"{scheme}://bucket/x"


@pytest.mark.parametrize("kind", [LooksThenWrites, Overwrites, KnowsNoMode])
def test_a_file_system_that_overwrites_is_refused(
    kind: type[MemoryFileSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = uri_of(kind, monkeypatch)
    with pytest.raises(InputError, match="only if that does not exist") as error:
        open_storage(uri, touch=True)
    assert len(str(error.value).splitlines()) == 1
    assert STORAGES in str(error.value)
    assert not [file for file in kind.store if "probe-" in file], "the probe is removed"


def test_one_that_creates_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_storage(uri_of(Creates, monkeypatch), touch=True).remote


@pytest.mark.parametrize("directory", ["stages", "stages/features", "work", "logs", "mlflow.db"])
def test_a_storage_of_which_a_part_is_a_link_is_refused_in_one_line(
    tmp_path: Path, directory: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    place = tmp_path / "storage" / directory
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{directory} is a link.*mount") as error:
        open_storage(str(tmp_path / "storage"), touch=True)
    assert len(str(error.value).splitlines()) == 1
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert open_storage(str(tmp_path / "link"), touch=True).root == str(tmp_path / "elsewhere")


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage whose files this user may read."""
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    (tmp_path / "storage" / "stages").mkdir(parents=True)
    return str(tmp_path / "storage")


def test_a_storage_that_can_only_be_read_is_shown_listed_and_planned(
    read_only: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status.main(["nothing", "--storage", read_only])
    assert "no permission" not in capsys.readouterr().err
    assert gc.main(["--storage", read_only], "gc") == gc.OK
    _, _, store = read_input(
        "smoke", [], [], None, read_only, None, "bridgesweep", None, touch=False
    )
    assert store.root == read_only


@pytest.mark.parametrize("below", ["", "not/yet/there"])
def test_what_writes_is_told_that_a_storage_can_only_be_read(
    below: str, read_only: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(Path(read_only, below))
    assert gc.main(["--storage", place, "--delete"], "gc") == gc.BAD_INPUT
    assert "no permission to write" in capsys.readouterr().err
    assert command.main("cancel", ["sweep", "key", "--storage", place], "cancel") == 2
    assert "no permission to write" in capsys.readouterr().err
    with pytest.raises(InputError, match=f"no permission to write in {read_only}"):
        read_input("smoke", [], [], None, place, None, "bridgesweep", None, touch=True)


@pytest.mark.parametrize("uri", ["", "s3:/bucket/x", "file:/data"])
def test_a_storage_that_is_mistyped_makes_no_directory(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"--storage '?{uri}"):
        open_storage(uri, touch=True)
    assert not list(tmp_path.iterdir())


def test_an_unknown_scheme_is_told_the_storages_that_pass() -> None:
    with pytest.raises(InputError, match="unknown scheme 's4'") as error:
        open_storage("s4://bucket/x", touch=False)
    assert STORAGES in str(error.value)
    assert set(re.findall(r"(\w+)://", STORAGES)) == {"s3", "gs", "abfs"}

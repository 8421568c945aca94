"""Names of sweeps and storages that would destroy or reveal something are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from orchestrator.storage.references import RESERVED
from orchestrator.validation.inputs import check_models, check_name
from orchestrator.validation.uris import InputError, open_storage
from search_spaces import load_space


@pytest.mark.parametrize("name", [*RESERVED, "../up", "a/b", "a\n", "", ".hidden", "x" * 300])
def test_names_that_are_no_directory_of_a_sweep_are_refused(name: str) -> None:
    (line,) = check_name(name, None)
    assert line.startswith(f"--name {name!r}: ")


def test_the_space_s_own_name_is_checked_too() -> None:
    space = load_space("smoke", ["name=tmp"])
    (line,) = check_name(None, space)
    assert line.startswith("name 'tmp': ")
    assert check_name("mine", space) == []
    assert check_name(None, load_space("smoke")) == []


@pytest.mark.parametrize(
    "uri", ["s3://key:secret@bucket/x", "https://token@host/x", "s3://b/x?sig=1"]
)
def test_a_storage_with_a_secret_is_refused_without_showing_it(uri: str) -> None:
    with pytest.raises(InputError) as error:
        open_storage(uri, touch=False)
    message = str(error.value)
    assert "***" in message
    assert not any(secret in message for secret in ("secret", "token@", "sig=1"))


class OverwritingFileSystem(MemoryFileSystem):
    """A storage that knows no conditional write."""

    protocol = "overwriting"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        super().pipe_file(path, value, mode="overwrite", **options)


def test_a_storage_without_conditional_writes_is_refused() -> None:
    fsspec.register_implementation("overwriting", OverwritingFileSystem, clobber=True)
    with pytest.raises(InputError, match="overwriting://x"):
        open_storage("overwriting://x", touch=True)


def test_a_directory_is_no_secret(tmp_path: Path) -> None:
    assert not open_storage(str(tmp_path), touch=False).remote


def test_a_shipped_model_of_another_made_world_is_refused() -> None:
    space = load_space("demo", ["data={kind: tabletop}", "tasks=[reading, counts]"])
    assert check_models(space) == [
        f"{setting} = 'shipped:{part}-scenes': it knows the world 'scenes', and data.kind is "
        f"'tabletop'; give shipped:{part}-tabletop"
        for setting, part in (("teacher.model", "clip"), ("mllms.0", "llava"))
    ]
    assert check_models(load_space("demo")) == []

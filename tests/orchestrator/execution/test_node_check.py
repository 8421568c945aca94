"""A node that sees another storage, other models or another program is named before any work."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from orchestrator.execution import node_check
from orchestrator.plan.jobs import Plan
from orchestrator.storage import outage
from orchestrator.storage.provenance import fingerprint, fingerprints, source_checksum
from orchestrator.storage.store import Store
from search_spaces import Space, load_space, operating_points
from tests.orchestrator.waiting import wait_until


@pytest.fixture
def space(tmp_path: Path, models: tuple[Path, Path]) -> Space:
    """A space whose teacher is in a directory of this test."""
    teacher = shutil.copytree(models[0], tmp_path / "clip")
    return load_space("smoke", [f"teacher.model={teacher}"])


def look(space: Space, storage: Path, expected: dict[str, str]) -> list[str]:
    return node_check._look_from_node(space, str(storage), "tmp/token", "abc", expected)


def test_a_node_that_sees_the_same_has_nothing_to_report(space: Space, tmp_path: Path) -> None:
    Store(str(tmp_path)).write("tmp/token", b"abc")
    expected = fingerprints(space) | {node_check.CODE: source_checksum()}
    assert look(space, tmp_path, expected) == []


def test_another_storage_program_or_model_is_named(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "VISIBLE_S", 0.0)
    (line,) = look(space, tmp_path, {})
    assert str(tmp_path) in line
    Store(str(tmp_path)).write("tmp/token", b"abc")
    expected = fingerprints(space) | {node_check.CODE: "another"}
    (line,) = look(space, tmp_path, expected)
    assert line.endswith(node_check.CODE)
    model = Path(space.teacher.model)
    (model / "config.json").write_text("{}")
    fingerprint.cache_clear()
    (line,) = look(space, tmp_path, expected | {node_check.CODE: source_checksum()})
    assert line.endswith(str(model))
    shutil.rmtree(model)
    fingerprint.cache_clear()
    (line,) = look(space, tmp_path, expected)
    assert line.startswith("cannot read what the space names: FileNotFoundError: ")
    assert line.endswith(f"{model}: no such file or directory")


def test_a_check_that_raises_leaves_no_token(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> list[object]:
        raise RuntimeError("no answer")

    monkeypatch.setattr(node_check, "alive_nodes", fail)
    store = Store(str(tmp_path / "storage"))
    with pytest.raises(RuntimeError, match="no answer"):
        node_check.nodes_with_other_files(space, store, {})
    assert store.names("tmp") == []


def test_a_node_that_joins_is_checked_once_and_its_problems_are_noted(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, asked, notes = {"head"}, list[frozenset[str]](), list[str]()

    def find(space: Space, store: Store, checksums: object, checked: frozenset[str]) -> list[str]:
        asked.append(checked)
        return ["node b has other files, or none, for data"] if "b" in nodes else []

    monkeypatch.setattr(node_check, "node_ids", lambda: frozenset(nodes))
    monkeypatch.setattr(node_check, "nodes_with_other_files", find)
    plan = Plan(space, operating_points(space), {}, None)
    watch = node_check.NewNodes(plan, Store(str(tmp_path)), notes.append)
    for joined, checks in (("", 0), ("a", 1), ("b", 2), ("", 2)):
        nodes |= {joined} - {""}
        watch.look()
        wait_until(lambda count=checks: len(asked) == count, 10)  # type: ignore[misc]
        time.sleep(0.1)  # the thread ends
    assert asked == [{"head"}, {"head", "a"}]
    (note,) = notes
    assert "node b has other files" in note

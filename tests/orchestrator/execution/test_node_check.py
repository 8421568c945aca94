"""A node that sees another storage, other models or another program is named before any work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.execution import node_check
from orchestrator.storage import outage
from orchestrator.storage.provenance import fingerprint, fingerprints, source_checksum
from orchestrator.storage.store import Store
from search_spaces import Space, load_space


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

    monkeypatch.setattr(node_check, "node_ids", frozenset)
    monkeypatch.setattr(node_check, "alive_nodes", fail)
    store = Store(str(tmp_path / "storage"))
    with pytest.raises(RuntimeError, match="no answer"):
        node_check.nodes_with_other_files(space, store, {})
    assert store.names("tmp") == []


class Joining:
    """Nodes that join a sweep, and what they see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, space: Space, directory: Path) -> None:
        self.nodes = {"head"}
        self.problems: dict[str, list[str]] = {}
        self.asked: list[set[str]] = []
        self.published: list[str] = []
        self.freed: list[str] = []
        self.notes: list[str] = []
        self._clock = 0.0
        monkeypatch.setattr(node_check, "_addresses", lambda: {n: f"node {n}" for n in self.nodes})
        monkeypatch.setattr(node_check, "problems_by_node", self._find)
        monkeypatch.setattr(node_check, "publish", self._publish)
        monkeypatch.setattr(node_check, "alive_nodes", lambda: [{"NodeID": n} for n in self.nodes])
        monkeypatch.setattr(node_check, "hold", lambda node: [f"of {node['NodeID']}"])
        monkeypatch.setattr(node_check, "free", lambda groups: self.freed.extend(groups))
        monkeypatch.setattr(node_check.time, "monotonic", lambda: self._clock)
        self._new = node_check.NewNodes(
            lambda: (space, {}), Store(str(directory)), self.notes.append, frozenset({"head"})
        )
        self.look()

    def _publish(self, nodes: set[str], is_fit: bool) -> None:
        if is_fit:
            self.published += nodes

    def _find(
        self, space: Space, store: Store, checksums: object, nodes: set[str]
    ) -> dict[str, list[str]]:
        self.asked.append(nodes)
        found = {node: self.problems.get(node, []) for node in nodes}
        if ["away"] in found.values():
            raise OSError("the storage is away")
        return found

    def join(self, node: str, *problems: str) -> None:
        """Let a node join, and look."""
        self.nodes |= {node}
        self.problems[node] = [*problems]
        self.look()

    @property
    def unfit(self) -> frozenset[str]:
        return self._new.unfit

    def look(self, seconds: float = 0.0) -> None:
        """Look, so many seconds after the last look."""
        self._clock += seconds
        self._new.look()
        thread = self._new._thread
        if thread is not None:
            thread.join(10)
            assert not thread.is_alive()


def test_a_node_that_joins_works_only_once_it_was_found_to_see_the_same(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining = Joining(monkeypatch, space, tmp_path)
    joining.look()
    assert joining.asked == []
    joining.join("a")
    joining.look(3600)
    assert joining.asked == [{"a"}]
    assert joining.published == ["a"]
    joining.nodes -= {"head"}
    joining.look()
    assert joining.notes == [
        "node a joined the cluster: it has 2 now",
        "node head left the cluster: it has 1 now",
    ]


def test_a_node_with_other_files_is_named_once_and_asked_until_they_are_the_same(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining = Joining(monkeypatch, space, tmp_path)
    joining.join("b", "node b has other files, or none, for data")
    joining.look(1)
    assert joining.asked == [{"b"}]
    joining.look(node_check.ASK_AGAIN_S)
    assert joining.asked == [{"b"}, {"b"}]
    _, note = joining.notes
    assert note.startswith("node b has other files, or none, for data; what Ray places there waits")
    assert joining.published == []
    assert joining.unfit == {"b"}
    joining.problems.clear()
    joining.look(node_check.ASK_AGAIN_S)
    assert joining.published == ["b"]
    assert joining.freed == ["of b"]
    assert joining.unfit == frozenset()


def test_what_is_held_of_a_node_is_given_back_when_the_node_has_left(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining = Joining(monkeypatch, space, tmp_path)
    joining.join("b", "node b did not answer")
    assert joining.unfit == {"b"}
    joining.nodes -= {"b"}
    joining.look()
    assert joining.freed == ["of b"]
    assert joining.unfit == frozenset()


def test_a_check_that_could_not_be_made_is_made_again(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining = Joining(monkeypatch, space, tmp_path)
    joining.join("c", "away")
    assert joining.notes[1:] == ["new nodes could not be checked: OSError: the storage is away"]
    joining.problems.clear()
    joining.look(node_check.ASK_AGAIN_S)
    assert joining.published == ["c"]

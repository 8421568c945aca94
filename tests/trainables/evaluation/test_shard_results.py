"""Results of shards lie in a working directory: what is damaged there is made again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainables.evaluation.image_pass import Rate
from trainables.evaluation.shard_results import ShardResult, kept_shards, read_kept

RESULT = ShardResult(
    {"a-vqa": "a horse", "b-vqa": ""},
    {"a": Rate("a", 120, 0.5, None, 31.5, 4, 0.1, None)},
    {"c": "cut"},
    {"d": "no header"},
    {"e-vqa": "too long"},
    1.5,
    {"encode": 1.0},
    1,
)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    RESULT.write(tmp_path / "shard-1")
    assert read_kept(tmp_path) == [RESULT]


def written(content: bytes) -> Callable[[Path], object]:
    return lambda shard: (shard / "answered.json").write_bytes(content)


def changed(name: str, value: object) -> Callable[[Path], object]:
    def change(shard: Path) -> None:
        content: dict[str, Any] = json.loads((shard / "answered.json").read_text())
        (shard / "answered.json").write_text(json.dumps({**content, name: value}))

    return change


def replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Something else in the place of the directory."""

    def change(shard: Path) -> None:
        (shard / "answered.json").unlink()
        shard.rmdir()
        make(shard)

    return change


def pipe(shard: Path) -> None:
    (shard / "answered.json").unlink()
    os.mkfifo(shard / "answered.json")


@pytest.mark.parametrize(
    "damage",
    [
        written(b""),
        written(b"\xff"),
        written(b"null"),
        written(b"[" * 200_000),
        changed("answers", None),
        changed("answers", {"a-vqa": 1}),
        changed("rates", [{"image_id": "a"}]),
        changed("rates", [{**vars(RESULT.rates["a"]), "bpp": float("nan")}]),
        changed("seconds", "long"),
        changed("seconds", float("inf")),
        changed("further", 1),
        pipe,
        replaced(Path.touch),
        replaced(Path.mkdir),
        replaced(lambda shard: shard.symlink_to(shard.with_name("nowhere"))),
    ],
)
def test_a_damaged_result_is_made_again(
    damage: Callable[[Path], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("shard-1", "shard-2"):
        RESULT.write(tmp_path / name)
    damage(tmp_path / "shard-2")
    assert read_kept(tmp_path) == [RESULT]
    assert f"{tmp_path / 'shard-2'} is damaged and is made again" in caplog.text
    assert kept_shards(tmp_path) == [tmp_path / "shard-1"]
    RESULT.write(tmp_path / "shard-2")
    assert read_kept(tmp_path) == [RESULT, RESULT]


@pytest.mark.parametrize("name", ["shard-1", "shard-1.part"])
@pytest.mark.parametrize("make", [Path.touch, ShardResult().write])
def test_a_result_takes_the_place_of_what_lacks_its_answers(
    make: Callable[[Path], object], name: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    RESULT.write(tmp_path / "shard-1")
    assert read_kept(tmp_path) == [RESULT]
    assert [path.name for path in tmp_path.iterdir()] == ["shard-1"]

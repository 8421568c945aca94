"""The local context keeps what it was given, whenever it is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainables.training.context import LocalContext
from trainables.training.sealing import seal


def make_checkpoint(directory: Path, value: int) -> Path:
    directory.mkdir(parents=True)
    for name in ("a", "b", "checkpoint.pt"):
        (directory / name).write_text(str(value))
    seal(directory, value)
    return directory


def kept(context: LocalContext) -> int:
    checkpoint = context.latest_checkpoint()
    assert checkpoint is not None
    values = {(checkpoint / name).read_text() for name in ("a", "b")}
    assert len(values) == 1
    return int(values.pop())


def curve(directory: Path) -> list[int]:
    lines = (directory / "curve.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_the_last_checkpoint_is_kept(tmp_path: Path) -> None:
    seen: list[float] = []
    context = LocalContext(tmp_path / "run", lambda metrics: seen.append(metrics["step"]))
    assert context.latest_checkpoint() is None
    for step in (1, 2, 3):
        made = make_checkpoint(tmp_path / f"made{step}", step) if step != 2 else None
        context.report({"step": step, "steps": 3}, made)
    assert kept(context) == 3
    assert seen == curve(tmp_path / "run") == [1, 2, 3]
    assert kept(LocalContext(tmp_path / "run")) == 3


def test_the_curve_continues_at_the_checkpoint(tmp_path: Path) -> None:
    context = LocalContext(tmp_path / "run")
    context.report({"step": 10, "steps": 30})
    context.report({"step": 20, "steps": 30}, make_checkpoint(tmp_path / "made", 20))
    context.report({"step": 25, "steps": 30})
    with (tmp_path / "run" / "curve.jsonl").open("a") as file:
        file.write('{"step": 2')
    assert curve_after_restart(tmp_path / "run") == [10, 20]
    LocalContext(tmp_path / "run").report({"step": 30, "steps": 30})
    assert curve(tmp_path / "run") == [10, 20, 30]


def curve_after_restart(directory: Path) -> list[int]:
    LocalContext(directory)
    return curve(directory)


def test_without_a_checkpoint_the_curve_starts_again(tmp_path: Path) -> None:
    LocalContext(tmp_path).report({"step": 10, "steps": 30})
    assert curve_after_restart(tmp_path) == []


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ({"checkpoint": 1, "checkpoint.next": 2}, 1),
        ({"checkpoint.previous": 1, "checkpoint.next": 2}, 1),
        ({"checkpoint.previous": 1, "checkpoint": 2}, 2),
    ],
)
def test_recovers_from_every_half_made_replacement(
    tmp_path: Path, left: dict[str, int], expected: int
) -> None:
    for name, value in left.items():
        make_checkpoint(tmp_path / name, value)
    assert kept(LocalContext(tmp_path)) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(("before", "step"), [(None, 0), (10, 10)])
@pytest.mark.parametrize("name", ["step.json", "checkpoint.pt"])
def test_a_damaged_checkpoint_is_deleted_and_what_is_whole_remains(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    before: int | None,
    step: int,
) -> None:
    context = LocalContext(tmp_path)
    context.report({"step": 10, "steps": 30})
    context.report({"step": 20, "steps": 30}, make_checkpoint(tmp_path / "made", 20))
    shutil.rmtree(tmp_path / "made")
    if before is not None:
        make_checkpoint(tmp_path / "checkpoint.previous", before)
    (tmp_path / "checkpoint" / name).write_bytes(b"")
    context = LocalContext(tmp_path)
    if before is None:
        assert context.latest_checkpoint() is None
        assert "begins anew" in caplog.text
    else:
        assert kept(context) == step
        assert "goes on from step 10" in caplog.text
    assert str(tmp_path / "checkpoint") in caplog.text
    assert curve(tmp_path) == [10][: step // 10]


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint.previous", "checkpoint.next"])
def test_a_file_in_the_place_of_a_checkpoint_is_deleted(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    context = LocalContext(tmp_path)
    assert context.latest_checkpoint() is None
    context.report({"step": 1, "steps": 3}, make_checkpoint(tmp_path / "made", 1))
    assert kept(LocalContext(tmp_path)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 50,
        b"\xff",
        b"[" * 200_000,
        b"{}",
        b"null",
        b'{"step": "x"}',
        b'{"step": 12, "loss": null}',
        b'{"step": 12, "loss": NaN}',
    ],
    ids=["zeros", "not UTF-8", "nested", "no step", "null", "text", "no number", "not finite"],
)
def test_damaged_rows_of_the_curve_are_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    context = LocalContext(tmp_path)
    context.report({"step": 10, "steps": 30})
    with (tmp_path / "curve.jsonl").open("ab") as file:
        file.write(damage + b"\n")
    context.report({"step": 20, "steps": 30}, make_checkpoint(tmp_path / "made", 20))
    assert kept(LocalContext(tmp_path)) == 20
    assert curve(tmp_path) == [10, 20]
    assert "curve.jsonl: 1 damaged rows are dropped" in caplog.text


def test_a_directory_in_the_place_of_the_curve_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "curve.jsonl" / "x").mkdir(parents=True)
    LocalContext(tmp_path).report({"step": 10, "steps": 30})
    assert curve(tmp_path) == [10]


def test_a_training_that_does_not_go_on_from_its_checkpoint_has_one_curve(tmp_path: Path) -> None:
    context = LocalContext(tmp_path)
    for step in (10, 20, 30):
        context.report({"step": step, "steps": 40})
    context.report({"step": 40, "steps": 40}, make_checkpoint(tmp_path / "made", 40))
    context = LocalContext(tmp_path)
    for step in (10, 20):
        context.report({"step": step, "steps": 40})
    assert curve(tmp_path) == [10, 20]


def test_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    child = (
        "import sys; from pathlib import Path\n"
        "from trainables.training.context import LocalContext\n"
        "from trainables.training.sealing import seal\n"
        "run, made = Path(sys.argv[1]) / 'run', Path(sys.argv[1]) / 'made'\n"
        "made.mkdir(exist_ok=True); context = LocalContext(run); step = 0\n"
        "last = context.latest_checkpoint()\n"
        "step = int((last / 'a').read_text()) if last else 0\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    step += 1\n"
        "    for name in ('a', 'b', 'checkpoint.pt'): (made / name).write_text(str(step))\n"
        "    seal(made, step)\n"
        "    context.report({'step': step, 'steps': 10**9}, made)\n"
    )
    step = 0
    for wait in (0.011, 0.023, 0.042):
        process = subprocess.Popen(
            [sys.executable, "-c", child, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        context = LocalContext(tmp_path / "run")
        if context.latest_checkpoint() is not None:
            assert kept(context) >= step
            step = kept(context)
            assert curve(tmp_path / "run") == list(range(1, step + 1))
    assert step > 0

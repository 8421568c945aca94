"""The local context keeps what it was given, whenever it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainables.training.context import LocalContext


def make_checkpoint(directory: Path, value: int) -> Path:
    directory.mkdir(parents=True)
    for name in ("a", "b"):
        (directory / name).write_text(str(value))
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


def test_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    child = (
        "import sys; from pathlib import Path\n"
        "from trainables.training.context import LocalContext\n"
        "run, made = Path(sys.argv[1]) / 'run', Path(sys.argv[1]) / 'made'\n"
        "made.mkdir(exist_ok=True); context = LocalContext(run); step = 0\n"
        "last = context.latest_checkpoint()\n"
        "step = int((last / 'a').read_text()) if last else 0\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    step += 1\n"
        "    for name in 'ab': (made / name).write_text(str(step))\n"
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

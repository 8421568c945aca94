"""Checkpoints are read where they fit, and a damaged one does not end a training."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trainables.training.checkpoint
from trainables.datasets.rows import Batch
from trainables.points.learning import Group, Learner
from trainables.training.checkpoint import TrainingState, resume, write_checkpoint
from trainables.training.context import LocalContext
from trainables.training.sealing import seal

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class OneWeight(Learner):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

    def groups(self) -> list[Group]:
        return [Group([self.weight], 0.1)]


class Keeping(LocalContext):
    """Has a checkpoint that was not kept by itself."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(checkpoint.with_name("run"))
        self._checkpoint = checkpoint

    def latest_checkpoint(self) -> Path:
        return self._checkpoint


def trained_twice() -> tuple[OneWeight, torch.optim.Adam, TrainingState]:
    learner = OneWeight()
    optimiser = torch.optim.Adam(learner.parameters())
    for _ in range(2):
        learner.weight.sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    best = {"weight": learner.weight.detach().clone()}
    return learner, optimiser, TrainingState(2, 1.5, best, {"loss": 0.5}, [(1, 0.7), (2, 0.5)])


def test_a_training_goes_on_where_its_checkpoint_is(tmp_path: Path) -> None:
    learner, optimiser, state = trained_twice()
    write_checkpoint(tmp_path, state, learner, optimiser)
    other = OneWeight()
    its = torch.optim.Adam(other.parameters())
    assert str(resume(Keeping(tmp_path), other, its)) == str(state)
    assert torch.equal(other.weight, learner.weight)
    assert str(its.state_dict()) == str(optimiser.state_dict())


def changed(**entries: Any) -> Callable[[Path], None]:
    """What a checkpoint may hold that has its own checksum, such as one of another training."""

    def change(checkpoint: Path) -> None:
        content = torch.load(checkpoint / "checkpoint.pt", weights_only=True)
        torch.save(content | entries, checkpoint / "checkpoint.pt")
        seal(checkpoint, 2)

    return change


def flip(checkpoint: Path) -> None:
    """Change a bit of a weight, as a disk may."""
    file = checkpoint / "checkpoint.pt"
    content = bytearray(file.read_bytes())
    position = content.find(torch.load(file)["trained"]["weight"].numpy().tobytes())
    assert position > 0
    content[position] ^= 0x40
    file.write_bytes(content)


def resealed(content: bytes) -> Callable[[Path], None]:
    def change(checkpoint: Path) -> None:
        (checkpoint / "checkpoint.pt").write_bytes(content)
        seal(checkpoint, 2)

    return change


def cut(checkpoint: Path) -> None:
    os.truncate(checkpoint / "checkpoint.pt", 700)


def told(text: str) -> Callable[[Path], object]:
    return lambda checkpoint: (checkpoint / "step.json").write_text(text)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        cut,
        lambda checkpoint: (checkpoint / "checkpoint.pt").unlink(),
        lambda checkpoint: (checkpoint / "step.json").unlink(),
        told(""),
        told("null"),
        told("[" * 200_000),
        told('{"step": 2}'),  # of a version before
        told('{"step": 2, "sha256": null}'),
        resealed(b""),
        resealed(b"\0" * 1000),
        changed(trained={"other": torch.zeros(2)}),
        changed(trained={"weight": torch.zeros(3)}),
        changed(trained=None),
        changed(best={"weight": torch.tensor([1.0, float("nan")])}),
        changed(optimiser={"state": None}),
        changed(optimiser={"state": {0: {"step": torch.tensor(1.0)}}}),
        changed(optimiser={"state": {0: dict.fromkeys(MOMENTS, torch.zeros(3))}}),
        changed(step="two"),
    ],
)
def test_a_training_whose_checkpoint_does_not_fit_begins_anew(
    damage: Callable[[Path], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learner, optimiser, state = trained_twice()
    write_checkpoint(tmp_path, state, learner, optimiser)
    damage(tmp_path)
    learner = OneWeight()
    optimiser = torch.optim.Adam(learner.parameters())
    assert vars(resume(Keeping(tmp_path), learner, optimiser)) == vars(TrainingState())
    assert torch.equal(learner.weight, OneWeight().weight)
    assert not optimiser.state_dict()["state"]
    assert f"{tmp_path} is damaged" in caplog.text


@pytest.mark.parametrize(("found", "step"), [(1.0, 0), (2.0, 2)])
def test_workers_go_on_together_or_begin_anew_together(
    found: float, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, optimiser, state = trained_twice()
    write_checkpoint(tmp_path, state, learner, optimiser)
    sums = {"found": torch.tensor(found)}
    monkeypatch.setattr(trainables.training.checkpoint, "sum_over_workers", lambda *_: sums)
    monkeypatch.setattr(Keeping, "world_size", 2)
    assert resume(Keeping(tmp_path), OneWeight(), optimiser).step == step


def test_a_checkpoint_of_a_gpu_is_read_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = OneWeight()
    optimiser = torch.optim.Adam(learner.parameters())
    state = TrainingState(3, 1.5, {"weight": torch.tensor([3.0, 4.0])}, {"loss": 0.5})
    # The file says of every tensor that it was on the first GPU.
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    write_checkpoint(tmp_path, state, learner, optimiser)
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    found = resume(Keeping(tmp_path), OneWeight(), optimiser)
    assert found.step == 3
    assert {value.device.type for value in found.best.values()} == {"cpu"}
    assert torch.equal(found.best["weight"], torch.tensor([3.0, 4.0]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_batch_reaches_a_gpu_through_pinned_memory() -> None:
    device, values = torch.device("cuda"), torch.rand(4, 3).half()
    staged = Batch(("a", "b", "c", "d"), (0, 1, 2, 3), pooled=values).staged(device)
    assert staged.pooled is not None
    assert staged.pooled.is_pinned()
    assert staged.pooled.dtype == torch.float16
    there = staged.to(device)
    assert there.pooled is not None
    assert there.pooled.device.type == "cuda"
    assert torch.equal(there.pooled.cpu(), values.float())
    assert there.positions == (0, 1, 2, 3)

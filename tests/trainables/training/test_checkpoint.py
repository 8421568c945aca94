"""Checkpoints of a GPU's training."""

from pathlib import Path

import pytest
import torch

from trainables.datasets.rows import Batch
from trainables.points.learning import Group, Learner
from trainables.training.checkpoint import TrainingState, read_checkpoint, write_checkpoint


class OneWeight(Learner):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

    def groups(self) -> list[Group]:
        return [Group([self.weight], 0.1)]


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
    found = read_checkpoint(tmp_path, OneWeight(), optimiser)
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

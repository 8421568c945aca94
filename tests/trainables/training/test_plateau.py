"""Trainings that end when their validation loss stands still."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from search_spaces import Space
from search_spaces.specs.training import Optimiser
from tests.trainables.conftest import Small
from tests.trainables.training.test_train import (
    InterruptedHere,
    Interrupting,
    assert_equal,
    curve,
    train,
)
from trainables.points.learning import Learner
from trainables.training import loop
from trainables.training.checkpoint import TrainingState
from trainables.training.context import LocalContext
from trainables.training.plateau import fall_of_last_quarter, stands_still

LOSSES = {10: 5.0, 20: 4.0, 30: 3.99, 40: 3.98, 50: 3.5, 60: 3.499, 70: 3.498, 80: 3.497}
"""Progress until 20; with patience 2, still at 40, the drop; progress at 50; still at 80."""


@pytest.mark.parametrize(
    ("losses", "still"),
    [
        ([], False),
        ([3.0, 3.0], False),  # as many as the patience: nothing stands before them
        ([3.0, 3.0, 3.0], True),
        ([3.0, 2.98, 2.98], True),  # two thirds of a percent
        ([3.0, 2.98, 2.96], False),  # more than one percent over both
        ([3.0, 2.0, 2.5, 2.6], True),
        ([5.0, 4.0, 3.0, 2.0], False),
    ],
)
def test_a_loss_stands_still_without_progress_for_as_long_as_the_patience(
    losses: list[float], still: bool
) -> None:
    assert stands_still(losses, patience=2, least_progress=0.01) is still


@pytest.mark.parametrize(
    ("validations", "fall"),
    [
        ([(10, 4.0), (20, 3.0), (30, 2.0), (40, 1.5)], 0.25),
        ([(10, 4.0), (20, 2.0), (30, 2.0), (40, 2.5)], 0.0),
        ([(40, 2.5)], None),
    ],
)
def test_the_fall_of_the_last_quarter_compares_lowest_losses(
    validations: list[tuple[int, float]], fall: float | None
) -> None:
    state = TrainingState(step=40, validations=validations)
    assert fall_of_last_quarter(state) == pytest.approx(fall)


ONE_PHASE = ({"until": 1, "ce": 0, "distill": 1},)


def plateau_space(
    small: Small, phases: Sequence[Mapping[str, float]] = ONE_PHASE, **settings: object
) -> Space:
    """The small space whose d1 trains until a plateau."""
    surrogate = small.space.surrogate
    surrogate = surrogate.model_validate(surrogate.model_dump() | {"phases": phases})
    spec: dict[str, object] = {
        "steps": 100,
        "until": "plateau",
        "patience": 2,
        "validate_every": 10,
        "lr_drop": 0.1,
    }
    spec |= {"checkpoint_every": 10, "lr_drop_at": 0.9, "warmup_steps": 0, **settings}
    changed = small.space.d1.model_copy(update=spec)
    return small.space.model_copy(update={"d1": changed, "surrogate": surrogate})


@pytest.fixture
def stated_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations give the losses of `LOSSES`, in their order."""

    def validate(
        learner: Learner, rows: object, batch_size: int, context: LocalContext
    ) -> dict[str, float]:
        step = len([row for row in curve(context.directory) if "val_loss" in row]) + 1
        return {"loss": LOSSES.get(10 * step, 3.4)}

    monkeypatch.setattr(loop, "validate", validate)


def rows_of(directory: Path) -> list[Mapping[str, float]]:
    return [row for row in curve(directory) if "val_loss" in row]


@pytest.mark.usefixtures("stated_losses")
def test_the_rate_drops_at_the_first_plateau_and_training_ends_at_the_second(
    small_stages: Small, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "curve.jsonl").touch()
    space = plateau_space(small_stages)
    train(small_stages, "d1", tmp_path / "out", LocalContext(tmp_path / "run"), space)
    rows = rows_of(tmp_path / "run")
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60, 70]
    lr = space.d1.lr
    # The row of a step has the rate that this step was made with.
    assert [row["lr"] / lr for row in rows] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1])
    assert rows[-1]["steps"] == 70, "what is left is nothing"
    info = json.loads((tmp_path / "out" / "info.json").read_text())
    assert (info["steps"], info["images"], info["until"]) == (
        70,
        70 * space.d1.batch_size,
        "plateau",
    )
    assert info["fall_of_last_quarter"] == pytest.approx(1 - 3.498 / 3.5)


@pytest.mark.usefixtures("stated_losses")
def test_a_training_until_a_plateau_is_resumed_as_it_was(
    small_stages: Small, tmp_path: Path
) -> None:
    for name in ("straight", "run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "curve.jsonl").touch()
    space, d1 = plateau_space(small_stages), "d1"
    straight = train(small_stages, d1, tmp_path / "a", LocalContext(tmp_path / "straight"), space)
    for stop_step in (40, 50, 70):
        run = Interrupting(tmp_path / "run", stop_step)
        with pytest.raises(InterruptedHere):
            train(small_stages, d1, tmp_path / "never", run, space)
    resumed = train(small_stages, d1, tmp_path / "b", LocalContext(tmp_path / "run"), space)
    assert_equal(straight, resumed)
    assert curve(tmp_path / "straight") == curve(tmp_path / "run")


@pytest.mark.usefixtures("stated_losses")
def test_only_the_last_phase_of_the_loss_counts(small_stages: Small, tmp_path: Path) -> None:
    """The losses stand still from 20 on, but the loss keeps its formula only from 34 on."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "curve.jsonl").touch()
    phases = [{"until": 0.34, "ce": 0, "distill": 1}, {"until": 1, "ce": 0, "distill": 2}]
    space = plateau_space(small_stages, phases)
    train(small_stages, "d1", tmp_path / "out", LocalContext(tmp_path / "run"), space)
    rates = {row["step"]: row["lr"] for row in rows_of(tmp_path / "run")}
    assert rates[50] == rates[10], "40 and 50 are no plateau of two behind 30"
    assert min(step for step, lr in rates.items() if lr < rates[50]) > 60


def test_the_cap_ends_what_never_stands_still(small_stages: Small, tmp_path: Path) -> None:
    space = plateau_space(small_stages, steps=30, patience=9, lr_drop_at=0.6)
    train(small_stages, "d1", tmp_path / "out", LocalContext(tmp_path / "run"), space)
    info = json.loads((tmp_path / "out" / "info.json").read_text())
    assert (info["steps"], info["until"]) == (30, "steps")
    rates = {row["step"]: row["lr"] / space.d1.lr for row in rows_of(tmp_path / "run")}
    assert rates[20] == pytest.approx(0.1), "dropped at lr_drop_at at the latest"


def test_a_linear_fall_has_no_plateau() -> None:
    with pytest.raises(ValidationError, match="until: plateau needs lr_decay: step"):
        Optimiser(steps=10, until="plateau", lr_decay="linear")


def test_a_fixed_length_has_no_settings_of_a_plateau_in_its_key() -> None:
    fixed = Optimiser(steps=10, patience=3, least_progress=0.5)
    assert fixed.identity == Optimiser(steps=10).identity
    until = [Optimiser(steps=10, until="plateau", patience=n).identity for n in (3, 4)]
    assert until[0] != until[1]


def test_crops_are_squares_of_the_images_some_of_them_mirrored() -> None:
    from trainables.scenarios.base_codec import random_crops

    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    image = torch.stack([rows, columns, rows * 100 + columns]).expand(64, 3, 20, 30)
    torch.manual_seed(0)
    crops = random_crops(image, 8)
    assert crops.shape == (64, 3, 8, 8)
    tops, steps = crops[:, 0, 0, 0], crops[:, 1, 0, 1] - crops[:, 1, 0, 0]
    lefts = crops[:, 1, 0].min(1).values
    assert set(steps.tolist()) == {1.0, -1.0}, "mirrored or not"
    assert 20 < int((steps < 0).sum()) < 44
    for number, crop in enumerate(crops):
        y, x = int(tops[number]), int(lefts[number])
        expected = image[number, :, y : y + 8, x : x + 8]
        mirrored = expected.flip(-1) if steps[number] < 0 else expected
        assert torch.equal(crop, mirrored)
    assert {*tops.tolist()} >= {0.0, 12.0}, "the borders are reached"
    assert {*lefts.tolist()} <= {*range(23)}

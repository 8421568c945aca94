"""The loop: resuming, determinism, divergence, choosing weights, several workers."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import Ridge
from torch.overrides import TorchFunctionMode
from transformers import CLIPModel
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

import trainables.datasets.rows
import trainables.training.loop
from search_spaces import Space
from search_spaces.scenarios.d1 import NeckTraining
from search_spaces.specs.training import Optimiser
from tests.trainables.conftest import Small
from tests.trainables.shards import write_shards
from tests.trainables.small import SHARD, make_space, point
from trainables.datasets.batches import in_order
from trainables.datasets.images.decode import UnreadableImageError
from trainables.datasets.rows import Rows
from trainables.encoders.pretrained import Preprocessing
from trainables.encoders.text_embeddings import write_text_weights
from trainables.evaluation.test_set import TestImages
from trainables.points.inputs import Inputs
from trainables.training.context import LocalContext
from trainables.training.loop import Diverged, learning_rate_factor
from trainables.training.precompute import CodecLatents, TeacherFeatures
from trainables.training.sealing import seal
from trainables.training.train import train_codec, train_point

SCENARIOS = ("codec", "d1", "d2", "d3", "post_processing")


def train(
    small: Small,
    scenario: str,
    out: Path,
    context: LocalContext | None = None,
    space: Space | None = None,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Train into `out`; returns the stored weights."""
    space = small.space if space is None else space
    inputs = Inputs(small.world, small.codec, small.features, small.latents, small.d1, small.text)
    context = LocalContext(out.with_name(out.name + "-run")) if context is None else context
    if scenario == "codec":
        train_codec(space.codecs[0], 0.01, inputs, out, context, seed)
    else:
        train_point(space, point(space, scenario, seed), inputs, out, context)
    return load_file(out / "model.safetensors")


def curve(directory: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (directory / "curve.jsonl").read_text().splitlines()]
    return [{n: v for n, v in row.items() if n != "images_per_s"} for row in rows]


def assert_equal(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


class InterruptedHere(Exception):  # noqa: N818 - no error
    pass


class Interrupting(LocalContext):
    """Stops the training as soon as a step has been reported."""

    def __init__(self, directory: Path, stop_step: int) -> None:
        super().__init__(directory)
        self._stop_step = stop_step

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        super().report(metrics, checkpoint)
        if metrics["step"] >= self._stop_step:
            raise InterruptedHere


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_interrupted_and_resumed_equals_uninterrupted(
    small_stages: Small, tmp_path: Path, scenario: str
) -> None:
    straight = train(small_stages, scenario, tmp_path / "straight")
    run = tmp_path / "run"
    # Checkpoints stand at steps 3 and 6: the second stop, at 4, loses a step.
    for stop_step in (3, 4):
        with pytest.raises(InterruptedHere):
            train(small_stages, scenario, tmp_path / "never", Interrupting(run, stop_step))
        torch.manual_seed(stop_step)
    resumed = train(small_stages, scenario, tmp_path / "resumed", LocalContext(run))
    assert_equal(straight, resumed)
    assert curve(tmp_path / "straight-run") == curve(run)
    infos = [json.loads((tmp_path / n / "info.json").read_text()) for n in ("straight", "resumed")]
    for info in infos:
        assert info.pop("seconds") > 0
    assert infos[0] == infos[1]


def sealed_otherwise(checkpoint: Path) -> None:
    """As if it was another training's."""
    torch.save({"trained": {}, "optimiser": {}}, checkpoint / "checkpoint.pt")
    seal(checkpoint, 3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda checkpoint: os.truncate(checkpoint / "checkpoint.pt", 1000),
        lambda checkpoint: (checkpoint / "step.json").write_text('{"step": 3}'),
        sealed_otherwise,
    ],
)
def test_a_training_whose_checkpoint_is_damaged_equals_one_from_the_start(
    small_stages: Small, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    straight = train(small_stages, "d2", tmp_path / "straight")
    run = tmp_path / "run"
    with pytest.raises(InterruptedHere):
        train(small_stages, "d2", tmp_path / "never", Interrupting(run, 3))
    damage(run / "checkpoint")
    anew = train(small_stages, "d2", tmp_path / "anew", LocalContext(run))
    assert_equal(straight, anew)
    assert curve(tmp_path / "straight-run") == curve(run)


def test_a_checkpoint_on_notice_is_reported_and_changes_nothing_else(
    small_stages: Small, tmp_path: Path
) -> None:
    questions: list[int] = []
    checkpoints: list[int] = []

    class Noticing(LocalContext):
        def must_checkpoint(self, step: int) -> bool:
            questions.append(step)
            return step in (2, 5)

        def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
            super().report(metrics, checkpoint)
            if checkpoint is not None:
                checkpoints.append(int(metrics["step"]))
            if len(checkpoints) == 1 and not resumed:
                raise InterruptedHere

    straight = train(small_stages, "d2", tmp_path / "straight")
    run, resumed = tmp_path / "run", False
    with pytest.raises(InterruptedHere):
        train(small_stages, "d2", tmp_path / "never", Noticing(run))
    assert (questions, checkpoints) == ([1, 2], [2])
    resumed = True
    assert_equal(straight, train(small_stages, "d2", tmp_path / "out", Noticing(run)))
    # Those at 3 and 6 are the regular ones.
    assert (questions, checkpoints) == ([1, 2, 3, 4, 5, 6], [2, 3, 5, 6])


def test_a_finished_training_finishes_again_without_a_step(
    small_stages: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = LocalContext(tmp_path / "run")
    first = train(small_stages, "d2", tmp_path / "first", context)
    monkeypatch.setattr("trainables.datasets.batches.Batches.read", None)
    again = train(small_stages, "d2", tmp_path / "again", LocalContext(tmp_path / "run"))
    assert_equal(first, again)
    assert (tmp_path / "first" / "info.json").read_text() == (
        tmp_path / "again" / "info.json"
    ).read_text()


@pytest.mark.parametrize("scenario", ["codec", "d1", "d3"])
def test_the_seed_decides(small_stages: Small, tmp_path: Path, scenario: str) -> None:
    first = train(small_stages, scenario, tmp_path / "first")
    torch.manual_seed(99)
    assert_equal(first, train(small_stages, scenario, tmp_path / "same"))
    of_seed_1 = train(small_stages, scenario, tmp_path / "other", seed=1)
    assert [name for name in first if not torch.equal(first[name], of_seed_1[name])]


@pytest.mark.parametrize("scenario", ["d1", "post_processing"])
def test_training_gets_better(small_stages: Small, tmp_path: Path, scenario: str) -> None:
    settings = {"steps": 60, "lr": 3e-3, "validate_every": 10}
    name = scenario
    changed = getattr(small_stages.space, name).model_copy(update=settings)
    space = small_stages.space.model_copy(update={name: changed})
    train(small_stages, scenario, tmp_path / "out", space=space)
    losses = [row["val_loss"] for row in curve(tmp_path / "out-run") if "val_loss" in row]
    assert min(losses) < (0.8 if scenario == "d1" else 0.99) * losses[0]
    info = json.loads((tmp_path / "out" / "info.json").read_text())
    assert info["val_loss"] == min(losses)


@pytest.mark.parametrize(("keep", "step", "loss"), [("best", 4, 2.0), ("last", 6, 9.0)])
def test_the_best_or_the_last_weights_are_kept(
    small_stages: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keep: str,
    step: int,
    loss: float,
) -> None:
    settings = {"validate_every": 1, "checkpoint_every": 1, "keep": keep}
    d1 = small_stages.space.d1.model_copy(update=settings)
    space = small_stages.space.model_copy(update={"d1": d1})
    values = iter([5.0, 3.0, 4.0, 2.0, 2.0, 9.0])
    monkeypatch.setattr(trainables.training.loop, "validate", lambda *_: {"loss": next(values)})
    seen: dict[int, torch.Tensor] = {}

    class Watching(LocalContext):
        def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
            assert checkpoint is not None
            content = torch.load(checkpoint / "checkpoint.pt", weights_only=True)
            seen[int(metrics["step"])] = content["trained"]["neck.position"].clone()
            super().report(metrics, checkpoint)

    weights = train(small_stages, "d1", tmp_path / "out", Watching(tmp_path / "run"), space)
    assert torch.equal(weights["neck.position"], seen[step])
    assert not torch.equal(seen[4], seen[6])
    assert json.loads((tmp_path / "out" / "info.json").read_text())["val_loss"] == loss


@pytest.mark.parametrize("where", ["training", "validation"])
def test_divergence_is_raised_before_anything_bad_is_kept(
    small_stages: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    d1 = small_stages.space.d1.model_copy(update={"validate_every": 2, "checkpoint_every": 2})
    space = small_stages.space.model_copy(update={"d1": d1})
    if where == "training":
        plain = trainables.training.loop.Batches.read

        def read(self: Any, step: int) -> Any:
            batch = plain(self, step)
            if step == 3:
                batch.y_hat[0, 0, 0, 0] = float("nan")
            return batch

        monkeypatch.setattr(trainables.training.loop.Batches, "read", read)
    else:
        results = iter([{"loss": 1.0}, {"loss": float("nan")}])
        monkeypatch.setattr(trainables.training.loop, "validate", lambda *_: next(results))
    with pytest.raises(Diverged, match="step 4"):
        train(small_stages, "d1", tmp_path / "out", LocalContext(tmp_path / "run"), space)
    assert not (tmp_path / "out").exists()
    kept = torch.load(tmp_path / "run" / "checkpoint" / "checkpoint.pt", weights_only=True)
    assert kept["step"] == 2
    assert all(bool(value.isfinite().all()) for value in kept["trained"].values())


@pytest.mark.parametrize("split", ["train", "val"])
def test_what_the_reader_raises_is_raised_by_the_training_and_the_reader_ends(
    small_stages: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    plain = trainables.datasets.rows.Rows.batch
    error = UnreadableImageError("its disk is gone")

    def batch(self: Rows, *arguments: Any) -> Any:
        if self.split == split:
            raise error
        return plain(self, *arguments)

    monkeypatch.setattr(trainables.datasets.rows.Rows, "batch", batch)
    with pytest.raises(UnreadableImageError) as raised:
        train(small_stages, "d1", tmp_path / "out")
    assert raised.value is error
    assert [t for t in threading.enumerate() if t.name.startswith("read_ahead")] == []


class CountingWaits(TorchFunctionMode):
    """Counts what makes a process wait for its GPU: values of tensors that Python gets."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        names = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")
        self.count += getattr(func, "__name__", "") in names
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("scenario", ["d1", "d2"])
def test_a_step_waits_for_its_device_once(
    small_stages: Small, tmp_path: Path, scenario: str
) -> None:
    waits = []
    for steps in (8, 9):
        settings = {"validate_every": 40, "checkpoint_every": 40, "steps": steps}
        changed = getattr(small_stages.space, scenario).model_copy(update=settings)
        space = small_stages.space.model_copy(update={scenario: changed})
        with CountingWaits() as waiting:
            train(small_stages, scenario, tmp_path / str(steps), space=space)
        waits.append(waiting.count)
    # Both report and validate once, at their end.
    assert waits[1] - waits[0] == 1


def test_a_batch_in_slices_trains_like_a_whole_one(small_stages: Small, tmp_path: Path) -> None:
    whole = train(small_stages, "d1", tmp_path / "whole")
    short = {**small_stages.space.d1.model_dump(), "accumulate": 3}
    space = small_stages.space.model_copy(update={"d1": NeckTraining.model_validate(short)})
    sliced = train(small_stages, "d1", tmp_path / "sliced", space=space)
    # A bias of the keys changes no attention: its gradient is rounding, which Adam makes large.
    for name in whole.keys() - {"neck.blocks.0.qkv.bias"}:
        torch.testing.assert_close(sliced[name], whole[name], atol=1e-6, rtol=1e-5)
    rows = curve(tmp_path / "whole-run"), curve(tmp_path / "sliced-run")
    for whole_row, sliced_row in zip(*rows, strict=True):
        assert whole_row == pytest.approx(sliced_row, rel=1e-3)


@pytest.mark.parametrize("scenario", ["d1", "d2"])
def test_bf16_trains_near_fp32(small_stages: Small, tmp_path: Path, scenario: str) -> None:
    space = small_stages.space
    spec = getattr(space, scenario)
    low = space.model_copy(update={scenario: spec.model_copy(update={"precision": "bf16"})})
    weights = train(small_stages, scenario, tmp_path / "low", space=low)
    train(small_stages, scenario, tmp_path / "full", space=space)
    assert {value.dtype for value in weights.values()} == {torch.float32}
    low_row, full = (curve(tmp_path / f"{name}-run")[0] for name in ("low", "full"))
    assert low_row["loss"] != full["loss"]
    assert low_row["loss"] == pytest.approx(full["loss"], rel=0.05)


def test_the_learning_rate_follows_the_spec() -> None:
    spec = Optimiser(steps=10, warmup_steps=3, lr_drop_at=0.8, lr_drop=0.1)
    factors = [learning_rate_factor(spec, step) for step in range(10)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.1, 0.1])
    assert learning_rate_factor(Optimiser(steps=10), 0) == 1
    linear = Optimiser(steps=10, lr_drop_at=0.5, lr_drop=0.2, lr_decay="linear")
    factors = [learning_rate_factor(linear, step) for step in range(10)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 1, 0.84, 0.68, 0.52, 0.36])


def test_a_neck_from_the_encoder_starts_at_the_regression_of_its_patch_embeddings(
    small_stages: Small, tmp_path: Path
) -> None:
    teacher = small_stages.space.teacher.model
    space = make_space(
        Path(teacher),
        neck={"layers": 2, "init": "encoder", "mlp_ratio": 2},
        d1={"steps": 1, "batch_size": 4, "lr": 1e-12},
    )
    weights = train(small_stages, "d1", tmp_path / "out", space=space)
    sources = (small_stages.world, small_stages.latents, None, SHARD)
    (rows,) = in_order(Rows("train", ("image", "y_hat"), *sources), 99)
    rows = rows.to(torch.device("cpu"))
    assert rows.image is not None
    assert rows.y_hat is not None
    clip = CLIPModel.from_pretrained(teacher)
    embeddings = clip.vision_model.embeddings
    pixels = Preprocessing(56, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)(rows.image)
    with torch.no_grad():
        patches = embeddings(pixels)[:, 1:] - embeddings.position_embedding.weight[1:]
    x = rows.y_hat.movedim(1, -1).flatten(0, 2).numpy()
    y = patches.flatten(0, 1).numpy()
    expected = Ridge(alpha=1e-3 * np.square(x).sum(0).mean()).fit(x, y)
    np.testing.assert_allclose(weights["neck.linear.weight"], expected.coef_, atol=1e-4)
    np.testing.assert_allclose(weights["neck.linear.bias"], expected.intercept_, atol=1e-4)


def test_rows_of_the_curve_say_what_people_look_for(small_stages: Small) -> None:
    text = (small_stages.root / "d1-context" / "curve.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["step"] for row in rows] == [3, 4, 6]
    assert all({"steps", "loss", "lr", "images_per_s"} <= row.keys() for row in rows)
    assert "val_loss" in rows[-1]
    info = json.loads((small_stages.codec / "info.json").read_text())
    assert {"val_bpp_estimated", "val_psnr", "val_loss", "steps", "seconds"} <= info.keys()
    weights = load_file(small_stages.d1 / "model.safetensors")
    info = json.loads((small_stages.d1 / "info.json").read_text())
    size = sum(value.numel() for value in weights.values())
    assert info["parameters"] == {"trained": size, "neck": size}


def train_with_workers(small: Small, root: Path, scenarios: list[str], count: int) -> None:
    """Train scenarios with several processes, into directories of their names."""
    root.mkdir()
    names = ("world", "codec", "features", "latents", "text")
    inputs = {name: str(getattr(small, name)) for name in names} | {"start": str(small.d1)}
    given = {"space": small.space.model_dump(mode="json"), "inputs": inputs}
    (root / "given.json").write_text(json.dumps(given))
    command = [sys.executable, "-m", "tests.trainables.ddp_worker", str(root)]
    running = [
        subprocess.Popen(
            [*command, str(rank), str(count), *scenarios], cwd=Path(__file__).parents[3]
        )
        for rank in range(count)
    ]
    assert [process.wait(timeout=600) for process in running] == [0] * count


def test_a_context_slices_batches_more_than_the_settings_do(
    small_stages: Small, tmp_path: Path
) -> None:
    """As after a training ran out of memory: four slices, asked for in two ways, are the same."""
    spaces = {
        n: small_stages.space.model_copy(
            update={"d1": small_stages.space.d1.model_copy(update={"accumulate": n})}
        )
        for n in (1, 2, 4)
    }
    context = LocalContext(tmp_path / "run", accumulation_factor=2)
    weights = train(small_stages, "d1", tmp_path / "sliced", context, spaces[2])
    assert_equal(weights, train(small_stages, "d1", tmp_path / "four", space=spaces[4]))
    whole = train(small_stages, "d1", tmp_path / "whole", space=spaces[1])
    assert any(not torch.equal(weights[name], whole[name]) for name in whole), "nothing is sliced"
    for name, value in whole.items():
        if not name.endswith("qkv.bias"):
            torch.testing.assert_close(weights[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_two_workers_with_sliced_batches_equal_one(small_stages: Small, tmp_path: Path) -> None:
    # Batches of 5 do not divide evenly; 6 validation rows make a batch for each worker.
    scenarios = ["d1", "d2", "post_processing"]
    settings = {
        n: getattr(small_stages.space, n).model_copy(update={"batch_size": 5}) for n in scenarios
    }
    # At d2's default, GDN's weights near 0 have gradients as small as their rounding, and Adam
    # scales both up to a step.
    settings["d2"] = settings["d2"].model_copy(update={"delta": 1.0})
    sliced = {n: spec.model_copy(update={"accumulate": 2}) for n, spec in settings.items()}
    single = Small(small_stages.space.model_copy(update=settings), small_stages.root)
    several = Small(small_stages.space.model_copy(update=sliced), small_stages.root)
    two = tmp_path / "two"
    train_with_workers(several, two, scenarios, 2)
    for scenario in scenarios:
        runs = [two / f"{scenario}-run" / f"rank{rank}" for rank in (0, 1)]
        assert curve(runs[0]) == curve(runs[1])
        parallel = load_file(two / scenario / "model.safetensors")
        misfits: list[tuple[str, int, float]] = []
        for name, value in train(single, scenario, tmp_path / scenario).items():
            if name.endswith("qkv.bias"):
                # Keys' biases change nothing; Adam scales their gradient's rounding noise up.
                keys = slice(len(value) // 3, 2 * len(value) // 3)
                value[keys] = parallel[name][keys]
            off = ~torch.isclose(parallel[name], value, atol=1e-5, rtol=1e-4)
            misfits.append((name, int(off.sum()), (parallel[name] - value).abs().max().item()))
        # Of a U-Net, single weights behind a ReLU have a gradient near 0, whose rounding Adam
        # scales up, too.
        few = 3 if scenario == "post_processing" else 0
        assert sum(count for _, count, _ in misfits) <= few, misfits
        assert max(difference for *_, difference in misfits) < 0.1 * settings[scenario].lr
        rows = zip(curve(tmp_path / f"{scenario}-run"), curve(runs[0]), strict=True)
        for expected, row in rows:
            assert row == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_test_images_are_not_read_by_training_and_validation(
    small_stages: Small, tmp_path: Path, scenario: str
) -> None:
    """Where a test part stands beside the others, one that nothing can read, all is as before."""
    root = tmp_path / "small"
    for name in ("world", "codec", "features", "latents", "text", "d1"):
        shutil.copytree(getattr(small_stages, name), root / name)
    for name in ("images_test", "tasks_test"):
        (root / "world" / f"{name}.parquet").write_bytes(b"no table")
    beside = dataclasses.replace(small_stages, root=root)
    with pytest.raises(pa.ArrowInvalid):
        TestImages([beside.world])
    assert_equal(
        train(beside, scenario, tmp_path / "beside"),
        train(small_stages, scenario, tmp_path / "without"),
    )


def test_test_images_are_not_read_before_training(small_stages: Small, tmp_path: Path) -> None:
    """Nor by the teacher's features, the frozen latents and the texts that training reads."""
    world = shutil.copytree(small_stages.world, tmp_path / "world")
    for name in ("images_test", "tasks_test"):
        (world / f"{name}.parquet").write_bytes(b"no table")
    space, codec = small_stages.space, small_stages.space.codecs[0]
    write_shards(TeacherFeatures(space), world, tmp_path / "features")
    write_shards(CodecLatents(codec, small_stages.codec), world, tmp_path / "latents")
    write_text_weights(space, world, tmp_path / "text" / "text.safetensors")
    for name in ("features", "latents"):
        files = sorted(path.name for path in (tmp_path / name).iterdir())
        assert files == sorted(path.name for path in getattr(small_stages, name).iterdir())
        assert not [file for file in files if "test" in file]

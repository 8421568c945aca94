"""A training says what it and what it starts from were trained on."""

import json
from pathlib import Path

from tests.trainables.conftest import Small
from tests.trainables.small import point
from trainables.points.inputs import Inputs
from trainables.training.context import LocalContext
from trainables.training.history import recorded_trainings, trainings_before
from trainables.training.train import train_codec, train_point


def info_of(directory: Path) -> dict[str, object]:
    info: dict[str, object] = json.loads((directory / "info.json").read_text())
    return info


def test_a_point_lists_the_codec_and_the_neck_that_it_starts_from(
    small_stages: Small, tmp_path: Path
) -> None:
    space, small = small_stages.space, small_stages
    (codec,) = space.codecs
    context = LocalContext(tmp_path / "run-codec")
    train_codec(codec, codec.lambdas[0], Inputs(small.world), tmp_path / "codec", context)
    for name, start in (("d1", None), ("d2", tmp_path / "d1")):
        inputs = Inputs(
            small.world, tmp_path / "codec", small.features, small.latents, start, small.text
        )
        run = LocalContext(tmp_path / f"run-{name}")
        train_point(space, point(space, name), inputs, tmp_path / name, run)
    of_codec, d1, d2 = (info_of(tmp_path / name) for name in ("codec", "d1", "d2"))
    assert of_codec["before"] == []
    assert of_codec["images"] == codec.train.steps * codec.train.batch_size
    before = d2["before"]
    assert isinstance(before, list)
    assert [training["of"] for training in before] == ["base codec", "d1"]
    for training, info in zip(before, (of_codec, d1), strict=True):
        assert training == {name: info[name] for name in training}


def test_what_uses_a_stage_of_an_earlier_version_does_not_know_its_training(
    tmp_path: Path,
) -> None:
    (tmp_path / "info.json").write_text('{"steps": 64, "seconds": 3.0}')
    (before,) = trainings_before(tmp_path, None)
    assert (before["steps"], before["images"], before["until"]) == (64, None, None)


def test_weights_without_a_record_say_nothing(tmp_path: Path) -> None:
    assert recorded_trainings(str(tmp_path)) == []
    assert recorded_trainings("compressai:mse") == []
    (tmp_path / "accuracy.json").write_text('{"trainings": [{"of": "base codec"}]}')
    assert recorded_trainings(str(tmp_path)) == [{"of": "base codec"}]

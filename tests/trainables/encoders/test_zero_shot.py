"""Zero-shot classification: the encoder's ranking, its metric, and the whole evaluation."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score

from search_spaces import OperatingPoint
from search_spaces.specs.data import DataSpec
from tests.trainables.image_folders import write_folder
from tests.trainables.small import make_space, save_teacher
from trainables.datasets.arrays import decode_image
from trainables.datasets.images.convert import (
    ImageShards,
    write_classes,
    write_image_samples,
    write_index,
    write_part,
)
from trainables.datasets.images.source import read_source
from trainables.encoders.load import load_tower
from trainables.encoders.partial_encoder import Teacher
from trainables.encoders.text_embeddings import read_text_weights, write_text_weights
from trainables.encoders.zero_shot import ZeroShot
from trainables.evaluation.evaluate import PointFiles, TaskEvaluation, evaluate_point
from trainables.points.inputs import Inputs
from trainables.tasks import TASKS, image_tasks
from trainables.training.context import LocalContext
from trainables.training.train import train_codec


class _Pooled(torch.nn.Module):
    """Stands for an encoder whose pooled features are given."""

    pool = torch.nn.Identity()


def test_accuracies_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    classes, count = 12, 200
    names = [f"class {c % 7}" for c in range(classes)]  # a name may stand twice
    scores = rng.normal(size=(count, classes)).astype(np.float32)
    labels = rng.integers(0, classes, count)
    text = torch.eye(classes)
    answers = ZeroShot(_Pooled(), text, names).answer(  # type: ignore[arg-type]
        ["<image>"] * count, [[row] for row in torch.from_numpy(scores)], 1, 33
    )
    references = [json.dumps({"class": f"{c} {names[c]}"}) for c in labels]
    found = TASKS.get("classification").score(answers, references)
    for name, k in (("accuracy", 1), ("accuracy_top5", 5)):
        expected = top_k_accuracy_score(labels, scores, k=k, labels=range(classes))
        assert found[name].mean() == pytest.approx(expected)


def test_text_weights_must_belong_to_the_classes() -> None:
    with pytest.raises(ValueError, match=r"4 .* 3 classes"):
        ZeroShot(_Pooled(), torch.eye(4), ["a", "b", "c"])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder_world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A teacher, and a world of a folder with the three classes that its tokenizer knows."""
    root = tmp_path_factory.mktemp("classification")
    save_teacher(root / "teacher")
    write_folder(root / "set", {"red": 8, "green": 8, "blue": 8}, side=90)
    (root / "set" / "notes.txt").write_text("no image")
    data = DataSpec.model_validate(
        {"kind": "folder", "uri": str(root / "set"), "size": 64, "train": 12, "val": 3, "test": 9}
    )
    source = read_source(data)
    write_index(source, root / "index")
    convert_part = ImageShards(data, root / "index")
    for split in ("train", "val", "test"):
        out = root / "world" / f"images_{split}" / "part-00000.parquet"
        part = convert_part(split, (0, source.count(split)))
        write_part(part, out)
    write_classes(root / "world", source.classes)
    write_image_samples(root / "world", [part], list(source.classes.values()), image_tasks())
    classes = json.loads((root / "world" / "classes.json").read_text())
    classes["templates"] = ["a photo of {}", "{}"]  # words of the tiny tokenizer
    (root / "world" / "classes.json").write_text(json.dumps(classes))
    return root, root / "set"


def test_a_folder_is_classified_by_the_encoder_alone(folder_world: tuple[Path, Path]) -> None:
    root, folder = folder_world
    data = {"kind": "folder", "uri": str(folder), "size": 64, "train": 12, "val": 3, "test": 9}
    space = make_space(root / "teacher", data=data, mllms=[], tasks=["classification"])
    teacher = space.teacher.model
    (measurement,) = space.measurements
    assert (measurement.answerer, measurement.task) == (teacher, "classification")
    write_text_weights(space, root / "world", root / "text" / "text.safetensors")
    codec = space.codecs[0]
    inputs = Inputs(root / "world", root / "codec", text=root / "text")
    train_codec(codec, 0.01, inputs, root / "codec", LocalContext(root / "run"))

    points = {
        "uncompressed": OperatingPoint(None, None, "uncompressed", 0),
        "reconstruction": OperatingPoint(codec, 0.01, "reconstruction", 0),
    }
    for name, point in points.items():
        work = root / f"{name}-work"
        evaluation = TaskEvaluation(measurement, root / "world", root / "world", root / name)
        files = PointFiles(root / "none", root / "codec", root / "text")
        evaluate_point(space, point, [evaluation], files, work)
        rows = pq.read_table(root / name / "samples.parquet").to_pylist()
        assert {row["metric"] for row in rows} == {"accuracy", "accuracy_top5"}
        assert {row["mllm"] for row in rows} == {teacher}
        summary = json.loads((root / name / "summary.json").read_text())["classification"]
        assert summary["n_samples"] == 9
        assert summary["metrics"]["accuracy_top5"] == 1.0, "there are but three classes"
        assert len(list((root / name / "examples").glob("*.png"))) == 3
    assert summary["bpp"] < 24
    assert summary["psnr"] > 0

    # Against transformers' own CLIP on the same crops, without anything in between.
    clip = load_tower(teacher).model
    text = read_text_weights(root / "text")
    right = []
    part = root / "world" / "images_test" / "part-00000.parquet"
    for row in pq.read_table(part).to_pylist():
        image = torch.from_numpy(decode_image(row["png"]).copy()).permute(2, 0, 1)[None] / 255
        pixels = Teacher(load_tower(teacher)).preprocess(image)
        with torch.no_grad():
            vision = clip.vision_model(pixel_values=pixels).pooler_output
            logits = clip.visual_projection(vision) @ text
        right.append(float(logits.argmax() == row["classes"][0]))
    rows = pq.read_table(root / "uncompressed" / "samples.parquet").to_pylist()
    assert [row["value"] for row in rows if row["metric"] == "accuracy"] == right
    assert {row["bpp"] for row in rows} == {24.0}

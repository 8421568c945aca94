"""Every published format, from its files to its metric."""

import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from search_spaces.specs.benchmark import benchmark_spec
from tests.trainables.benchmark_files import COCO, WRITERS, crop, write_images
from trainables.datasets.benchmarks.read import read_benchmark
from trainables.datasets.benchmarks.write import write_benchmark
from trainables.datasets.images.decode import fit
from trainables.datasets.images.image_store import image_files
from trainables.evaluation.test_set import TestImages
from trainables.tasks import TASKS
from trainables.tasks.common.set_metrics import set_values

SIZE = 64


class Converted:
    """What an evaluation finds of a benchmark: samples by name, with their references as data."""

    def __init__(self, settings: dict[str, Any], out: Path) -> None:
        self.spec = benchmark_spec(settings)
        self.about = write_benchmark(self.spec, SIZE, 0.0, out)
        rows = pq.read_table(out / "tasks_test.parquet").to_pylist()
        self.rows = {row["sample_id"]: row for row in rows}
        self.references = {i: json.loads(row["reference"]) for i, row in self.rows.items()}
        (file,) = image_files(out, "test")
        self.images = {row["image_id"]: row["png"] for row in pq.read_table(file).to_pylist()}
        assert {i for row in rows for i in row["image_ids"]} <= set(self.images)
        assert {row["task"] for row in rows} == {self.spec.task}
        assert all(row["prompt"].count("<image>") == len(row["image_ids"]) for row in rows)
        assert len(self.rows) == len(rows)

    def score(self, answer: Callable[[dict[str, Any]], str]) -> dict[str, float]:
        """All metrics of answers that a reference decides."""
        task = TASKS.get(self.spec.task)
        said = [answer(self.references[i]) for i in self.rows]
        references = [row["reference"] for row in self.rows.values()]
        found = {m: float(v.mean()) for m, v in task.score(said, references).items()}
        return found | {m: v.value for m, v in set_values(task, said, references).items()}


def _box(scale: float) -> Callable[[dict[str, Any]], str]:
    def answer(reference: dict[str, Any]) -> str:
        return json.dumps([value * scale / reference["size"] for value in reference["box"]])

    return answer


RIGHT: dict[str, tuple[Callable[[dict[str, Any]], str], Callable[[dict[str, Any]], str], Any]] = {
    "coco_karpathy": (lambda r: r["captions"][1], lambda r: "zebra", {"rouge_l": 1, "bleu4": 1}),
    "seed_bench": (lambda r: r["answer"], lambda r: "A", {"accuracy": 1, "answered": 1}),
    "mmbench": (
        lambda r: f"({r['answer']})",
        lambda r: "D",
        {"accuracy": 1, "answered": 1, "accuracy_circular": 1},
    ),
    "pope": (
        lambda r: f"{r['answer'].capitalize()}.",
        lambda r: "maybe",
        {"accuracy": 1, "f1": 1, "precision": 1, "recall": 1, "yes_ratio": 3 / 5},
    ),
    "vqav2": (lambda r: r["answers"][-2], lambda r: "what", {"accuracy": 1}),
    "refcoco": (_box(1.0), _box(0.2), {"accuracy@0.5": 1}),
    "refs": (_box(1.0), _box(0.2), {"accuracy@0.5": 1}),
    "mini_imagenet": (lambda r: f"{r['label']}.", lambda r: "that", {"accuracy": 1}),
    "imagenet": (
        lambda r: json.dumps([r["class"]]),
        lambda r: json.dumps(["9 x"]),
        {"accuracy": 1, "accuracy_top5": 1},
    ),
    "ocr": (lambda r: r["texts"][-1].lower(), lambda r: "12", {"exact_match": 1}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_right_answers_score_one_and_wrong_ones_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # without Java, whose metrics have their own test
    converted = Converted(WRITERS[name](tmp_path), tmp_path / "out")
    right, wrong, expected = RIGHT[name]
    found = converted.score(right)
    assert {metric: found[metric] for metric in expected} == pytest.approx(expected)
    assert set(found) == {metric.name for metric in TASKS.get(converted.spec.task).metrics}
    nothing = converted.score(wrong)
    for metric in expected:
        if metric not in ("answered",):
            assert nothing[metric] == pytest.approx(0.0, abs=1e-6), metric


def test_karpathy(tmp_path: Path) -> None:
    settings = WRITERS["coco_karpathy"](tmp_path)
    test = Converted(settings, tmp_path / "test")
    assert {i: row["image_ids"] for i, row in test.rows.items()} == {
        "42": [f"val2014/{COCO[0]}"],
        "74": [f"val2014/{COCO[2]}"],
    }
    assert test.references["42"] == {"captions": ["A house number 0.", "Roofs, 0 of them."]}
    assert list(Converted({**settings, "split": "val"}, tmp_path / "val").rows) == ["73"]


def test_seed_bench(tmp_path: Path) -> None:
    settings = WRITERS["seed_bench"](tmp_path)
    letter = Converted(settings, tmp_path / "letter")
    assert list(letter.rows) == ["100", "102"]
    assert letter.about["left_out"] == {"questions about videos": 1}
    assert letter.rows["100"]["prompt"] == (
        "<image>\nHow many things are in picture 0?\nA. 1 things\nB. 2 things\nC. 3 things\n"
        "D. 4 things\nAnswer with the letter of the right option alone."
    )
    kind = Converted({**settings, "split": "Instances Counting", "limit": 1}, tmp_path / "kind")
    assert list(kind.rows) == ["100"]
    likely = Converted({**settings, "scoring": "likelihood"}, tmp_path / "likelihood")
    assert likely.spec.task == "choice_likelihood"
    assert likely.rows["100"]["prompt"] == "<image>\nHow many things are in picture 0?\nAnswer:"
    found = likely.score(lambda r: json.dumps([-float(x != r["answer"]) for x in r["choices"]]))
    assert found == {"accuracy": 1.0, "accuracy_norm": 1.0}


def test_mmbench(tmp_path: Path) -> None:
    settings = WRITERS["mmbench"](tmp_path)
    found = Converted(settings, tmp_path / "out")
    assert {i: (r["group"], r["answer"], r["choices"]) for i, r in found.references.items()} == {
        "241": ("241", "B", {"A": "one", "B": "two"}),
        "1000241": ("241", "A", {"A": "two", "B": "one"}),
        "252": ("252", "C", {"A": "red", "B": "blue", "C": "grey"}),
    }
    assert found.rows["241"]["prompt"].startswith("<image>\nLook up.\nHow many roofs?\nA. one\nB.")
    assert found.rows["252"]["prompt"].startswith("<image>\nWhich color?\nA. red\n")
    # The image of both rotations is one, and that of the file.
    assert found.rows["241"]["image_ids"] == found.rows["1000241"]["image_ids"]
    buffer = io.BytesIO()
    crop(0).save(buffer, format="JPEG")
    text = base64.b64encode(buffer.getvalue())
    name = hashlib.sha256(text).hexdigest()[:16]
    with Image.open(io.BytesIO(found.images[name])) as png, Image.open(buffer) as original:
        np.testing.assert_array_equal(np.asarray(png), np.asarray(fit(original, SIZE)))
    # Always the same letter: right in one rotation of each, so in none of the questions.
    always = found.score(lambda r: "B")
    assert (always["accuracy"], always["accuracy_circular"]) == pytest.approx((1 / 3, 0.0))
    # A limit counts questions.
    first = Converted({**settings, "limit": 1}, tmp_path / "first")
    assert list(first.rows) == ["241", "1000241"]
    likely = Converted({**settings, "scoring": "likelihood"}, tmp_path / "likelihood")
    assert list(likely.rows) == ["241", "252"]
    assert likely.about["left_out"] == {"rotations of other questions": 1}
    assert likely.rows["241"]["prompt"] == "<image>\nLook up.\nHow many roofs?\nAnswer:"


def test_vqav2(tmp_path: Path) -> None:
    found = Converted(WRITERS["vqav2"](tmp_path), tmp_path / "out")
    assert found.rows["42000"]["image_ids"] == [COCO[0]]
    assert found.references["42000"] == {"answers": ["snow"] * 3 + ["tiles"] * 7}
    # What three of ten people said, and what nine said, one of them in a word.
    assert found.score(lambda r: r["answers"][0])["accuracy"] == pytest.approx((0.9 + 1) / 2)


def test_images_of_vqav2_without_cocos_prefix(tmp_path: Path) -> None:
    settings = WRITERS["vqav2"](tmp_path)
    write_images(tmp_path / "plain", ["000000000042.jpg", "000000000074.jpg"])
    found = Converted({**settings, "images": str(tmp_path / "plain")}, tmp_path / "out")
    assert found.rows["74001"]["image_ids"] == ["000000000074.jpg"]


@pytest.mark.parametrize("name", ["refcoco", "refs"])
@pytest.mark.parametrize("how", ["crop", "pad"])
def test_refcoco_boxes_follow_the_image(name: str, how: str, tmp_path: Path) -> None:
    # White boxes on black: their pixels in what is converted are where the reference says.
    settings = {**WRITERS[name](tmp_path), "split": "val", "fit": how}
    for i, original in enumerate([(96, 64), (64, 96), (80, 80)]):
        picture = Image.new("RGB", original)
        picture.paste((255, 255, 255), (8, 16, 48, 36))
        picture.save(tmp_path / "val2014" / COCO[i], quality=100, subsampling=0)
    found = Converted(settings, tmp_path / "out")
    assert len(found.rows) == (2 if name == "refcoco" else 4)
    for i, row in found.rows.items():
        pixels = np.asarray(Image.open(io.BytesIO(found.images[row["image_ids"][0]])))
        bright = np.argwhere(pixels.min(2) > 200)  # the padding is grey
        (y0, x0), (y1, x1) = bright.min(0), bright.max(0) + 1
        assert found.references[i]["box"] == pytest.approx([x0, y0, x1, y1], abs=1.0)


@pytest.mark.parametrize("how", ["crop", "pad"])
def test_of_a_padded_image_the_original_s_pixels_are_counted(how: str, tmp_path: Path) -> None:
    settings = {**WRITERS["refcoco"](tmp_path), "split": "val", "fit": how}
    for i, original in enumerate([(96, 64), (64, 96), (80, 80)]):
        Image.new("RGB", original, (255, 255, 255)).save(tmp_path / "val2014" / COCO[i])
    Converted(settings, tmp_path / "out")
    (file,) = image_files(tmp_path / "out", "test")
    images = TestImages([tmp_path / "out"])
    rows = pq.read_table(file).to_pylist()
    assert len(rows) >= 2
    for row in rows:
        pixels = np.asarray(Image.open(io.BytesIO(row["png"])))
        assert pixels.shape == (SIZE, SIZE, 3)
        white = int((pixels.min(2) > 250).sum())  # the padding is grey
        assert images.area(row["image_id"]) == row["width"] * row["height"] == white
    least = min(row["width"] * row["height"] for row in rows) / SIZE**2
    assert least == (1 if how == "crop" else pytest.approx(2 / 3, abs=0.02))


def test_refcoco_boxes_may_be_corners(tmp_path: Path) -> None:
    def corners(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["bbox"] = [8, 16, 48, 36]

    one = Converted(WRITERS["refcoco"](tmp_path / "xywh"), tmp_path / "one")
    settings = WRITERS["refcoco"](tmp_path / "xyxy", corners)
    other = Converted({**settings, "boxes": "xyxy"}, tmp_path / "other")
    assert one.references == other.references


def test_boxes_that_a_crop_cuts_away_are_left_out_and_said(tmp_path: Path) -> None:
    def move(rows: list[dict[str, Any]]) -> None:
        rows[0]["bbox"] = [0, 10, 20, 20]  # the crop of 96 x 64 begins at 16: a fifth is left
        rows[2]["bbox"] = [10, 30, 50, 20]

    settings = {**WRITERS["refcoco"](tmp_path, move), "fit": "crop"}
    found = Converted(settings, tmp_path / "out")
    assert found.about["boxes_outside"] == ["r0"]
    assert list(found.rows) == ["r1", "r2"]
    everything = Converted({**settings, "fit": "pad"}, tmp_path / "pad")
    assert everything.about["boxes_outside"] == []


def test_mini_imagenet_episodes(tmp_path: Path) -> None:
    settings = {**WRITERS["mini_imagenet"](tmp_path), "ways": 3, "shots": 2, "limit": 40}
    found = Converted(settings, tmp_path / "out")
    table = (tmp_path / "test.csv").read_text().split()[1:]
    keys = dict(line.split(",") for line in table)
    names = {f"n0{i}532829": f"thing {i}" for i in range(6)}
    asked = Counter()
    for i, row in found.rows.items():
        labels, reference = [names[keys[image]] for image in row["image_ids"]], found.references[i]
        assert len(set(row["image_ids"])) == len(labels) == 3 * 2 + 1
        assert Counter(labels[:-1]) == dict.fromkeys(reference["labels"], 2)
        assert labels[-1] == reference["label"]
        shown = "".join(f"<image> This is a {label}.\n" for label in labels[:-1])
        assert row["prompt"] == f"{shown}<image> This is a"
        asked[reference["label"]] += 1
    assert set(asked) == set(names.values())
    # The same seed gives the same episodes, whatever their number.
    spec = benchmark_spec({**settings, "limit": 5})
    prompts = [item.prompt for item in read_benchmark(spec).items]
    assert prompts == [row["prompt"] for row in list(found.rows.values())[:5]]
    other = benchmark_spec({**settings, "seed": 1, "limit": 5})
    assert prompts != [item.prompt for item in read_benchmark(other).items]
    # An MLLM that goes on in the manner of its prompt is read to the end of the name.
    assert found.score(lambda r: f"{r['label']}.\n This is a thing 9.")["accuracy"] == 1.0


def test_imagenet(tmp_path: Path) -> None:
    found = Converted(WRITERS["imagenet"](tmp_path), tmp_path / "out")
    assert [r["class"] for r in found.references.values()] == [
        *["0 tench"] * 2,
        *["1 goldfish"] * 2,
        *["2 shark"] * 2,
    ]
    classes = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert classes["names"] == ["tench", "goldfish", "shark"]
    assert all("{}" in template for template in classes["templates"])
    second = found.score(lambda r: json.dumps(["5 x", r["class"]]))
    assert second == {"accuracy": 0.0, "accuracy_top5": 1.0}


def test_ocr(tmp_path: Path) -> None:
    found = Converted(WRITERS["ocr"](tmp_path), tmp_path / "out")
    assert found.references == {
        "word_1.png": {"texts": ["EXIT"]},
        "word_2.png": {"texts": ["Main St.", "Main Street"]},
    }


def test_other_prompts_are_data(tmp_path: Path) -> None:
    settings = WRITERS["vqav2"](tmp_path)
    found = Converted({**settings, "prompt": "USER: <image> {question}\n"}, tmp_path / "out")
    assert found.rows["74001"]["prompt"] == "USER: <image> How many roofs?\n"

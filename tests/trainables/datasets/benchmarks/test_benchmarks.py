"""Published formats: what is read of them, and what an evaluation finds."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torchvision.transforms import functional as vision

from search_spaces import BenchmarkSpec
from search_spaces.specs.benchmark import benchmark_spec
from tests.trainables.benchmark_files import COCO, write_pope
from trainables.datasets.arrays import decode_image
from trainables.datasets.benchmarks.read import read_benchmark
from trainables.datasets.benchmarks.write import write_benchmark
from trainables.datasets.images.checksums import KeptChecksums
from trainables.datasets.images.files import list_files
from trainables.datasets.images.image_store import image_files
from trainables.datasets.images.placement import cropped, padded

SIZE = 64


def converted(spec: BenchmarkSpec, out: Path) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Samples with their references, and pixels by image."""
    write_benchmark(spec, SIZE, 0.0, out)
    samples = pq.read_table(out / "tasks_test.parquet").to_pylist()
    for sample in samples:
        sample["reference"] = json.loads(sample["reference"])
    (file,) = image_files(out, "test")
    images = {r["image_id"]: decode_image(r["png"]) for r in pq.read_table(file).to_pylist()}
    assert {i for s in samples for i in s["image_ids"]} <= images.keys()
    assert {image.shape for image in images.values()} == {(SIZE, SIZE, 3)}
    return samples, images


def test_pope(tmp_path: Path) -> None:
    spec = benchmark_spec(write_pope(tmp_path))
    samples, images = converted(spec, tmp_path / "out")
    assert [s["sample_id"] for s in samples] == ["1", "2", "3", "4", "5"]
    assert [s["reference"]["answer"] for s in samples] == ["yes", "no", "yes", "no", "yes"]
    assert {s["task"] for s in samples} == {"yes_no"}
    assert samples[1]["prompt"] == "<image>\nIs there a dog in the image?\nAnswer with yes or no."
    assert samples[1]["image_ids"] == ["COCO_val2014_000000000042.jpg"]
    assert len(images) == 3
    # The same pixels as torchvision's resize and crop of the file.
    with Image.open(tmp_path / "val2014" / "COCO_val2014_000000000042.jpg") as opened:
        expected = vision.center_crop(
            vision.resize(opened, SIZE, vision.InterpolationMode.BICUBIC), SIZE
        )
    np.testing.assert_array_equal(images["COCO_val2014_000000000042.jpg"], np.asarray(expected))


def test_a_limit_takes_the_first_or_draws_from_the_seed(tmp_path: Path) -> None:
    settings = write_pope(tmp_path)

    def ids(**more: object) -> list[str]:
        spec = benchmark_spec({**settings, **more})
        return [item.sample_id for item in read_benchmark(spec).items]

    assert ids(limit=2) == ["1", "2"]
    drawn = {tuple(ids(limit=2, seed=seed)) for seed in range(8)}
    assert len(drawn) > 2
    assert all(list(one) == sorted(one) for one in drawn)
    assert ids(limit=99) == ids() == ["1", "2", "3", "4", "5"]


def test_images_are_found_by_path_by_name_and_without_cocos_prefix(tmp_path: Path) -> None:
    settings = write_pope(tmp_path)
    folder = tmp_path / "val2014"
    (folder / "deep").mkdir()
    (folder / "COCO_val2014_000000000042.jpg").rename(folder / "deep" / "000000000042.jpg")
    found = read_benchmark(benchmark_spec(settings))
    assert found.items[0].images == ("deep/000000000042.jpg",)
    assert found.items[2].images == ("COCO_val2014_000000000073.jpg",)


def test_other_files_give_another_fingerprint(tmp_path: Path) -> None:
    spec = benchmark_spec(write_pope(tmp_path))
    annotations, image = tmp_path / "coco_pope_random.json", tmp_path / "val2014" / COCO[0]

    def fingerprint() -> str:
        list_files.cache_clear()
        return read_benchmark.__wrapped__(spec).fingerprint(KeptChecksums(None))

    prints = [fingerprint()]
    os.utime(image, (1, 1))
    assert fingerprint() == prints[0]
    annotations.write_text(annotations.read_text().replace("roof", "wall"))
    prints.append(fingerprint())
    image.write_bytes(b"other")
    prints.append(fingerprint())
    assert len(set(prints)) == 3


def test_unreadable_images_cost_their_samples_or_everything(tmp_path: Path) -> None:
    spec = benchmark_spec(write_pope(tmp_path))
    (tmp_path / "val2014" / "COCO_val2014_000000000073.jpg").write_bytes(b"\xff\xd8\xff")
    about = write_benchmark(spec, SIZE, 0.5, tmp_path / "some")
    assert (about["samples"], about["images"]) == (3, 2)
    assert list(about["unreadable"]) == ["COCO_val2014_000000000073.jpg"]
    assert json.loads((tmp_path / "some" / "benchmark.json").read_text()) == about
    with pytest.raises(ValueError, match=r"1 of 3 .*pope"):
        write_benchmark(spec, SIZE, 0.1, tmp_path / "none")


@pytest.mark.parametrize("original", [(96, 64), (63, 97), (64, 64), (130, 70), (31, 500)])
@pytest.mark.parametrize("place", [cropped, padded])
def test_boxes_follow_the_image(place: object, original: tuple[int, int]) -> None:
    # A white box on black is resized as the image is; its bright pixels are where the box says.
    width, height = original
    box = (width * 0.3, height * 0.4, width * 0.7, height * 0.6)
    where = place(original, SIZE)  # type: ignore[operator]
    x0, y0, x1, y1 = where.box(box, original)
    scale = where.width / width
    assert (x1 - x0) / (0.4 * width) == pytest.approx(scale)
    assert (y1 - y0) / (0.2 * height) == pytest.approx(where.height / height)
    assert where.height / height == pytest.approx(scale, rel=0.04)
    # The middle of the image is the middle of the square.
    assert (x0 + x1) / 2 == pytest.approx(SIZE / 2, abs=0.51)
    assert (y0 + y1) / 2 == pytest.approx(SIZE / 2, abs=0.51)

"""Classical codecs: bytes and images are those of Pillow, and they are points like any other."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from search_spaces import Stages, load_space, operating_points
from search_spaces.classical_spec import QUALITIES, ClassicalSpec
from tests.trainables.test_evaluate import Setting
from trainables.evaluation import evaluate_point
from trainables.images.classical import ClassicalCodec, library
from trainables.train import Inputs


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image("china.jpg")[100:356, 200:456])


MAGIC = {"jpeg": b"\xff\xd8\xff", "jpeg2000": b"\xff\x4f\xff\x51", "webp": b"RIFF", "avif": b"\0"}


@pytest.mark.parametrize("format", QUALITIES)
def test_a_file_is_the_standard_s_and_more_quality_takes_more_bytes(
    format: str, photograph: np.ndarray
) -> None:
    if library(format) is None:
        pytest.skip(f"this Pillow cannot write {format}")
    sizes, errors = [], []
    for quality in ClassicalSpec(format=format).rates:
        codec = ClassicalCodec(format, quality)
        data = codec.encode(photograph)
        assert data.startswith(MAGIC[format])
        with Image.open(io.BytesIO(data)) as opened:
            assert opened.format == {"jpeg2000": "JPEG2000"}.get(format, format.upper())
            assert not opened.getexif()
            expected = np.asarray(opened.convert("RGB"))
        decoded = codec.decode(data)
        np.testing.assert_array_equal(decoded, expected)
        sizes.append(8 * len(data) / 256**2)
        errors.append(10 * np.log10(255**2 / np.mean((decoded.astype(float) - photograph) ** 2)))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors)
    assert sizes[-1] > 4 * sizes[0], "the qualities span the rates"
    if format == "jpeg2000":  # its quality is the PSNR in dB that it aims at
        assert np.abs(np.array(errors) - ClassicalSpec(format=format).rates).max() < 1.5


def test_qualities_that_a_format_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="qualities of jpeg are 1 to 95, not 99"):
        ClassicalSpec(format="jpeg", qualities=(10, 99))
    with pytest.raises(ValueError, match="names something twice"):
        ClassicalSpec(format="webp", qualities=(10, 10))


def test_points_have_qualities_and_their_keys_the_library() -> None:
    space = load_space("smoke", ["classical=[{format: jpeg, qualities: [5, 20]}]"])
    points = [point for point in operating_points(space) if point.classical]
    assert [point.label for point in points] == ["jpeg quality=5", "jpeg quality=20"]
    assert points[0].fields | {"seed": 0} == {
        "codec": "jpeg",
        "lmbda": None,
        "scenario": "classical",
        "seed": 0,
        "quality": 5,
    }
    one, other = (Stages(space, {"jpeg": version}) for version in ("1", "2"))
    keys = {stages.point(point).key for stages in (one, other) for point in points}
    assert len(keys) == 4


def test_an_evaluation_counts_the_files_bytes(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    space = setting.space.model_copy(
        update={"classical": (ClassicalSpec(format="jpeg", qualities=(20,)),)}
    )
    (point,) = (one for one in operating_points(space) if one.classical)
    inputs = Inputs(world=tmp_path / "world")
    out = tmp_path / "out"
    evaluate_point(space, point, setting.measurement, inputs, out, out, tmp_path / "work")
    images = setting.images()
    for row in pq.read_table(out / "images.parquet").to_pylist():
        levels = (images[row["image_id"]][0] * 255).round().byte()
        pixels = levels.permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=20, optimize=True, progressive=True)
        assert row["n_bytes"] == len(file.getvalue())
        assert row["bpp"] == 8 * row["n_bytes"] / 64**2
        assert row["bpp_estimated"] is None
        with Image.open(file) as opened:
            decoded = np.asarray(opened.convert("RGB"))
        errors = (decoded.astype(float) - pixels) / 255
        expected = -10 * np.log10(np.mean(errors**2))
        assert row["psnr"] == pytest.approx(expected, abs=1e-3)
    summary = json.loads((out / "summary.json").read_text())
    assert all(task["bpp_estimated"] is None for task in summary.values())
    assert len(list((out / "examples").glob("*.png"))) == 2

"""Classical codecs: bytes and images are those of Pillow, and they are points like any other."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.sweep import main
from search_spaces import Stages, load_space, operating_points, point_stage
from search_spaces.scenarios.classical import QUALITIES, ClassicalCodecs, ClassicalSpec
from tests.trainables.evaluation.setting import Setting, joined
from trainables.evaluation.evaluate import PointFiles, TaskEvaluation, evaluate_point
from trainables.standards import vvc
from trainables.standards.files import ClassicalCodec, lacking


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image("china.jpg")[100:356, 200:456])


MAGIC = {"jpeg": b"\xff\xd8\xff", "jpeg2000": b"\xff\x4f\xff\x51", "webp": b"RIFF", "avif": b"\0"}


@pytest.mark.parametrize("format", [one for one in QUALITIES if one != "vvc"])
def test_a_file_is_the_standard_s_and_more_quality_takes_more_bytes(
    format: str, photograph: np.ndarray
) -> None:
    if (reason := lacking(format)) is not None:
        pytest.skip(reason)
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


def test_vvc_is_a_bare_stream_that_another_decoder_reads(photograph: np.ndarray) -> None:
    if (reason := lacking("vvc")) is not None:
        pytest.skip(reason)
    sizes, errors = [], []
    for qp in ClassicalSpec(format="vvc").rates:
        codec = ClassicalCodec("vvc", qp)
        data = codec.encode(photograph)
        kinds = nal_units(data)
        # H.266, table 5: 15 and 16 are the parameter sets; 7 to 9 are pictures to start from (IDR,
        # CRA), of which there is one; 17 and 18, 12 to 14 are the picture's own parameters, and 20
        # its access unit.
        assert {15, 16} <= set(kinds)
        assert sum(kind in (7, 8, 9) for kind in kinds) == 1
        assert not [kind for kind in kinds if kind < 7], "a picture that refers to others"
        decoded = codec.decode(data)
        assert decoded.shape == photograph.shape
        sizes.append(8 * len(data) / 256**2)
        errors.append(10 * np.log10(255**2 / np.mean((decoded.astype(float) - photograph) ** 2)))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors)
    assert sizes[-1] > 4 * sizes[0], "the qualities span the rates"
    # A later standard than AVIF's: at AVIF's rates it is at least as good.
    avif = [ClassicalCodec("avif", q) for q in ClassicalSpec(format="avif").rates]
    files = [one.encode(photograph) for one in avif]
    rates = [8 * len(file) / 256**2 for file in files]
    noise = [
        np.mean((one.decode(f).astype(float) - photograph) ** 2)
        for one, f in zip(avif, files, strict=True)
    ]
    there = [r for r in rates if sizes[0] <= r <= sizes[-1]]
    assert len(there) > 1
    for rate, mse in zip(rates, noise, strict=True):
        if rate in there:
            own = np.interp(np.log(rate), np.log(sizes), errors)
            assert own > 10 * np.log10(255**2 / mse) - 0.3


def nal_units(data: bytes) -> list[int]:
    """The kinds of the units in a stream: the upper five bits of their second byte."""
    starts = [i for i in range(len(data) - 4) if data[i : i + 3] == b"\x00\x00\x01"]
    return [data[i + 4] >> 3 for i in starts]


def test_without_a_program_vvc_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(vvc, "_programs", lambda: [])
    vvc.program.cache_clear()
    vvc.version.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"vvc.*libvvenc"):
            ClassicalCodec("vvc", 40)
        asked = ["smoke", "--set", "classical=[{format: vvc}]", "--storage", str(tmp_path)]
        assert main(asked) == 2
        assert "classical.0.format = 'vvc'" in capsys.readouterr().err
    finally:
        vvc.program.cache_clear()
        vvc.version.cache_clear()


def test_odd_sides_and_broken_streams_are_said(photograph: np.ndarray) -> None:
    if (reason := lacking("vvc")) is not None:
        pytest.skip(reason)
    with pytest.raises(vvc.VvcError, match="65 x 64"):
        vvc.encode(np.ascontiguousarray(photograph[:64, :65]), 40)
    assert vvc.decode(vvc.encode(np.ascontiguousarray(photograph[:70, :90]), 30)).shape == (
        70,
        90,
        3,
    )
    with pytest.raises(vvc.VvcError, match="ffmpeg"):
        vvc.decode(b"no stream")


def test_qualities_that_a_format_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match=r"jpeg.* 1 to 95.* 99"):
        ClassicalSpec(format="jpeg", qualities=(10, 99))
    with pytest.raises(ValueError, match="twice"):
        ClassicalSpec(format="webp", qualities=(10, 10))


def test_points_have_qualities_and_their_keys_the_library() -> None:
    space = load_space("smoke", ["classical=[{format: jpeg, qualities: [5, 20]}]"])
    points = [point for point in operating_points(space) if point.scenario == "classical"]
    assert [point.label for point in points] == ["jpeg quality=5", "jpeg quality=20"]
    assert points[0].fields | {"seed": 0} == {
        "codec": "jpeg",
        "lmbda": None,
        "scenario": "classical",
        "seed": 0,
        "quality": 5,
    }
    one, other = (Stages(space, {"jpeg": version}) for version in ("1", "2"))
    keys = {point_stage(stages, point).key for stages in (one, other) for point in points}
    assert len(keys) == 4


def test_an_evaluation_counts_the_files_bytes(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    space = setting.space.model_copy(
        update={"classical": ClassicalCodecs((ClassicalSpec(format="jpeg", qualities=(20,)),))}
    )
    (point,) = (one for one in operating_points(space) if one.scenario == "classical")
    out, world = tmp_path / "out", tmp_path / "world"
    evaluations = [
        TaskEvaluation(measurement, world, world, out / measurement.task)
        for measurement in setting.measurements
    ]
    evaluate_point(space, point, evaluations, PointFiles(out), tmp_path / "work")
    images, result = setting.images(), joined([e.out for e in evaluations], out)
    assert len(result["images"]) > 5
    for row in result["images"]:
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
    assert len(result["summary"]) == len(evaluations)
    assert all(task["bpp_estimated"] is None for task in result["summary"].values())
    assert len(list((out / "examples").glob("*.png"))) == 3

"""Rate-distortion on folders of images: bytes as written, metrics against CompressAI's own."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from compressai.utils.eval_model.__main__ import compute_metrics
from compressai.utils.plot.__main__ import parse_json_file
from PIL import Image

from search_spaces import OperatingPoint
from tests.trainables.codecs.test_codecs import images, lively
from trainables.commands.rd_eval import main, measure, quality, read_folder
from trainables.commands.rd_sources import BASE, RdError, Source, find_sources

SIZES = {"wide.png": (176, 200), "small.png": (40, 70)}  # neither a multiple of 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        pixels = (images(1, size, seed)[0] * 255).round().byte().permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def source(lmbda: float, seed: int) -> Source:
    codec = lively("mbt2018-mean", seed)
    point = OperatingPoint(codec.spec, lmbda, BASE, 0)
    return Source(point, lambda: codec)


def test_rates_are_of_files_and_metrics_those_of_compressai(folder: Path, tmp_path: Path) -> None:
    out, lines = tmp_path / "out", list[str]()
    first, second = source(0.02, 0), source(0.01, 1)
    rows = measure([first, second], folder, out, say=lines.append)
    assert [row.image for row in rows] == ["small.png", "wide.png"] * 2
    assert "skipped broken.png" in lines[0]
    assert "2 images, 1 unreadable; 1 too small" in lines[1]
    assert pq.read_table(out / "images.parquet").num_rows == len(rows)

    codec = first.load()
    for row in rows[:2]:
        height, width = SIZES[row.image]
        assert (row.height, row.width) == (height, width)
        with Image.open(folder / row.image) as image:
            pixels = np.asarray(image)
        x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        (stream,) = codec.encode(x)
        assert row.n_bytes == len(stream)
        assert row.bpp == pytest.approx(8 * len(stream) / (height * width))
        x_hat = codec.synthesis(codec.latents(x), (height, width))
        rounded = (x_hat * 255).round()[0].permute(1, 2, 0).numpy()
        error = np.mean((rounded.astype(np.float64) - pixels) ** 2)
        assert row.psnr == pytest.approx(10 * np.log10(255**2 / error), abs=1e-4)
        if row.image == "small.png":
            assert row.ms_ssim is None
        else:
            assert row.ms_ssim == pytest.approx(compute_metrics(x, x_hat)["ms-ssim-rgb"], abs=1e-6)

    assert "to encode" in lines[-1]
    assert "to decode" in lines[-1]
    result = json.loads((out / "mbt2018-mean-base.json").read_text())
    for name, column in (("encoding_time", "encode_s"), ("decoding_time", "decode_s")):
        times = [np.mean([getattr(row, column) for row in part]) for part in (rows[:2], rows[2:])]
        assert sorted(result["results"][name]) == pytest.approx(sorted(times))
        assert 0 < min(times) < 60
    assert result["name"] == "mbt2018-mean base"
    assert (result["codec"], result["seed"]) == ("mbt2018-mean", 0)
    assert "scenario" not in result, "the codec itself"
    rates = result["results"]["bpp"]
    assert rates == sorted(
        np.mean([row.bpp for row in of_codec]) for of_codec in (rows[:2], rows[2:])
    )
    for metric, values in (("psnr", result["results"]["psnr-rgb"]), ("ms-ssim", None)):
        read = parse_json_file(out / "mbt2018-mean-base.json", metric)
        assert read["xs"] == rates
        assert values is None or read["ys"] == values
        assert np.isfinite(read["ys"]).all()


def test_an_image_that_comes_back_unchanged_is_the_limit_of_both_metrics() -> None:
    x = images(1, (192, 192))
    assert quality(x, x) == (pytest.approx(100.0), pytest.approx(1.0))


def test_a_space_s_codecs_are_measured_by_their_weights(folder: Path, tmp_path: Path) -> None:
    (folder / "wide.png").unlink()
    command = ["demo-codecs", str(folder), "--only", "codec=elic", "--only", "lmbda=0.0005"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    (row,) = pq.read_table(tmp_path / "out" / "images.parquet").to_pylist()
    assert (row["codec"], row["scenario"], row["lmbda"]) == ("elic", BASE, 0.0005)
    # Trained weights: far from what random ones give.
    assert row["psnr"] > 15
    assert "ms-ssim-rgb" not in json.loads((tmp_path / "out" / "elic-base.json").read_text())


def test_a_pipe_in_the_folder_is_unreadable_and_not_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    _, unreadable = read_folder(folder)
    assert unreadable["pipe.png"] == "no regular file"


def test_mistakes_are_told_before_any_work(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, words in (
        (["demo-codecs", str(empty)], "no image that can be read (.png"),
        (["demo-codecs", str(tmp_path / "gone")], "is not a folder"),
        (["demo-code", str(folder)], "did you mean 'demo-codecs'"),
        (["smoke", str(folder)], "hyperprior has no weights"),
        ([str(empty), str(folder)], "holds no sweep.json"),
        (["demo", str(folder), "--only", "lmbda=3"], "there are 0.00018"),
        (["demo", str(folder), "--device", "abacus"], "the input cannot be read: RuntimeError"),
    ):
        assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_codec_that_is_not_in_the_storage_any_more_is_named(tmp_path: Path) -> None:
    from search_spaces import load_space, operating_points

    space = load_space("smoke")
    points = operating_points(space)
    keys = {f"key{number}": point for number, point in enumerate(points)}
    manifest = {
        "space": space.model_dump(mode="json"),
        "expected": [{"point_key": key, **point.fields} for key, point in keys.items()],
        "points": {key: {} for key in keys},
    }
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "sweep.json").write_text(json.dumps(manifest))
    with pytest.raises(RdError, match=r"hyperprior d2 lambda=0.002 seed=0: .*no longer") as error:
        find_sources(str(tmp_path / "smoke"))
    assert len(str(error.value).splitlines()) == len(points) - 1  # all but uncompressed

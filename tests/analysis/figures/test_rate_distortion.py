"""Drawing CompressAI's results files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.figures.common.looks import Looks
from analysis.figures.rate_distortion import draw, main, read_results


def write(file: Path, **results: list[float]) -> Path:
    file.write_text(json.dumps({"name": file.stem, "description": "", "results": results}))
    return file


def test_curves_are_read_in_the_order_of_their_rates_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "base.json", **{"bpp": [0.4, 0.1], "psnr-rgb": [32.0, 28.0]})
    similar = {"bpp": [0.2], "psnr-rgb": [30.0], "ms-ssim-rgb": [0.99], "lmbda": [0.01]}
    write(tmp_path / "d2.json", **similar)
    base, d2 = read_results([tmp_path])
    assert [base.name, d2.name] == ["base", "d2"]

    psnr, similarity = draw([base, d2])
    assert (psnr.name, similarity.name) == ("psnr", "ms-ssim")
    assert ">base<" in psnr.svg
    assert ">base<" not in similarity.svg
    (line,) = (line for line in psnr.figure.axes[0].lines if len(line.get_xdata()) == 2)
    np.testing.assert_array_equal(line.get_xydata(), [[0.1, 28.0], [0.4, 32.0]])
    assert similarity.figure.axes[0].lines[0].get_ydata() == pytest.approx([20.0])
    assert main([str(tmp_path), "--out", str(tmp_path / "plots")]) == 0
    said = capsys.readouterr().out.split()
    assert [Path(f).name for f in said] == [
        f"{name}.{ending}" for name in ("psnr", "ms-ssim") for ending in ("png", "svg", "pdf")
    ]
    with Image.open(said[0]) as image:
        assert len(image.convert("RGB").getcolors(1_000_000) or ()) > 10


def test_every_file_of_another_format_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.json").write_text("no")
    write(tmp_path / "norate.json", **{"psnr-rgb": [1.0]})
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path), str(tmp_path / "empty")]) == 2
    said = capsys.readouterr().err
    for name in ("text.json", "norate.json", "empty holds no results"):
        assert name in said


def test_curves_of_a_sweep_look_as_in_its_other_figures(tmp_path: Path) -> None:
    named = [("hyperprior", ""), ("hyperprior", "d2"), ("elic", ""), ("elic", "d2")]
    for number, (codec, scenario) in enumerate(named):
        about = {"name": f"{codec} {scenario}", "codec": codec, "scenario": scenario, "seed": 0}
        results = {"results": {"bpp": [0.1, 0.4], "psnr-rgb": [28.0 + number, 32.0]}}
        (tmp_path / f"{number}.json").write_text(json.dumps(about | results))
    (psnr,) = draw(read_results([tmp_path]))
    lines = [line for line in psnr.figure.axes[0].lines if len(line.get_xdata()) == 2]
    looks = Looks([(codec, scenario or "reconstruction") for codec, scenario in named])
    expected = [looks.owner(codec, scenario or "reconstruction") for codec, scenario in named]
    assert [(line.get_color(), line.get_marker()) for line in lines] == [
        (look.colour, look.marker) for look in expected
    ]
    assert len({line.get_color() for line in lines}) == 2, "one per codec"
    assert len({line.get_marker() for line in lines}) == 2, "one per scenario"
    for label in ("hyperprior", "hyperprior d2", "elic", "elic d2"):
        assert f">{label}<" in psnr.svg


def test_seeds_of_one_curve_are_told_apart(tmp_path: Path) -> None:
    for seed in (0, 1):
        about = {"name": f"a seed {seed}", "codec": "a", "scenario": "d2", "seed": seed}
        results = {"results": {"bpp": [0.1, 0.4], "psnr-rgb": [28.0 + seed, 32.0]}}
        (tmp_path / f"{seed}.json").write_text(json.dumps(about | results))
    (psnr,) = draw(read_results([tmp_path]))
    lines = [line for line in psnr.figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert len({line.get_linestyle() for line in lines}) == 2
    assert ">d2 seed 0<" in psnr.svg
    assert ">d2 seed 1<" in psnr.svg

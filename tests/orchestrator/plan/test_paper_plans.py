"""The paper's spaces, its ablations, other codecs: planned, or told what is not there."""

import re
from pathlib import Path

import pytest
from PIL import Image

from orchestrator.sweep import main
from search_spaces import load_space

SPACES = {
    # operating points, base codecs (a variable-rate codec is one for its rates)
    "paper": (1 + 4 * 5, 4),
    "paper-tic": (1 + 4 * 5, 4),
    "zoo": (1 + 9 * 4 * 5, 6 * 4 + 3),
    "ablation-depth": (1 + 4 + 9 * 4, 4),
    "ablation-loss": (1 + 4 + 11 * 4, 4),
    # d1 and d3 are the same in all of them
    "ablation-tradeoff": (1 + 4 + 4 + 4 + 6 * 4, 4),
    "codecs": (1 + 4 * 4 * 3, 16),
}


@pytest.mark.parametrize("space", SPACES)
def test_without_data_and_weights_a_space_says_what_is_not_there(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([space, "--plan", "--storage", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "data.uri = 'data/imagenet'" in said
    files = {"codecs": 8, "zoo": 0}.get(space, 4)
    assert len(re.findall(r"^error: codecs\.\d+\.weights", said, re.MULTILINE)) == files


@pytest.mark.parametrize("space", SPACES)
def test_with_data_and_weights_a_space_is_planned(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        for number, synset in enumerate(("n01440764", "n01443537")):
            folder = tmp_path / "data" / "imagenet" / split / synset
            folder.mkdir(parents=True)
            for place in range(4):
                image = Image.new("RGB", (40, 50), (60 * place, 100 * number, len(split)))
                image.save(folder / f"{place}.JPEG")
    (tmp_path / "weights").mkdir()
    for codec in load_space(space).codecs:
        for name in codec.weights if isinstance(codec.weights, tuple) else ():
            (tmp_path / name).write_bytes(b"weights of random content")
    assert main([space, "--plan", "--storage", str(tmp_path), "--set", "data.val=2"]) == 0
    said = capsys.readouterr().out
    points, codecs = SPACES[space]
    assert f"{points} operating points" in said
    assert (
        len(re.findall(r"^  (?:prepare|train  )  \S+ codec(?: lambda=\S+)?$", said, re.MULTILINE))
        == codecs
    )

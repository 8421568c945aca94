"""The paper's spaces, its ablations, other codecs: planned, or told what is not there."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from orchestrator.sweep import main
from search_spaces import load_space
from tests.trainables.benchmark_files import (
    write_karpathy,
    write_mini_imagenet,
    write_refs,
    write_seed_bench,
)

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
    lines = said.splitlines()
    for setting in (
        *(f"mllms.{number} = '{tmp_path}/weights/" for number in range(2)),
        *(f"benchmarks.{number}.annotations = '{tmp_path}/data/" for number in range(4)),
    ):
        assert sum(line.startswith(f"error: {setting}") for line in lines) == 1, setting


def write_data(root: Path) -> None:
    """What the comments of `paper.yaml` list, small: under the names that they say."""
    for split in ("train", "val"):
        for number, synset in enumerate(("n01440764", "n01443537")):
            folder = root / "data" / "imagenet" / split / synset
            folder.mkdir(parents=True)
            for place in range(4):
                image = Image.new("RGB", (40, 50), (60 * place, 100 * number, len(split)))
                image.save(folder / f"{place}.JPEG")
    coco, seed, mini = (root / "data" / name for name in ("coco", "seed-bench", "mini-imagenet"))
    written = [write_karpathy(coco / "captions"), write_refs(coco / "boxes")]
    written += [write_seed_bench(seed), write_mini_imagenet(mini)]
    (coco / "annotations").mkdir()
    for settings, setting, name in (
        (written[0], "annotations", coco / "dataset_coco.json"),
        (written[1], "annotations", coco / "refcoco.json"),
        (written[1], "instances", coco / "annotations" / "instances_train2014.json"),
        (written[2], "annotations", seed / "SEED-Bench.json"),
        (written[3], "annotations", mini / "test.csv"),
    ):
        if Path(settings[setting]) != name:
            shutil.move(settings[setting], name)
    shutil.rmtree(coco / "boxes")  # its images are those of the captions
    refs = [{**ref, "split": "val"} for ref in json.loads((coco / "refcoco.json").read_text())]
    (coco / "refcoco.json").write_text(json.dumps(refs))
    synsets = ["n01440764", "n01443537", "n01484850", "n01491361", "n01494475", "n01496331"]
    table = (mini / "test.csv").read_text()
    for key, synset in zip(dict.fromkeys(re.findall(r"n0\d532829\b", table)), synsets, strict=True):
        table = table.replace(f",{key}", f",{synset}")
    (mini / "test.csv").write_text(table)
    tower = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    tower |= {"num_attention_heads": 16, "image_size": 224, "patch_size": 14}
    for name in ("llava-13b", "shikra-7b"):
        directory = root / "weights" / name
        directory.mkdir(parents=True)
        vision = {"model_type": "clip_vision_model", **tower}
        config = {"model_type": "llava", "vision_config": vision, "text_config": {}}
        (directory / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("space", SPACES)
def test_with_data_and_weights_a_space_is_planned(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path)
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
    for line in (
        "benchmark coco_karpathy: task captions,",
        "benchmark seed_bench: task choice,",
        "benchmark refcoco: task grounding,",
        "benchmark mini_imagenet: task fewshot_names, 600 samples",
        "  its images are from ImageNet's train part",
        "  classification is not zero-shot: the cross-entropy trains on its classes",
        "bpp of fewshot_names: of all images of a prompt, examples and query",
        "llava-13b",
    ):
        assert line in said, line

"""ImageNet's class names against open_clip's copy of CLIP's list, in the order of the synsets."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from orchestrator.validation.inputs import check_data
from search_spaces import load_space
from search_spaces.specs.benchmark import benchmark_spec
from tests.trainables.image_folders import write_folder
from trainables.datasets.benchmarks.read import read_benchmark
from trainables.datasets.images.class_names import name_classes
from trainables.datasets.images.files import read_text
from trainables.datasets.images.source import read_source

NAME = "imagenet-1000"
BIRD, MACHINE = "n02012849", "n03126707"
"""WordNet calls both of them crane."""


def listed() -> dict[str, str]:
    lines = read_text(NAME).splitlines()
    return dict(line.split(" ", 1) for line in lines)


def two_cranes(root: Path, *splits: str) -> Path:
    return write_folder(root, {f"{split}{c}": 4 for split in splits for c in (BIRD, MACHINE)})


def test_imagenet_has_the_names_that_clips_authors_chose_in_the_order_of_the_synsets() -> None:
    metadata = pytest.importorskip("open_clip.zero_shot_metadata")
    assert list(listed()) == sorted(listed())
    assert list(listed().values()) == list(metadata.IMAGENET_CLASSNAMES)
    named = name_classes(sorted(listed(), reverse=True), NAME)
    assert {synset: named[synset] for synset in listed()} == listed()


def test_the_synsets_are_imagenets() -> None:
    """The list of 1000 synsets that timm's models are trained on, and what WordNet calls them."""
    timm = importlib.util.find_spec("timm")
    if timm is None or timm.origin is None:
        pytest.skip("timm is not installed")
    facts = Path(timm.origin).parent / "data" / "_info"
    assert list(listed()) == (facts / "imagenet_synsets.txt").read_text().split()
    rows = (facts / "imagenet_synset_to_lemma.txt").read_text().splitlines()
    lemmas = dict(row.split("\t", 1) for row in rows)
    first = {synset: lemmas[synset].split(",")[0].lower() for synset in listed()}
    same = sum(name.lower() == first[synset] for synset, name in listed().items())
    assert same > 500, "a shift by one place would leave none"
    assert first[BIRD] == first[MACHINE] == "crane"
    assert (listed()[BIRD], listed()[MACHINE]) == ("crane bird", "construction crane")


def test_the_papers_space_trains_on_these_names(tmp_path: Path) -> None:
    root = two_cranes(tmp_path / "set", "train/", "val/")
    space = load_space("paper", [f"data.uri={root}", "data.val=2"])
    assert check_data(space) == []
    assert read_source(space.data).classes == {BIRD: "crane bird", MACHINE: "construction crane"}


def test_a_name_that_is_neither_a_list_nor_a_file_is_refused(tmp_path: Path) -> None:
    root = two_cranes(tmp_path / "set", "train/", "val/")
    space = load_space("paper", [f"data.uri={root}", "data.names=imagenet-1001"])
    assert check_data(space) == [
        "data.names = 'imagenet-1001': no such directory or file, imagenet-1000"
    ]


def test_benchmarks_take_the_list_by_its_name(tmp_path: Path) -> None:
    root = two_cranes(tmp_path / "val", "")
    spec = benchmark_spec({"format": "imagenet", "annotations": NAME, "images": str(root)})
    benchmark = read_benchmark(spec)
    assert benchmark.classes == ("crane bird", "construction crane")
    assert spec.model_dump(mode="json")["annotations"] == NAME

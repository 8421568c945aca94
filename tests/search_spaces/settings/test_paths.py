"""Paths of a space are absolute after reading, seen from the file that names them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from search_spaces import Space, SpaceError, load_space


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a space and the files it names; the working directory is another."""
    for file in (
        *("lab/w_1.pth.tar", "lab/w_2.pth.tar", "lab/d1_1.pth.tar", "lab/d1_2.pth.tar"),
        *("lab/clip/config.json", "lab/llava/config.json", "lab/images/a/x.png", "lab/names.txt"),
        *("lab/pope.jsonl", "lab/templates.txt", "elsewhere/data/x", "elsewhere/llava/config.json"),
    ):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{} x")
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "lab"


SPACE: dict[str, Any] = {
    "codecs": [
        {
            "arch": "tic",
            "lambdas": [0.1, 0.2],
            "weights": ["w_1.pth.tar", "w_2.pth.tar"],
            "released": {"d1": ["d1_1.pth.tar", "./d1_2.pth.tar"]},
        }
    ],
    "scenarios": ["d1"],
    "baselines": ["reconstruction"],
    "teacher": {"model": "clip"},
    "mllms": ["./llava", "llava-hf/llava-1.5-7b-hf", "shipped:llava-scenes"],
    "data": {"kind": "folder", "uri": "images", "names": "names.txt", "size": 128},
    "tasks": [],
    "benchmarks": [{"format": "pope", "annotations": "pope.jsonl", "images": "images"}],
    "surrogate": {"templates": "templates.txt"},
}


def write(file: Path, settings: dict[str, Any]) -> str:
    file.write_text(yaml.safe_dump(settings))
    return str(file)


def test_paths_are_seen_from_the_file_that_names_them(lab: Path) -> None:
    space = load_space(write(lab / "mine.yaml", SPACE))
    (codec,) = space.codecs
    assert codec.weights == (f"{lab}/w_1.pth.tar", f"{lab}/w_2.pth.tar")
    assert codec.released == {"d1": (f"{lab}/d1_1.pth.tar", f"{lab}/d1_2.pth.tar")}
    assert codec.at(0.2).weights == f"{lab}/w_2.pth.tar"
    assert space.teacher.model == f"{lab}/clip"
    assert space.mllms[0].model == f"{lab}/llava"
    assert (space.data.uri, space.data.names) == (f"{lab}/images", f"{lab}/names.txt")
    (benchmark,) = space.benchmarks
    assert benchmark.files == {"annotations": f"{lab}/pope.jsonl"}
    assert benchmark.image_directory == f"{lab}/images"
    assert space.surrogate.templates == f"{lab}/templates.txt"


def test_names_that_are_no_paths_stay(lab: Path) -> None:
    space = load_space(write(lab / "mine.yaml", SPACE), ["surrogate.templates=data"])
    assert [mllm.model for mllm in space.mllms[1:]] == SPACE["mllms"][1:]
    assert space.surrogate.templates == "data", "a set of templates, although ./data is there"
    assert load_space("demo").teacher.model == "shipped:clip-scenes"
    remote = load_space(
        write(lab / "s3.yaml", SPACE | {"data": {"kind": "folder", "uri": "s3://b/i"}})
    )
    assert remote.data.uri == "s3://b/i"


def test_an_extending_space_an_override_and_python_have_their_own_directories(lab: Path) -> None:
    write(lab / "mine.yaml", SPACE)
    child = write(
        lab.parent / "child.yaml", {"extends": "lab/mine.yaml", "teacher.model": "lab/clip"}
    )
    space = load_space(child, ["mllms=[llava]"])
    assert space.teacher.model == f"{lab}/clip"
    assert space.data.uri == f"{lab}/images"
    assert [mllm.model for mllm in space.mllms] == [str(lab.parent / "elsewhere" / "llava")]
    changed = space.model_dump(mode="json") | {"teacher": {"model": "./llava"}}
    assert Space.model_validate(changed).teacher.model == str(lab.parent / "elsewhere" / "llava")


def test_variants_keep_the_directory_of_their_file_in_other_processes(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = {"a": {}, "b": {"codecs.0.weights": "w_1.pth.tar"}}
    space = load_space(write(lab / "mine.yaml", SPACE | {"variants": variants}))
    copy = pickle.loads(pickle.dumps(space))
    monkeypatch.chdir("/")
    assert copy.of("b").codecs[0].weights == f"{lab}/w_1.pth.tar"


def test_a_local_model_is_called_by_its_directory(lab: Path) -> None:
    space = load_space(write(lab / "mine.yaml", SPACE), ["tasks=[classification]"])
    assert [mllm.label for mllm in space.mllms][:2] == ["llava", "llava-hf/llava-1.5-7b-hf"]
    assert "clip" in {measurement.label for measurement in space.measurements}


def test_a_file_that_is_only_in_the_working_directory_is_not_meant(lab: Path) -> None:
    here = lab.parent / "elsewhere"
    (here / "classes.txt").write_text("x")
    changes = {
        "surrogate": {"templates": "classes.txt", "classes": "classes.txt"},
        "benchmarks": [{"format": "pope", "annotations": "classes.txt", "images": "data"}],
    }
    space = load_space(write(lab / "mine.yaml", SPACE | changes))
    assert (space.surrogate.templates, space.surrogate.classes) == (f"{lab}/classes.txt",) * 2
    assert space.benchmarks[0].image_directory == f"{lab}/data"


@pytest.mark.parametrize("name", ["~no_such_user/x", "x" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have_is_no_crash(lab: Path, name: str) -> None:
    changed = SPACE | {"teacher": {"model": name}, "codecs": [{"arch": "tic", "weights": name}]}
    load_space(write(lab / "mine.yaml", changed))


@pytest.mark.parametrize("uri", ["s3://me:pw@b/x", "https://TOKEN@host/x", "https://host/x?sig=a"])
def test_a_uri_with_a_secret_is_refused(lab: Path, uri: str) -> None:
    data = SPACE | {"data": {"kind": "folder", "uri": uri, "size": 128}}
    with pytest.raises(SpaceError, match="must hold no password, token or query"):
        load_space(write(lab / "mine.yaml", data))
    benchmarks = SPACE | {"benchmarks": [{"format": "pope", "annotations": uri, "images": "x"}]}
    with pytest.raises(SpaceError, match="must hold no password, token or query"):
        load_space(write(lab / "mine.yaml", benchmarks))

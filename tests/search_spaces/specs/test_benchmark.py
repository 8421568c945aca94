"""Formats of benchmarks: found by name, each with its own settings."""

import subprocess
import sys

import pytest

from search_spaces import Space
from search_spaces.specs.benchmark import FORMATS, BenchmarkSpec, benchmark_spec

PLACES = {"annotations": "/a", "images": "/i"}
OWN = {
    "coco_karpathy": {"images", "split"},
    "imagenet": {"images"},
    "mini_imagenet": {"images", "names", "ways", "shots"},
    "mmbench": {"split", "scoring"},
    "ocr": {"images"},
    "unlabelled": {"images", "questions"},
    "pope": {"images"},
    "refcoco": {"images", "split", "instances", "box_format", "boxes"},
    "seed_bench": {"images", "split", "scoring"},
    "vqav2": {"images", "questions"},
}


def test_each_format_has_its_own_settings_only() -> None:
    common = set(BenchmarkSpec.model_fields)
    formats = FORMATS.working()
    assert {n: set(f.model_fields) - common for n, f in formats.items()} == OWN


def test_formats_import_no_torch() -> None:
    code = """
import sys
from search_spaces.specs.benchmark import FORMATS
assert not FORMATS.broken()
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"format": "nothing"}, "pope"),
        ({}, "format"),
        ({"format": "pope", **PLACES, "shots": 2}, "shots"),
        ({"format": "pope", "annotations": "/a"}, "images"),
        ({"format": "vqav2", **PLACES}, "questions"),
        ({"format": "mmbench", **PLACES}, "images"),
        ({"format": "pope", **PLACES, "prompt": "<image> {label}"}, "{label}"),
        ({"format": "pope", **PLACES, "prompt": "{question}"}, "<image>"),
        ({"format": "mini_imagenet", **PLACES, "prompt": "<image> a"}, "{label}"),
        ({"format": "pope", "annotations": "s3://u:p@h/a", "images": "/i"}, "password"),
    ],
)
def test_mistakes_name_the_setting(settings: dict[str, object], setting: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        benchmark_spec(settings)
    assert setting in str(raised.value)


def test_what_decides_the_samples_and_nothing_else_is_in_the_identity() -> None:
    spec = benchmark_spec({"format": "pope", **PLACES, "name": "p", "limit": 5})
    assert spec.identity == {
        "format": "pope",
        "limit": 5,
        "seed": None,
        "prompt": "<image>\n{question}\nAnswer with yes or no.",
        "fit": "crop",
    }


def test_a_space_keeps_the_settings_of_the_format() -> None:
    settings = {"format": "mini_imagenet", **PLACES, "ways": 3}
    space = Space.model_validate(
        {
            "name": "s",
            "codecs": [{"arch": "mbt2018-mean", "lambdas": [0.01], "N": 16, "M": 32}],
            "mllms": ["m"],
            "benchmarks": [settings],
        }
    )
    dumped = space.model_dump(mode="json")
    assert dumped["benchmarks"][0]["ways"] == 3
    assert Space.model_validate(dumped) == space


def test_a_seed_counts_only_where_samples_are_drawn() -> None:
    def identity(**settings: object) -> dict[str, object]:
        return benchmark_spec({"format": "pope", **PLACES, **settings}).identity

    assert identity(seed=3) == identity()
    assert identity(seed=3, limit=5) != identity(limit=5)
    zero_shot = {"format": "imagenet", "annotations": "/a", "images": "/i", "limit": 5}
    explicit = benchmark_spec({**zero_shot, "seed": 0})
    assert explicit.identity == benchmark_spec(zero_shot).identity, "its default seed"

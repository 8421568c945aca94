"""Keys are stable, and a changed setting re-keys exactly what depends on it."""

import json
import subprocess
import sys

import pytest

from search_spaces import (
    OperatingPoint,
    Stages,
    evaluation_stage,
    load_space,
    named_spaces,
    operating_points,
    point_stage,
)
from search_spaces.scenarios import evaluation_pass
from search_spaces.specs.stage import Stage

KINDS = (
    "train_images",
    "test_images",
    "features",
    "text",
    "codec",
    "latents",
    "reconstruction",
    "d1",
    "d2",
    "d3",
    "post_processing",
)


def keys(*overrides: str, fingerprints: dict[str, str] | None = None) -> dict[str, str]:
    space = load_space("smoke", overrides)
    stages = Stages(space, fingerprints)
    codec = space.codecs[0]
    found = {
        "train_images": stages.train_images().key,
        "test_images": stages.test_images().key,
        "features": stages.features().key,
        "text": stages.text(stages.train_images()).key,
        "codec": stages.codec(codec, 0.02).key,
        "latents": stages.latents(codec, 0.02).key,
    }
    for scenario in KINDS[6:]:
        found[scenario] = point_stage(stages, OperatingPoint(codec, 0.02, scenario, 0)).key
    return found


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("data.seed=7", set(KINDS)),
        ("d1.steps=9", {"d1", "d2", "d3"}),
        ("d2.steps=9", {"d2"}),
        ("d3.delta=9", {"d3"}),
        ("post_processing.channels=16", {"post_processing"}),
        ("data.train=48", set(KINDS) - {"test_images"}),
        ("data.test=48", {"test_images"}),
        ("data.episodes=48", set()),
        ("data.shard_size=8", set()),
        ("codecs.0.N=24", set(KINDS) - {"train_images", "test_images", "features", "text"}),
        ("neck.layers=2", {"d1", "d2", "d3"}),
        ("teacher.block=3", {"d1", "d2", "d3"}),
        ("codecs.0.lambdas=[0.02, 0.5]", set()),
        ("codecs.0.name=other", set()),
        ("evaluation.examples=2", set()),
        ("resources.max_failures=5", set()),
        ("description=other", set()),
    ],
)
def test_a_setting_changes_only_what_depends_on_it(override: str, changed: set[str]) -> None:
    before, after = keys(), keys(override)
    assert {kind for kind in KINDS if before[kind] != after[kind]} == changed


def test_other_weights_change_the_keys() -> None:
    after = keys(fingerprints={"shipped:clip-scenes": "sha256:1"})
    before = keys(fingerprints={"shipped:clip-scenes": "sha256:2"})
    changed = {kind for kind in KINDS if before[kind] != after[kind]}
    assert changed == {"features", "text", "d1", "d2", "d3", "post_processing"}


def test_points_have_different_keys() -> None:
    space = load_space("smoke", ["seeds=[0, 1]"])
    stages = Stages(space)
    points = operating_points(space)
    assert len({point_stage(stages, point).key for point in points}) == len(points)


def evaluations(*overrides: str) -> dict[tuple[str, str], str]:
    """(MLLM, task) -> key of the evaluation of one point."""
    space = load_space("smoke", overrides)
    point = OperatingPoint(space.codecs[0], 0.02, "reconstruction", 0)
    return {
        (m.answerer, m.task): evaluation_stage(Stages(space), point, m).key
        for m in space.measurements
    }


def test_each_task_and_mllm_has_an_evaluation_that_no_other_changes() -> None:
    before = evaluations("mllms=[a]", "tasks=[vqa, fewshot]")
    after = evaluations("mllms=[b, a]", "tasks=[rec, fewshot, vqa]")
    assert len(set(after.values())) == len(after) == 6
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("data.test=48", {"captioning", "vqa", "rec"}),
        ("data.episodes=48", {"fewshot"}),
        ("data.train=48", {"captioning", "vqa", "rec", "fewshot"}),  # through the codec
        ("evaluation.batch_size=7", set()),
        ("evaluation.shard_size=7", set()),
        ("evaluation.examples=7", set()),
        ("evaluation.beams=2", {"captioning", "vqa", "rec", "fewshot"}),
        ("surrogate.tokens=0", {"captioning", "vqa", "rec", "fewshot"}),  # a measured term
        ("surrogate.tokens=9", set()),
    ],
)
def test_an_evaluation_is_made_again_for_what_it_uses(override: str, changed: set[str]) -> None:
    before, after = evaluations(), evaluations(override)
    assert {task for (_, task), key in after.items() if key != before[_, task]} == changed


def test_a_pass_has_one_key_whatever_is_measured_in_it() -> None:
    def key(*overrides: str) -> set[str]:
        space = load_space("smoke", overrides)
        point = OperatingPoint(space.codecs[0], 0.02, "reconstruction", 0)
        return {evaluation_pass(Stages(space), point, m) for m in space.measurements}

    assert len(key()) == 1
    assert key("tasks=[rec]") == key("tasks=[fewshot, vqa]") == key()
    assert key("data.test=48") != key(), "other images under the same names"
    assert key("data.episodes=48") != key()
    assert key("evaluation.beams=2") != key()


def test_keys_are_the_same_in_another_process() -> None:
    code = (
        "from search_spaces import *; s = load_space('smoke');"
        "print(' '.join(point_stage(Stages(s), p).key for p in operating_points(s)))"
    )
    run = [sys.executable, "-c", code]
    other = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    space = load_space("smoke")
    assert other == [point_stage(Stages(space), point).key for point in operating_points(space)]


def test_the_rates_of_a_variable_rate_codec_share_its_base_codec_alone() -> None:
    codec = {"arch": "mbt2018-mean-vbr", "qualities": [1, 8], "N": 12, "M": 12}
    space = load_space("smoke", [f"codecs=[{json.dumps(codec)}]"])
    stages = Stages(space)
    points = operating_points(space)
    low, high = ([p for p in points if p.lmbda == lmbda] for lmbda in space.codecs[0].lambdas)
    for one, other in zip(low, high, strict=True):
        assert one.scenario == other.scenario
        assert point_stage(stages, one).key != point_stage(stages, other).key
        assert one.codec is not None
        assert other.codec is not None
        assert stages.codec(one.codec, 0.0018) == stages.codec(other.codec, 0.18)
        assert stages.latents(one.codec, 0.0018) != stages.latents(other.codec, 0.18)


def test_a_codec_used_as_it_is_depends_on_its_weights_alone() -> None:
    settings = ["codecs.0.weights=some.pth", "codecs.0.train.steps=0"]
    one = keys(*settings)
    assert keys(*settings, "codecs.0.train.lr=0.5")["codec"] == one["codec"]
    other_images = keys(*settings, "data.train=32")
    assert other_images["codec"] == one["codec"]
    assert other_images["latents"] != one["latents"], "latents of other images"
    assert keys(*settings, fingerprints={"some.pth": "another"})["codec"] != one["codec"]


def test_released_points_are_not_trained_and_stand_under_one_seed() -> None:
    released = ["codecs.0.released.d1=[a, b]", "codecs.0.released.d3=[c, d]", "seeds=[0, 1]"]
    space = load_space("smoke", released)
    found = [(p.scenario, p.seed) for p in operating_points(space) if p.lmbda == 0.002]
    assert found.count(("d1", 0)) == found.count(("d3", 0)) == 1
    assert ("d1", 1) not in found
    assert ("d2", 1) in found
    one, longer = keys(*released), keys(*released, "d1.steps=99", "d3.steps=99", "d2.steps=99")
    assert {name for name in one if one[name] != longer[name]} == {"d2"}
    other = keys(*released, fingerprints={"d": "other"})
    assert {name for name in one if one[name] != other[name]} == {"d3"}


def test_answers_are_shared_under_the_texts_that_they_were_given_for() -> None:
    """Of the encoder alone: an MLLM reads no text embeddings."""
    folder = [
        "data={kind: folder, uri: /a/folder, size: 64, train: 5, val: 2, test: 3}",
        *("tasks=[classification]", "scenarios=[]", "baselines=[uncompressed]"),
    ]
    benchmark = "benchmarks=[{format: pope, annotations: /a.json, images: /a}]"

    def pass_keys(*settings: str) -> dict[bool, str]:
        space = load_space("smoke", [*folder, benchmark, *settings])
        (point,) = operating_points(space)
        return {
            measurement.by_encoder: evaluation_pass(Stages(space), point, measurement)
            for measurement in space.measurements
        }

    before = pass_keys()
    assert before.keys() == {True, False}
    for setting in ("surrogate.templates=plain", "surrogate.classes=/classes.txt"):
        after = pass_keys(setting)
        assert after[True] != before[True]
        assert after[False] == before[False]
    assert pass_keys("surrogate.double_norm=true")[True] != before[True]


TEST_STAGES = {"test_images", "episodes", "benchmark"}


def read_by(stage: Stage) -> set[str]:
    """The kinds of all stages that a stage is made from, itself included."""
    return {stage.kind}.union(*map(read_by, stage.inputs))


@pytest.mark.parametrize("name", named_spaces())
def test_test_images_are_read_by_evaluations_alone(name: str) -> None:
    """Neither what is trained nor what it is chosen by, in any scenario, comes from test images."""
    space = load_space(name)
    stages, scenarios = Stages(space), set[str]()
    for point in operating_points(space):
        made = point_stage(stages, point)
        scenarios.add(point.scenario)
        assert not read_by(made) & TEST_STAGES, point.label
        of_variant = stages.of(point.variant)
        for measurement in of_variant.space.measurements:
            measured = evaluation_stage(stages, point, measurement)
            assert read_by(measured) & TEST_STAGES, point.label
            assert not {"world", "start"} & measured.reads.keys()
    assert scenarios == set(space.scenario_names)
    assert not read_by(stages.train_images()) & TEST_STAGES
    assert not {"val", "train"} & stages.test_images().spec.keys()

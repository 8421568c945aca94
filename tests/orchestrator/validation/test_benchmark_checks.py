"""Benchmarks in a space: what is said of each before any work, above all of unusable ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.sweep import main
from orchestrator.validation.inputs import check_benchmarks
from search_spaces import load_space
from tests.orchestrator.models import SMOKE
from tests.trainables.benchmark_files import WRITERS, write_images, write_pope
from trainables.datasets.images.files import list_files

SETTINGS = ("annotations", "questions", "instances", "names")


def problems_of(settings: dict[str, Any]) -> list[str]:
    return check_benchmarks(load_space("smoke", [f"benchmarks=[{json.dumps(settings)}]"]))


def change(*path: Any, **values: Any) -> Callable[[Any], None]:
    """Sets fields of what stands at a path; a field that is None is removed."""

    def apply(content: Any) -> None:
        for step in path:
            content = content[step]
        content.update(values)
        for name in [name for name, value in values.items() if value is None]:
            del content[name]

    return apply


def cleared(*path: Any) -> Callable[[Any], None]:
    def apply(content: Any) -> None:
        for step in path:
            content = content[step]
        content.clear()

    return apply


@pytest.mark.parametrize("name", WRITERS)
def test_right_files_are_no_mistake(name: str, tmp_path: Path) -> None:
    assert problems_of(WRITERS[name](tmp_path)) == []


@pytest.mark.parametrize("name", WRITERS)
def test_missing_files_are_said(name: str, tmp_path: Path) -> None:
    settings = WRITERS[name](tmp_path)
    for setting in set(SETTINGS) & set(settings):
        wrong = str(tmp_path / "no" / "file")
        (problem,) = problems_of({**settings, setting: wrong})
        assert problem.startswith(f"benchmarks.0.{setting} = {wrong!r}: ")
    if "images" in settings:
        (problem,) = problems_of({**settings, "images": "/no/such"})
        assert problem.startswith("benchmarks.0.images = '/no/such': ")


@pytest.mark.parametrize("name", [n for n in WRITERS if n not in ("mmbench", "imagenet")])
def test_absent_images_are_said(name: str, tmp_path: Path) -> None:
    settings = WRITERS[name](tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.jpg").touch()
    (problem,) = problems_of({**settings, "images": str(tmp_path / "other")})
    assert problem.startswith(f"benchmarks.0.images = '{tmp_path}/other': ")
    assert "its 1 files (such as x.jpg)" in problem


CASES: list[tuple[str, Callable[[Any], object], dict[str, Any], tuple[str, ...]]] = [
    # wrong columns and fields
    ("coco_karpathy", cleared(), {}, ("'images'",)),
    ("coco_karpathy", change("images", 0, split=None), {}, ("'split'", "filename")),
    ("coco_karpathy", change("images", 0, sentences=[{}]), {}, ("'raw'", "1 time")),
    ("seed_bench", change("questions", 0, answer=None), {}, ("'answer'", "choice_a")),
    ("mmbench", lambda rows: [r.pop("A") for r in rows], {}, ("column A", "index, q")),
    ("mmbench", change(2, index="x"), {}, ("'index'", "entry 2: 'x'")),
    ("mmbench", change(1, image="7"), {}, ("image", "(1000241)")),
    ("pope", change(0, text=""), {}, ("'text'", "entry 0: ''")),
    ("vqav2", change("annotations", "annotations", 0, answers=[]), {}, ("'answers'",)),
    ("vqav2", change("questions", "questions", 1, image_id=None), {}, ("'image_id'",)),
    ("refcoco", change(0, bbox=[1, 2, 3]), {}, ("'bbox'", "entry 0: [1, 2")),
    ("refcoco", change(0, bbox=[9, 9, 0, 5]), {}, ("'bbox'", "xywh")),
    ("refcoco", change(0, image=None), {}, ("'image', 'file_name' or 'img_path'", "1 time")),
    ("refs", change("refs", 0, ann_id=5), {}, ("ann_id", "(5)")),
    ("refs", change("refs", 0, sentences=[]), {}, ("'sentences'", "1 time")),
    ("refs", change("instances", "images", 0, id=5), {}, ("image_id", "1 time")),
    (
        "mini_imagenet",
        lambda rows: [r.pop("label") for r in rows],
        {},
        ("column label",),
    ),
    ("imagenet", lambda lines: lines.pop(), {}, ("1 of 3", "n01484850")),
    ("imagenet", lambda lines: lines.append("n0"), {}, ("'n0'",)),
    ("ocr", change(0, text=[]), {}, ("'text'", "entry 0: []")),
    ("ocr", change(0, text=None), {}, ("'text'", "(entry 0)")),
    (
        "seed_bench",
        change("questions", 0, choice_b=None, choice_c=None, choice_d=None),
        {},
        ("choices", "(100)"),
    ),
    ("pope", change(0, label=1), {}, ("'label'", "entry 0: 1")),
    ("mmbench", change(2, image=""), {}, ("'image'", "entry 2: ''")),
    ("refcoco", change(0, expression=" "), {}, ("'expression'", "(entry 0)")),
    ("refs", change("instances", "annotations", 0, bbox=[1, 2]), {}, ("'bbox'", "1 time")),
    # nothing, or an empty split
    ("refcoco", cleared(), {}, ("no samples",)),
    ("vqav2", cleared("annotations", "annotations"), {}, ("no answers", "2 times")),
    ("coco_karpathy", cleared("images"), {}, ("split", "none")),
    ("coco_karpathy", lambda c: c, {"split": "train"}, ("split", "test, val")),
    ("seed_bench", cleared("questions"), {}, ("no samples",)),
    ("seed_bench", lambda c: c, {"split": "OCR"}, ("Instances Counting",)),
    ("mmbench", lambda rows: rows, {"split": "test"}, ("split", "dev")),
    ("pope", cleared(), {}, ("no samples",)),
    ("vqav2", cleared("questions", "questions"), {}, ("no samples",)),
    ("refcoco", lambda rows: rows, {"split": "testB"}, ("testA, val",)),
    ("refs", cleared("refs"), {}, ("no samples",)),
    ("mini_imagenet", lambda rows: rows, {"ways": 7}, ("ways = 7", "6 of the 6")),
    ("mini_imagenet", lambda rows: rows, {"ways": 5, "shots": 4}, ("0 of the 6",)),
    ("ocr", cleared(), {}, ("no samples",)),
    # the same twice
    (
        "coco_karpathy",
        change("images", 0, cocoid=74),
        {},
        ("cocoid or imgid", "more than once", "(74"),
    ),
    (
        "seed_bench",
        change("questions", 0, question_id="102"),
        {},
        ("question_id", "more than once"),
    ),
    ("mmbench", change(1, index="241"), {}, ("index", "more than once", "(241)")),
    ("pope", change(0, question_id=2), {}, ("question_id", "more than once", "(2)")),
    (
        "vqav2",
        change("questions", "questions", 0, question_id=74001),
        {},
        ("question_id", "more than once"),
    ),
    ("refcoco", change(0, id="r2"), {}, ("id", "more than once", "(r2)")),
    ("refs", change("refs", 0, ref_id=8), {}, ("ref_id", "more than once", "(8)")),
    (
        "mini_imagenet",
        lambda rows: rows.append(rows[0]),
        {},
        ("filename", "more than once", "(n00"),
    ),
    ("pope", change(0, question_id="2"), {}, ("question_id", "more than once", "(2)")),
    (
        "vqav2",
        change("annotations", "annotations", 0, question_id=42000),
        {},
        ("question_id", "more than once", "(42000)"),
    ),
    (
        "refs",
        change("instances", "annotations", 0, id=901),
        {},
        ("annotation", "more than once", "(901)"),
    ),
    (
        "imagenet",
        lambda lines: lines.append("n01440764 shark"),
        {},
        ("more than one name", "n01440764"),
    ),
    ("ocr", change(0, image="word_2.png"), {}, ("image", "more than once", "(word_2.png)")),
    # an answer outside the choices
    (
        "seed_bench",
        change("questions", 0, answer="E"),
        {},
        ("choices", "100: E of A, B"),
    ),
    ("mmbench", change(2, answer="D"), {}, ("choices", "252: D of A, B, C")),
    ("mmbench", change(1, B=""), {}, ("choices", "(1000241)")),
    ("pope", change(0, label="maybe"), {}, ("label", "yes", "(1: maybe)")),
    (
        "vqav2",
        change("annotations", "annotations", 0, question_id=5),
        {},
        ("no answers",),
    ),
]


@pytest.mark.parametrize(("name", "wrong", "settings", "expected"), CASES)
def test_bad_annotations_are_said_once_with_their_setting(
    name: str,
    wrong: Callable[[Any], object],
    settings: dict[str, Any],
    expected: tuple[str, ...],
    tmp_path: Path,
) -> None:
    settings = {**WRITERS[name](tmp_path, wrong), **settings}
    (problem,) = problems_of(settings)
    setting, _, rest = problem.removeprefix("benchmarks.0.").partition(" = ")
    for value in expected:
        assert value in problem
    assert rest.startswith(repr(settings[setting])) if setting in settings else setting == "split"


@pytest.mark.parametrize(
    ("name", "header", "expected"),
    [
        ("mmbench", "index\tquestion\tA\tB\tanswer\timage\n", "no samples"),
        ("mini_imagenet", "filename,label\n", "0 of the 0"),
    ],
)
def test_a_table_without_rows_is_said(
    name: str, header: str, expected: str, tmp_path: Path
) -> None:
    settings = WRITERS[name](tmp_path)
    Path(settings["annotations"]).write_text(header)
    (problem,) = problems_of(settings)
    assert expected in problem


def test_a_folder_of_classes_without_images_is_said(tmp_path: Path) -> None:
    settings = WRITERS["imagenet"](tmp_path)
    (tmp_path / "empty" / "n01440764").mkdir(parents=True)
    (tmp_path / "empty" / "n01440764" / "notes.txt").touch()
    (problem,) = problems_of({**settings, "images": str(tmp_path / "empty")})
    assert problem.startswith(f"benchmarks.0.images = '{tmp_path}/empty': ")


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_no_such_format_is_said(name: str, tmp_path: Path) -> None:
    settings = WRITERS[name](tmp_path)
    for garbage in (b"\xff\xfe\x00", b"{", b"[1, 2]", b"null", b"\n"):
        Path(settings["annotations"]).write_bytes(garbage)
        (problem,) = problems_of(settings)
        assert problem.startswith("benchmarks.0.annotations = "), problem


def test_an_image_in_two_places_is_said(tmp_path: Path) -> None:
    settings = write_pope(tmp_path)
    folder = tmp_path / "val2014"
    for place in ("one", "two"):
        (folder / place).mkdir()
        (folder / place / "COCO_val2014_000000000042.jpg").touch()
    assert problems_of(settings) == []  # its own path wins
    (folder / "COCO_val2014_000000000042.jpg").unlink()
    list_files.cache_clear()
    (problem,) = problems_of({**settings, "name": "again"})
    assert "1 time (COCO_val2014_000000000042.jpg)" in problem


def test_settings_of_other_formats_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"format": "pope", "annotations": "x", "shots": 3, "scoring": "likelihood"}
    arguments = ["smoke", f"--set=benchmarks=[{json.dumps(wrong)}]", f"--storage={tmp_path}"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    for expected in (
        "benchmarks.0.shots: no such setting",
        "benchmarks.0.scoring: no such setting",
        "benchmarks.0.images: must be given",
    ):
        assert expected in said


def test_all_mistakes_of_all_benchmarks_exit_2_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmarks = [
        WRITERS["pope"](tmp_path / "a", change(0, question_id=2, image="no.jpg")),
        WRITERS["seed_bench"](tmp_path / "b", change("questions", 0, answer="E")),
        {**WRITERS["refcoco"](tmp_path / "c"), "split": "x"},
    ]
    storage = tmp_path / "results"
    arguments = ["smoke", f"--set=benchmarks={json.dumps(benchmarks)}", f"--storage={storage}"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    for expected in (
        f"benchmarks.0.annotations = '{benchmarks[0]['annotations']}': question_id more than once",
        f"benchmarks.1.annotations = '{benchmarks[1]['annotations']}': answer is none of the",
        "benchmarks.2.split = 'x': ",
    ):
        assert expected in said, said
    assert not storage.exists()


def test_the_plan_says_what_of_a_benchmark_is_used_and_which_metrics_are_lacking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmarks = [
        {**WRITERS["coco_karpathy"](tmp_path / "a"), "name": "coco"},
        WRITERS["seed_bench"](tmp_path / "b"),
        {**WRITERS["mmbench"](tmp_path / "c"), "limit": 1},
    ]
    arguments = [*SMOKE, f"--set=benchmarks={json.dumps(benchmarks)}", "--plan"]
    monkeypatch.setenv("PATH", "")
    assert main([*arguments, f"--storage={tmp_path / 'results'}"]) == 0
    said = capsys.readouterr().out
    for line in (
        "benchmark coco: task captions, 2 samples of 2 images",
        "benchmark seed_bench: task choice, 2 samples of 2 images; left out: "
        "questions about videos (1)",
        "benchmark mmbench: task choice_circular, 2 samples of 1 images",
        "coco: no meteor: java is not installed",
        "coco: no spice: java is not installed",
        "prepare  benchmark coco",
    ):
        assert f"{line}\n" in said, said


@pytest.mark.parametrize("ending", ["p", "pkl", "pickle"])
def test_a_pickle_is_refused_with_what_to_do(ending: str, tmp_path: Path) -> None:
    refs = tmp_path / f"refs(unc).{ending}"
    refs.write_bytes(b"(lp0\n.")
    settings = {"format": "refcoco", "annotations": str(refs), "images": str(tmp_path)}
    (problem,) = problems_of(settings)
    assert problem.startswith(f"benchmarks.0.annotations = {str(refs)!r}: a pickle")
    assert "JSON" in problem


@pytest.mark.parametrize(
    ("asked", "trained_on", "is_refused"),
    [
        ("own", "own", True),
        ("own/sub", "own", True),
        ("own", "own/sub", True),
        ("link", "own", True),
        ("own", "other", False),
        ("own", "ow", False),
    ],
)
def test_images_that_are_trained_on_are_not_all_asked_about(
    asked: str, trained_on: str, is_refused: bool, tmp_path: Path
) -> None:
    for name in ("own/sub", "other", "ow"):
        write_images(tmp_path / name, ["a.png"])
    (tmp_path / "link").symlink_to(tmp_path / "own")
    images = str(tmp_path / asked)
    settings = {"format": "unlabelled", "images": images}
    data = {"kind": "folder", "uri": str(tmp_path / trained_on)}
    space = load_space(
        "smoke",
        [f"benchmarks=[{json.dumps(settings)}]", f"data={json.dumps(data)}", "tasks=[]"],
    )
    problems = check_benchmarks(space)
    assert bool(problems) is is_refused, problems
    for problem in problems:
        assert problem.startswith(f"benchmarks.0.images = {images!r}: holds images of data.uri")

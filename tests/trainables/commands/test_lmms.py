"""lmms-eval on an operating point of a sweep: its own task loader, metric and table, no hub."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from search_spaces import operating_points
from tests.trainables.benchmark_files import crop
from tests.trainables.evaluation.setting import Setting
from trainables.commands.lmms import Bridged, find_point, main
from trainables.commands.lmms_request import LmmsError
from trainables.datasets.images.decode import pad
from trainables.datasets.tensors import to_tensor
from trainables.mllms import Mllm
from trainables.points.contract import load_point

THERE = find_spec("lmms_eval") is not None
needs_lmms = pytest.mark.skipif(not THERE, reason="needs lmms-eval: an extra, `.[lmms]`")
TASK = """
task: pictures
dataset_path: json
dataset_kwargs:
  data_files: {{test: "{data}"}}
test_split: test
output_type: generate_until
doc_to_visual: !function helpers.visual
doc_to_text: !function helpers.text
doc_to_target: wanted
process_results: !function helpers.results
generation_kwargs: {{max_new_tokens: 5, temperature: 0, do_sample: false}}
metric_list:
  - {{metric: right, aggregation: mean, higher_is_better: true}}
"""
HELPERS = """
from PIL import Image

def visual(doc):
    return [Image.open(file) for file in doc["files"]]

def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]

def results(doc, results):
    return {"right": float(results[0] == doc["wanted"])}
"""
QUESTIONS = ["question : how many digits ? answer :", "which digit is red ?"]
KEYS = {"codec": "c0dec", "d1": "d1d1d1", "uncompressed": "0000"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Setting]:
    """What a sweep leaves of two operating points."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("lmms")
    setting = Setting(root / "made")
    stages = root / "stages"
    (root / "made" / "uncompressed").mkdir()
    for kind, name in (("codec", "codec"), ("point", "d1"), ("point", "uncompressed")):
        stage_dir = stages / kind / KEYS[name]
        shutil.copytree(root / "made" / name, stage_dir)
        inputs = ["w0rld", KEYS["codec"]] if name == "d1" else ["w0rld"]
        (stage_dir / "manifest.json").write_text(json.dumps({"inputs": inputs}))
    expected = []
    for point in operating_points(setting.space):
        key = KEYS.get(point.scenario, "") if point.lmbda in (None, 0.01) else ""
        expected.append({**point.fields, "point_key": key or f"other{len(expected)}"})
    (root / "sweep").mkdir()
    manifest = {
        "space": setting.space.model_dump(mode="json"),
        "expected": expected,
        "points": {KEYS["d1"]: {}, KEYS["uncompressed"]: {}},
    }
    (root / "sweep" / "sweep.json").write_text(json.dumps(manifest))
    return root / "sweep", setting


def write_task(directory: Path, wanted: list[str]) -> list[list[Path]]:
    """The task, and the files of each sample's images."""
    directory.mkdir()
    files = []
    for i in range(4):
        file = directory / f"{i}.png"
        crop(i).save(file)
        files.append(file)
    asked = [[files[0]], [files[1]], [files[2], files[3]], [files[0]]]
    rows = [
        {"files": [str(f) for f in of_sample], "question": QUESTIONS[i % 2], "wanted": want}
        for i, (of_sample, want) in enumerate(zip(asked, wanted, strict=True))
    ]
    (directory / "pictures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "pictures.yaml").write_text(TASK.format(data=directory / "pictures.jsonl"))
    (directory / "helpers.py").write_text(HELPERS)
    return asked


@torch.no_grad()
def expected_of(sweep: Path, setting: Setting, asked: list[list[Path]]) -> Any:
    """Answers and bpp of every sample, image by image, without any of the evaluation."""
    trained = find_point(sweep, "d1")
    space = trained.space
    model = load_point(space, trained.point, trained.codec_dir, trained.point_dir)
    mllm = Mllm.load(space.mllms[0].model)
    answers, rates = [], []
    for i, files in enumerate(asked):
        seen, bpp = [], []
        for file in files:
            with Image.open(file) as image:
                square = np.asarray(pad(image.convert("RGB"), space.data.size))
            given = to_tensor([square])
            stream = model.encode(given).streams
            entry = model.enter(model.decode(stream, square.shape[:2]))
            seen += mllm.look(entry)
            bpp.append(8 * len(stream[0]) / space.data.size**2)
        prompt = " ".join(["<image>"] * len(files)) + f"\n{QUESTIONS[i % 2]}"
        answers += mllm.answer([prompt], [seen], 5, 1)
        rates.append(np.mean(bpp))
    return answers, rates


def test_requests_are_answered_with_the_bits_of_their_images(
    sweep: tuple[Path, Setting], tmp_path: Path
) -> None:
    directory, setting = sweep
    files = write_task(tmp_path / "task", [""] * 4)
    answers, rates = expected_of(directory, setting, files)
    stop = answers[3].split()[-1]
    model = Bridged(str(directory), "d1", rates=str(tmp_path / "rates.json"))
    model.task_dict = {"pictures": {"test": files}}

    def images(doc: list[Path]) -> list[Image.Image]:
        return [Image.open(file) for file in doc]

    requests = [
        SimpleNamespace(
            args=(
                QUESTIONS[number % 2],
                {"max_new_tokens": 5, "until": [stop] if number == 3 else []},
                *(images, number, "pictures", "test"),
            )
        )
        for number in range(4)
    ]
    answered = model.generate_until(requests)
    assert answered == [*answers[:3], answers[3].split(stop)[0]]
    assert model.bpp == {"pictures": pytest.approx(dict(enumerate(rates)))}
    written = json.loads((tmp_path / "rates.json").read_text())
    assert written == {"pictures": {"bpp": pytest.approx(np.mean(rates)), "samples": 4}}


@needs_lmms
def test_a_local_task_is_scored_with_bpp_beside_it(
    sweep: tuple[Path, Setting],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    directory, setting = sweep
    answers, rates = expected_of(directory, setting, write_task(tmp_path / "first", [""] * 4))
    assert len(set(answers)) > 1
    wanted = [answers[0], answers[1], answers[2], "something else"]
    write_task(tmp_path / "task", wanted)
    command = [str(directory), "d1", "--tasks", "pictures"]
    command += ["--include-path", str(tmp_path / "task"), "--out", str(tmp_path / "found.json")]
    assert main(command) == 0
    written = json.loads((tmp_path / "found.json").read_text())
    metrics = written["results"]["pictures"]
    assert metrics["right,none"] == 0.75
    assert metrics["bpp,none"] == pytest.approx(np.mean(rates))
    assert "d1" in written["point"]
    table = capsys.readouterr().out
    (row,) = [line for line in table.splitlines() if "bpp" in line]
    assert f"{np.mean(rates):.4f}" in row
    assert any("right" in line and "0.75" in line for line in table.splitlines())


@needs_lmms
def test_lmms_eval_finds_the_model_by_its_entry_point_and_builds_it(
    sweep: tuple[Path, Setting], tmp_path: Path
) -> None:
    from importlib.metadata import entry_points

    from lmms_eval.models.registry_v2 import ModelRegistryV2

    from trainables.commands.lmms import manifest

    registry = ModelRegistryV2()
    registry.register_manifest(manifest())
    model = registry.get_model_class("bridgesweep")
    assert model is Bridged
    made = model.create_from_arg_string(f"sweep={sweep[0]},point=0000,fit=crop", {"batch_size": 2})
    assert "uncompressed" in made.label
    if any(
        entry_point.name == "bridgesweep" for entry_point in entry_points(group="lmms_eval.models")
    ):
        registry = ModelRegistryV2()
        registry.load_entrypoint_manifests()
        assert "bridgesweep" in registry.list_model_names()


@needs_lmms
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("temperature: 0, do_sample: false", "temperature: 0.7"),
        ("do_sample: false", "do_sample: true"),
        ("temperature: 0, do_sample: false", "num_beams: 5"),
    ],
)
def test_tasks_that_sample_or_search_otherwise_are_refused(
    sweep: tuple[Path, Setting],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    how: str,
    message: str,
) -> None:
    write_task(tmp_path / "task", [""] * 4)
    file = tmp_path / "task" / "pictures.yaml"
    file.write_text(file.read_text().replace(how, message))
    command = [str(sweep[0]), "0000", "--tasks", "pictures"]
    assert main([*command, "--include-path", str(tmp_path / "task")]) == 2
    assert "pictures" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["x", ""])
def test_a_point_that_is_not_there_is_answered_with_those_that_are(
    sweep: tuple[Path, Setting], key: str
) -> None:
    with pytest.raises(LmmsError) as caught:
        find_point(sweep[0], key)
    text = str(caught.value)
    assert f"point = {key!r}: {0 if key else 2} points begin so" in text
    assert "d1d1d1  " in text
    assert "0000  uncompressed" in text
    assert "other" not in text
    with pytest.raises(LmmsError, match=r"holds no sweep\.json"):
        find_point(sweep[0].parent, "d1")


@pytest.mark.skipif(THERE, reason="lmms-eval is installed")
def test_without_lmms_eval_the_command_says_how_to_get_it(
    sweep: tuple[Path, Setting], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(sweep[0]), "d1", "--tasks", "pope"]) == 2
    assert 'pip install ".[lmms]"' in capsys.readouterr().err

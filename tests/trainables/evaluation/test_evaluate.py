"""Evaluation: what is measured is what a decoder gets from the bytes, for every kind of point."""

import copy
import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from search_spaces.specs.benchmark import benchmark_spec
from tests.trainables.arithmetic.test_precision import EXACT, Switches, switches
from tests.trainables.benchmark_files import write_images, write_pope
from tests.trainables.evaluation.setting import Setting
from tests.trainables.small import make_clip
from trainables.codecs import bits_estimated
from trainables.codecs.entropy.bitstream import SymbolWriter
from trainables.datasets.benchmarks.write import write_benchmark
from trainables.encoders.bridge import Entry
from trainables.encoders.tower import Tower
from trainables.evaluation import evaluate
from trainables.evaluation.image_pass import Clock, ImagePass
from trainables.evaluation.shard_results import ShardResult
from trainables.mllms import Mllm
from trainables.points.models import BridgedPoint, CodedPoint, Received
from trainables.tasks import TASKS, vqa
from trainables.tasks.common.one_name import OneName

TASK_NAMES = ("captioning", "vqa", "rec", "fewshot")


def answers_for(setting: Setting, images: dict[str, Tensor], result: dict[str, Any]) -> None:
    """The answers are those of the MLLM with its own tower on these images, one by one."""
    llm = Mllm.load(setting.space.mllms[0].model)
    rows = pq.read_table(setting.root / "world/tasks_test.parquet").to_pylist()
    assert {row["task"] for row in rows} == set(TASK_NAMES)
    answers = {row["sample_id"]: row["answer"] for row in result["samples"]}
    assert answers.keys() == {row["sample_id"] for row in rows}
    for row in rows:
        pixels = torch.cat([images[i] for i in row["image_ids"]])
        features = llm.look(Entry(pixels, None))
        tokens = TASKS.get(row["task"]).max_new_tokens
        assert answers[row["sample_id"]] == llm.answer([row["prompt"]], [features], tokens, 1)[0]
    assert len(set(answers.values())) > 5, "the test's MLLM says the same about everything"


def test_uncompressed_images_take_24_bits_per_pixel_and_the_same_path(
    setting: Setting, results: dict[str, dict[str, Any]]
) -> None:
    result = results["uncompressed"]
    for row in result["images"]:
        assert row["n_bytes"] == 64 * 64 * 3
        assert row["bpp"] == row["bpp_estimated"] == 24
        assert row["psnr"] is None
        assert row["overhead_bytes"] == 0
    for task in result["summary"].values():
        assert task["bpp"] == 24
        assert task["psnr"] is None
    answers_for(setting, setting.images(), result)


def test_a_released_neck_is_compared_with_the_teacher_behind_two_final_norms(
    setting: Setting, results: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """As in the authors' code; where the weights come from, the loss values do not depend on."""
    twice, released = copy.copy(setting), copy.copy(setting)
    surrogate = setting.space.surrogate.model_copy(update={"double_norm": True})
    twice.space = setting.space.model_copy(update={"surrogate": surrogate})
    released.spec = setting.spec.model_copy(update={"released": {"d1": ("d1.pth.tar",)}})
    errors = [
        [row["pooled"] for row in result["images"]]
        for result in (
            results["d1"],
            twice.run("d1", tmp_path / "twice"),
            released.run("d1", tmp_path / "released"),
        )
    ]
    assert errors[1] == errors[2]
    assert not np.allclose(errors[0], errors[2])


def test_the_rate_is_the_bytes_and_the_answers_are_about_the_decoded_image(
    setting: Setting, results: dict[str, dict[str, Any]]
) -> None:
    result, codec, images = results["reconstruction"], setting.codec(), setting.images()
    decoded = {}
    for row in result["images"]:
        image = images[row["image_id"]]
        stream = codec.encode(image)[0]
        assert row["n_bytes"] == len(stream)
        assert row["bpp"] == 8 * len(stream) / 64**2
        assert row["overhead_bytes"] == 6
        with torch.no_grad():
            bits = bits_estimated(codec(image, synthesis=False).likelihoods).item()
        assert row["bpp_estimated"] == pytest.approx(bits / 64**2, rel=1e-5)
        # Another decoder, which has nothing but the weights and the bytes.
        decoded[row["image_id"]] = setting.codec().synthesis(setting.codec().decode([stream]))
        error = (decoded[row["image_id"]] - image).double().numpy()
        assert row["psnr"] == pytest.approx(10 * np.log10(1 / np.mean(error**2)), abs=1e-3)
    assert len({row["n_bytes"] for row in result["images"]}) > 1
    answers_for(setting, decoded, result)


def test_a_neck_gets_the_decoded_latents(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Tensor] = []
    enter = BridgedPoint.enter

    def spy(self: BridgedPoint, received: Received) -> Entry:
        given.append(received.symbols)
        return enter(self, received)

    monkeypatch.setattr(BridgedPoint, "enter", spy)
    result = setting.run("d1", tmp_path)
    codec, images = setting.codec(), setting.images()
    order = [row["image_id"] for row in result["images"]]
    expected = torch.cat([codec.decode(codec.encode(images[i])) for i in order])
    assert torch.equal(torch.cat(given), expected)


def test_d1_has_the_base_codec_s_rate_and_psnr_and_d3_has_no_image(
    results: dict[str, dict[str, Any]],
) -> None:
    rates = ("image_id", "n_bytes", "bpp", "bpp_estimated", "psnr", "overhead_bytes")
    d1_rates, base_rates = (
        [{name: row[name] for name in rates} for row in results[scenario]["images"]]
        for scenario in ("d1", "reconstruction")
    )
    assert d1_rates == base_rates
    assert results["d1"]["samples"] != results["reconstruction"]["samples"]
    assert all(row["psnr"] is None for row in results["d3"]["images"])
    assert all(task["psnr"] is None for task in results["d3"]["summary"].values())


def test_d3_never_runs_the_synthesis(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = evaluate.load_point

    def without_synthesis(*arguments: Any) -> Any:
        model = load(*arguments)
        model.codec.net.g_s = nn.Sequential(Fail())
        return model

    monkeypatch.setattr(evaluate, "load_point", without_synthesis)
    setting.run("d3", tmp_path)
    with pytest.raises(AssertionError, match="g_s"):
        setting.run("reconstruction", tmp_path / "other")


class Fail(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("g_s was executed")


@pytest.mark.parametrize("scenario", ["reconstruction", "d1"])
def test_the_summary_is_the_mean_of_the_samples(
    results: dict[str, dict[str, Any]], setting: Setting, scenario: str
) -> None:
    result = results[scenario]
    tasks = pq.read_table(setting.root / "world/tasks_test.parquet").to_pylist()
    images_of = {row["sample_id"]: row["image_ids"] for row in tasks}
    image = {row["image_id"]: row for row in result["images"]}
    assert set(image) == {i for ids in images_of.values() for i in ids}
    for name, task in result["summary"].items():
        rows = [row for row in result["samples"] if row["task"] == name]
        assert set(task["metrics"]) == {m.name for m in TASKS.get(name).metrics}
        assert len(rows) == task["n_samples"] * len(task["metrics"])
        for metric, value in task["metrics"].items():
            values = [row["value"] for row in rows if row["metric"] == metric]
            assert value == pytest.approx(np.mean(values))
        for row in rows:
            expected = np.mean([image[i]["bpp"] for i in images_of[row["sample_id"]]])
            assert row["bpp"] == pytest.approx(expected)
            assert row["image_id"] == images_of[row["sample_id"]][-1]
        assert task["bpp"] == pytest.approx(np.mean([row["bpp"] for row in rows]))
        samples = sorted({row["sample_id"] for row in rows})
        for key in ("psnr", "bpp_estimated"):
            means = [np.mean([image[i][key] for i in images_of[s]]) for s in samples]
            assert task[key] == pytest.approx(np.mean(means))


def test_evaluating_again_gives_the_same_files(
    setting: Setting, results: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    setting.run("d1", tmp_path)
    first = results["d1"]["out"]
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert {name.parts[0] for name in names} == {*TASK_NAMES, "examples"}
    for task in TASK_NAMES:
        # Four of numbers, the pages, the record, and images: those seen twice are one file.
        record = json.loads((first / task / "examples" / "examples.json").read_text())
        shown = {image["id"] for example in record for image in example["images"]}
        of_task = [name for name in names if name.parts[0] == task]
        assert len(of_task) == 4 + len(record) + 1 + 2 * len(shown)
        assert len(record) == (1 if task == "fewshot" else 2)
    for name in names:
        if name.name != "info.json":
            assert (tmp_path / name).read_bytes() == (first / name).read_bytes(), name


def test_examples_are_pictures_with_room_for_their_text(
    results: dict[str, dict[str, Any]],
) -> None:
    for result in results.values():
        pictures = sorted((result["out"] / "examples").glob("*.png"))
        assert len(pictures) == 3, "two scenes, which three tasks ask about, and an episode"
        assert any("fewshot" in picture.name for picture in pictures)
        for picture in pictures:
            with Image.open(picture) as image:
                assert image.width > 900
                assert np.asarray(image).std() > 10


def same_but_for_time(given: dict[str, Any], whole: dict[str, Any]) -> None:
    for part, key in (("samples", "sample_id"), ("images", "image_id")):
        a, b = given[part], whole[part]
        for row, expected in zip(*(sorted(x, key=lambda r: r[key]) for x in (a, b)), strict=True):
            text = {name: value for name, value in expected.items() if isinstance(value, str)}
            assert {name: row[name] for name in text} == text
            numbers = {n: v for n, v in expected.items() if n not in text and v is not None}
            assert {name: row[name] for name in numbers} == pytest.approx(numbers, rel=1e-4)


def test_shards_and_a_kill_between_them_change_nothing(
    setting: Setting,
    results: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[int] = []
    write = ShardResult.write

    def killed(result: ShardResult, directory: Path) -> None:
        if len(done) == 3:
            raise InterruptedError
        done.append(len(result.answers))
        write(result, directory)

    monkeypatch.setattr(ShardResult, "write", killed)
    with pytest.raises(InterruptedError):
        setting.run("d1", tmp_path / "out", shard_size=4)
    assert done == [4, 4, 4]
    done.clear()
    asked: list[int] = []
    answer = Mllm.answer

    def counted(self: Mllm, prompts: Any, *arguments: Any) -> list[str]:
        asked.append(len(prompts))
        return answer(self, prompts, *arguments)

    monkeypatch.setattr(ShardResult, "write", write)
    monkeypatch.setattr(Mllm, "answer", counted)
    # As a loss of power leaves a file that was not synced.
    next((tmp_path / "out-work").rglob("answered.json")).write_bytes(b"")
    result = setting.run("d1", tmp_path / "out", shard_size=4)
    samples = pq.read_table(setting.root / "world/tasks_test.parquet").num_rows
    assert sum(asked) == samples - 8, "two of the first three shards are not answered again"
    same_but_for_time(result, results["d1"])


def test_after_a_kill_shards_of_another_size_answer_every_sample(
    setting: Setting,
    results: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = ShardResult.write

    def killed(result: ShardResult, directory: Path) -> None:
        write(result, directory)
        raise InterruptedError

    with monkeypatch.context() as kill:
        kill.setattr(ShardResult, "write", killed)
        with pytest.raises(InterruptedError):
            setting.run("d1", tmp_path / "out", shard_size=4)
    same_but_for_time(setting.run("d1", tmp_path / "out", shard_size=8), results["d1"])


def test_an_evaluation_that_lacks_a_sample_is_not_written(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ShardResult.write
    dropped: list[str] = []

    def drop_an_answer(result: ShardResult, directory: Path) -> None:
        dropped.append(result.answers.popitem()[0])
        write(result, directory)

    monkeypatch.setattr(ShardResult, "write", drop_an_answer)
    with pytest.raises(ValueError, match="lack 1 of") as error:
        setting.run("d1", tmp_path / "out", shard_size=512)
    assert dropped[0] in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_sample_that_fails_is_tried_alone_and_listed(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Mllm.answer

    def fails(self: Mllm, prompts: Any, *arguments: Any) -> list[str]:
        if any(prompt.count("<image>") > 1 for prompt in prompts):
            raise RuntimeError("out of memory, say")
        return answer(self, prompts, *arguments)

    monkeypatch.setattr(Mllm, "answer", fails)
    with pytest.raises(ValueError, match=r"max_unreadable.*out of memory"):
        setting.run("d1", tmp_path / "strict")
    data = setting.space.data.model_copy(update={"max_unreadable": 0.5})
    whole, setting.space = setting.space, setting.space.model_copy(update={"data": data})
    measured = setting.measurements
    setting.measurements = tuple(m for m in measured if m.task != "fewshot")
    tasks = pq.read_table(setting.root / "world/tasks_test.parquet").to_pylist()
    world = tmp_path / "world"
    world.mkdir()
    images = pq.read_table(setting.root / "world/images_test.parquet")
    pq.write_table(images, world / "images_test.parquet")
    # One of the questions of a single image is made one of two images, which fails.
    tasks[0] |= {"prompt": "<image> <image> w", "image_ids": tasks[0]["image_ids"] * 2}
    pq.write_table(pa.Table.from_pylist(tasks), world / "tasks_test.parquet")
    try:
        result = setting.run("d1", tmp_path / "out", world)
    finally:
        setting.space, setting.measurements = whole, measured
    (failed,) = result["info"]["failed"]
    assert failed == {
        "sample_id": tasks[0]["sample_id"],
        "reason": "RuntimeError: out of memory, say",
    }
    scored = {row["sample_id"] for row in result["samples"]}
    asked = {row["sample_id"] for row in tasks if row["task"] != "fewshot"}
    assert scored == asked - {tasks[0]["sample_id"]}
    assert sum(task["n_samples"] for task in result["summary"].values()) == len(scored)


def test_the_error_of_a_batch_is_logged_before_its_samples_are_tried_alone(
    setting: Setting,
    results: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = Mllm.answer

    def fails(self: Mllm, prompts: Any, *arguments: Any) -> list[str]:
        if len(prompts) > 1:
            raise RuntimeError("out of memory, say")
        return answer(self, prompts, *arguments)

    monkeypatch.setattr(Mllm, "answer", fails)
    result = setting.run("reconstruction", tmp_path / "out")
    assert result["info"]["failed"] == []
    assert result["samples"] == results["reconstruction"]["samples"]
    records = [record for record in caplog.records if record.name.startswith("trainables.eval")]
    assert {record.levelname for record in records} == {"WARNING"}
    assert all(task in " ".join(r.getMessage() for r in records) for task in TASK_NAMES)
    errors = [record.exc_info[1] for record in records if record.exc_info]
    assert [str(error) for error in errors] == ["out of memory, say"] * len(TASK_NAMES)


def test_after_a_failure_batches_are_halved_not_single_samples(
    setting: Setting,
    results: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = Mllm.answer
    sizes: list[int] = []

    def fails(
        self: Mllm, prompts: Any, features: Any, max_new_tokens: int, batch_size: int
    ) -> list[str]:
        if batch_size > 4:
            raise torch.OutOfMemoryError("of the device")
        sizes.append(len(prompts))
        return answer(self, prompts, features, max_new_tokens, batch_size)

    monkeypatch.setattr(Mllm, "answer", fails)
    result = setting.run("reconstruction", tmp_path / "out", batch_size=16, shard_size=512)
    assert result["info"]["failed"] == []
    assert result["samples"] == results["reconstruction"]["samples"]
    captions = sum(row["task"] == "captioning" for row in result["samples"])
    assert captions >= 4
    # Batches of 16, of 8, then of 4: a quarter of a task's samples at once.
    assert sizes[0] == captions // 4


def test_a_stream_that_its_decoder_refuses_costs_its_image_and_is_listed(
    setting: Setting,
    results: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (refused,) = setting.codec().encode(setting.images()["test-000001"])
    decode = CodedPoint.decode

    def refusing(self: CodedPoint, streams: Any, size: tuple[int, int]) -> Received:
        damaged = [stream[:-1] if stream == refused else stream for stream in streams]
        return decode(self, damaged, size)

    monkeypatch.setattr(CodedPoint, "decode", refusing)
    with pytest.raises(ValueError, match=r"1 of \d+ streams .* max_unreadable .*checksum"):
        setting.run("reconstruction", tmp_path / "strict")
    data = setting.space.data.model_copy(update={"max_unreadable": 0.5})
    whole, setting.space = setting.space, setting.space.model_copy(update={"data": data})
    try:
        result = setting.run("reconstruction", tmp_path / "out")
    finally:
        setting.space = whole
    (row,) = result["info"]["undecodable"]
    assert row["image_id"] == "test-000001"
    assert "checksum" in row["reason"]
    assert "test-000001" in caplog.text
    expected = results["reconstruction"]
    kept = [image for image in expected["images"] if image["image_id"] != "test-000001"]
    # (The encoder's rounding depends on the images in a batch.)
    for name in ("image_id", "n_bytes", "bpp_estimated", "psnr"):
        assert [image[name] for image in result["images"]] == [image[name] for image in kept]
    asked = pq.read_table(setting.root / "world/tasks_test.parquet").to_pylist()
    lost = {sample["sample_id"] for sample in asked if "test-000001" in sample["image_ids"]}
    assert lost
    answers = {s["sample_id"]: s["answer"] for s in expected["samples"]}
    assert {s["sample_id"]: s["answer"] for s in result["samples"]} == {
        sample: answer for sample, answer in answers.items() if sample not in lost
    }


def test_surrogate_terms_are_the_errors_against_transformers_own_encoder(
    setting: Setting, results: dict[str, dict[str, Any]]
) -> None:
    clip, images, codec = make_clip(), setting.images(), setting.codec()

    def features(image: Tensor) -> tuple[Tensor, Tensor]:
        pixels = Tower(clip).preprocess(image)
        with torch.no_grad():
            seen = clip.vision_model(pixel_values=pixels, output_hidden_states=True)
            return clip.visual_projection(seen.pooler_output), seen.hidden_states[-2]

    for row in results["reconstruction"]["images"]:
        image = images[row["image_id"]]
        decoded = codec.synthesis(codec.decode(codec.encode(image)))
        for name, of_decoded, of_image in zip(
            ("pooled", "tokens"), features(decoded), features(image), strict=True
        ):
            expected = np.mean((of_decoded - of_image).double().numpy() ** 2)
            assert row[name] == pytest.approx(expected, rel=1e-3)
    assert {row["tokens"] for row in results["uncompressed"]["images"]} == {0.0}
    tasks = pq.read_table(setting.root / "world/tasks_test.parquet").to_pylist()
    shown = [i for row in tasks if row["task"] == "captioning" for i in row["image_ids"]]
    errors = {row["image_id"]: row["tokens"] for row in results["d1"]["images"]}
    summary = results["d1"]["summary"]["captioning"]
    assert summary["tokens"] == pytest.approx(np.mean([errors[i] for i in shown]))


def test_a_benchmark_is_evaluated_as_the_space_s_own_data_is(
    setting: Setting, tmp_path: Path
) -> None:
    spec = benchmark_spec(
        {**write_pope(tmp_path), "prompt": "<image> question : {question} answer :"}
    )
    write_benchmark(spec, 64, 0.0, tmp_path / "pope")
    space = setting.space.model_copy(update={"benchmarks": (spec,)})
    *_, last, benchmark = space.measurements
    assert (last.benchmark, benchmark.task) == (None, "yes_no")
    whole, setting.measurements = setting.measurements, (benchmark,)
    try:
        result = setting.run("reconstruction", tmp_path / "out", tmp_path / "pope")
    finally:
        setting.measurements = whole
    assert [row["sample_id"] for row in result["samples"][:5]] == ["1", "2", "3", "4", "5"]
    summary = result["summary"]["yes_no"]
    assert summary["n_samples"] == 5
    assert set(summary["set_metrics"]) == {"precision", "recall", "f1"}


def test_choices_by_likelihood_are_asked_so(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Likeliest(OneName):
        by_likelihood = True

        def score(self, answers: Any, references: Any) -> Any:
            values = [json.loads(answer) for answer in answers]
            assert all(len(likelihoods) == 2 for likelihoods in values)
            assert all(value < 0 for likelihoods in values for value in likelihoods)
            return {
                "accuracy": np.array(
                    [likelihoods[0] > likelihoods[1] for likelihoods in values], np.float64
                )
            }

    monkeypatch.setattr(vqa, "TASK", Likeliest())
    TASKS.forget()
    world = tmp_path / "world"
    world.mkdir()
    images = pq.read_table(setting.root / "world/images_test.parquet")
    pq.write_table(images, world / "images_test.parquet")
    tasks = pq.read_table(setting.root / "world/tasks_test.parquet").to_pylist()
    for row in tasks:
        row["reference"] = json.dumps({"choices": ["red", "two digits"], "answer": "red"})
    pq.write_table(pa.Table.from_pylist(tasks), world / "tasks_test.parquet")
    whole = setting.measurements
    setting.measurements = tuple(m for m in whole if m.task == "vqa")
    try:
        result = setting.run("d1", tmp_path / "out", world)
    finally:
        setting.measurements = whole
        TASKS.forget()
    assert all(len(json.loads(row["answer"])) == 2 for row in result["samples"])


def test_answers_are_compared_with_those_about_the_original(
    setting: Setting, tmp_path: Path
) -> None:
    """What the reference has is what the MLLM answers where nothing is compressed."""
    images = write_images(tmp_path / "own", ["a.png", "b/c.png", "b/d.jpg"])
    asked = ("which digit is red ?", "how many digits ?")
    settings = {"format": "unlabelled", "images": images, "questions": asked}
    spec = benchmark_spec({**settings, "prompt": "<image> question : {question} answer :"})
    write_benchmark(spec, 64, 0.0, tmp_path / "written")
    space = setting.space.model_copy(update={"benchmarks": (spec,)})
    (measurement,) = (m for m in space.measurements if m.task == "agreement")
    whole, setting.measurements = setting.measurements, (measurement,)
    try:
        given, sent = (
            setting.run(scenario, tmp_path / scenario, tmp_path / "written")
            for scenario in ("uncompressed", "reconstruction")
        )
    finally:
        setting.measurements = whole
    assert given["summary"]["agreement"]["metrics"] == {"agreement": 1.0, "word_f1": 1.0}
    said = {row["sample_id"]: row["answer"] for row in given["samples"]}
    assert set(said) == {f"{name}-{n}" for name in ("a.png", "b/c.png", "b/d.jpg") for n in (0, 1)}
    for row in sent["samples"]:
        assert json.loads(row["reference"]) == {"original": said[row["sample_id"]]}
        if row["metric"] == "agreement":
            is_same = row["answer"].split() == said[row["sample_id"]].split()
            assert row["value"] == float(is_same)
    assert {row["value"] for row in sent["samples"]} != {1.0}


def test_samples_of_an_unreadable_image_are_left_out_and_named(
    setting: Setting, results: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    world = damaged(setting, tmp_path / "world")
    with pytest.raises(ValueError, match="max_unreadable"):
        setting.run("uncompressed", tmp_path / "out", world)
    data = setting.space.data.model_copy(update={"max_unreadable": 0.5})
    tolerant = setting.space.model_copy(update={"data": data})
    whole, setting.space = setting.space, tolerant
    try:
        result = setting.run("uncompressed", tmp_path / "out", world)
    finally:
        setting.space = whole
    assert [row["image_id"] for row in result["info"]["unreadable"]] == ["test-000000"]
    left = {row["sample_id"] for row in result["samples"]}
    everything = {row["sample_id"] for row in results["uncompressed"]["samples"]}
    gone = everything - left
    assert gone
    assert all(sample.startswith("test-000000") for sample in gone)


def damaged(setting: Setting, world: Path) -> Path:
    world.mkdir()
    table = pq.read_table(setting.root / "world/images_test.parquet")
    rows = table.to_pylist()
    rows[0]["png"] = b"no image"
    pq.write_table(type(table).from_pylist(rows, table.schema), world / "images_test.parquet")
    tasks = pq.read_table(setting.root / "world/tasks_test.parquet")
    pq.write_table(tasks, world / "tasks_test.parquet")
    return world


def test_one_task_after_the_others_gives_what_all_together_give(
    setting: Setting, results: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    whole = setting.measurements
    parts = []
    try:
        for names in ({"captioning", "rec"}, {"vqa"}, {"fewshot"}):
            setting.measurements = tuple(m for m in whole if m.task in names)
            out = tmp_path / "-".join(sorted(names))
            parts.append(setting.run("d1", out) | {"tasks": names})
    finally:
        setting.measurements = whole
    for part in parts:
        expected = [row for row in results["d1"]["samples"] if row["task"] in part["tasks"]]
        assert [row["answer"] for row in part["samples"]] == [row["answer"] for row in expected]
        assert [row["value"] for row in part["samples"]] == [row["value"] for row in expected]
        assert part["summary"].keys() == part["tasks"]
    assert len(parts[0]["images"]) == 5, "no image of an episode"


def test_answers_that_are_kept_serve_whatever_tasks_are_measured_next(
    setting: Setting,
    results: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    answer = Mllm.answer

    def counted(self: Mllm, prompts: Any, *arguments: Any) -> list[str]:
        asked.extend(prompts)
        return answer(self, prompts, *arguments)

    monkeypatch.setattr(Mllm, "answer", counted)
    whole = setting.measurements
    try:
        setting.measurements = tuple(m for m in whole if m.task in ("vqa", "fewshot"))
        setting.run("d1", tmp_path / "out")
        before = len(asked)
        setting.measurements = tuple(m for m in whole if m.task in ("vqa", "captioning"))
        result = setting.run("d1", tmp_path / "out")
    finally:
        setting.measurements = whole
    captions = [row for row in results["d1"]["samples"] if row["metric"] == "cider"]
    assert len(asked) - before == len(captions), "questions were answered before"
    of_tasks = {row["sample_id"]: row["answer"] for row in results["d1"]["samples"]}
    for row in result["samples"]:
        assert row["answer"] == of_tasks[row["sample_id"]]


def test_parts_of_an_evaluation_and_then_the_whole_give_what_one_process_gives(
    setting: Setting,
    results: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []
    answer = Mllm.answer

    def counted(self: Mllm, prompts: Any, *arguments: Any) -> list[str]:
        asked[-1].extend(prompts)
        return answer(self, prompts, *arguments)

    monkeypatch.setattr(Mllm, "answer", counted)
    for part in ((0, 2), (1, 2), None):
        asked.append([])
        result = setting.run("d1", tmp_path / "out", part=part, shard_size=3)
    assert asked[0]
    assert asked[1]
    assert asked[2] == [], "the parts have answered all"
    assert result["samples"] == results["d1"]["samples"]
    for row, expected in zip(result["images"], results["d1"]["images"], strict=True):
        assert row.pop("image_id") == expected["image_id"]
        numbers = {name: expected[name] for name in row}
        assert row == pytest.approx(numbers, rel=1e-5), "in batches of other images"
    assert result["info"]["seconds"] > 0


def test_the_check_of_decoded_symbols_is_no_time_of_decoding(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SymbolWriter.finish

    def slow(self: SymbolWriter) -> bytes:
        time.sleep(0.2)
        return write(self)

    monkeypatch.setattr(SymbolWriter, "finish", slow)
    shown = setting.run("d1", tmp_path / "out")["info"]["milliseconds_per_image"]
    assert shown["encode"] > 200, "the sender has written"
    assert shown["verify"] > 200, "the receiver has written once more"
    assert 0 < shown["decode"] < 150


def test_everything_that_is_measured_is_computed_exactly(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[Switches]] = {}

    def noted(owner: type, name: str) -> None:
        function = getattr(owner, name)
        seen[name] = set()

        def noting(*args: Any, **kwargs: Any) -> Any:
            seen[name].add(switches())
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, noting)

    noted(CodedPoint, "encode")
    noted(BridgedPoint, "enter")
    noted(Mllm, "answer")
    before = switches()
    setting.run("d1", tmp_path / "d1")
    assert seen == {name: {EXACT} for name in seen}
    assert switches() == before


def test_a_clock_waits_for_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that has its work still before it when a call returns: the clock reads its end."""
    now, pending = [0.0], [0.0]

    def wait(device: torch.device) -> None:
        now[0] += pending[0]
        pending[0] = 0.0

    def launch(seconds: float) -> None:
        pending[0] = seconds

    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    monkeypatch.setattr("trainables.evaluation.image_pass.time.monotonic", lambda: now[0])
    clock = Clock(torch.device("cuda"))
    clock.time("decode", launch, 3.0)
    launch(2.0)  # of something else, before
    clock.time("enter", launch, 5.0)
    assert clock.seconds == {"decode": 3.0, "enter": 5.0}

    def answer() -> None:
        launch(1.0)
        clock.time("originals", launch, 4.0)
        launch(0.5)

    clock.time("answer", answer)
    assert clock.seconds == {"decode": 3.0, "enter": 5.0, "originals": 4.0, "answer": 1.5}


def test_bits_are_divided_among_the_original_s_pixels(
    setting: Setting, results: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """Of a 4 : 3 image in a square: its grey is coded, too, but nobody has asked for it."""
    world = shutil.copytree(setting.root / "world", tmp_path / "world")
    file = world / "images_test.parquet"
    table = pq.read_table(file)
    heights = pa.array([48] * len(table), pa.int32())
    place = table.schema.get_field_index("height")
    pq.write_table(table.set_column(place, "height", heights), file)
    for scenario in ("reconstruction", "uncompressed"):
        squares = {row["image_id"]: row for row in results[scenario]["images"]}
        rows = setting.run(scenario, tmp_path / scenario, world)["images"]
        assert rows
        for row in rows:
            square = squares[row["image_id"]]
            assert row["n_bytes"] == square["n_bytes"]
            if scenario == "uncompressed":
                assert row["bpp"] == row["bpp_estimated"] == 24, "grey need not be sent"
                continue
            assert row["bpp"] == 8 * row["n_bytes"] / (64 * 48)
            assert row["bpp_estimated"] == pytest.approx(square["bpp_estimated"] * 4 / 3)


def test_bits_of_a_few_shot_sample_are_those_of_its_examples_and_its_query(
    setting: Setting, results: dict[str, dict[str, Any]]
) -> None:
    rates = {row["image_id"]: row["bpp"] for row in results["d1"]["images"]}
    table = pq.read_table(setting.root / "world/tasks_test.parquet").to_pylist()
    shown = {row["sample_id"]: row["image_ids"] for row in table if row["task"] == "fewshot"}
    rows = [row for row in results["d1"]["samples"] if row["sample_id"] in shown]
    assert rows
    for row in rows:
        of_images = [rates[image_id] for image_id in shown[row["sample_id"]]]
        assert len(of_images) == 5 + 1
        assert row["bpp"] == pytest.approx(sum(of_images) / 6)


def test_the_time_per_image_is_that_of_all_processes_that_answered(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, coded = Counter[str](), 0
    take_time, run = Clock.time, ImagePass.run

    def one_second_per_call(self: Clock, step: str, *arguments: Any) -> Any:
        calls[step] += 1
        before = self.seconds.get(step, 0.0)
        result = take_time(self, step, *arguments)
        self.seconds[step] = before + 1.0
        return result

    def counted(self: ImagePass, batch: Any, *more: Any) -> Any:
        nonlocal coded
        coded += len(batch)
        return run(self, batch, *more)

    monkeypatch.setattr(Clock, "time", one_second_per_call)
    monkeypatch.setattr(Clock, "move", lambda *arguments: None)
    monkeypatch.setattr(ImagePass, "run", counted)
    for part in ((0, 2), (1, 2), None):
        if part is None:  # that draws examples, whose images are coded once more
            measured, images = calls.copy(), coded
        result = setting.run("d1", tmp_path / "out", part=part, shard_size=3)
    assert images > len(result["images"]), "both parts code some images"
    shown = result["info"]["milliseconds_per_image"]
    assert shown.pop("answer") == 1000 * measured.pop("answer") / len(result["images"])
    assert shown == {step: 1000 * n / images for step, n in measured.items()}

"""What `--plan` prints: waves, jobs, resources, storage."""

import os
import re
from pathlib import Path

import pytest

from analysis.curves.curve import MEAN
from analysis.io.read import read_sweep
from analysis.stats.compare import compare
from orchestrator.storage.lease import only_driver
from orchestrator.storage.store import Store
from orchestrator.sweep import main
from tests.analysis.sweeps import make_sweep
from tests.orchestrator.models import SMOKE
from tests.orchestrator.plan.finished import finish, space_of


def test_the_plan_names_waves_points_resources_and_storage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*SMOKE, "--plan", "--storage", str(tmp_path), "--only", "scenario=d2"]
    assert main([*command, "--only", "lambda=0.02"]) == 0
    said = capsys.readouterr().out
    assert (
        "\n1 operating point, 0 of them complete; 9 of 9 jobs to run: 6 prepare, 3 train\n" in said
    )
    # d2 needs d1, and d1 everything before it, but nothing of the other lambda.
    for line in (
        "prepare  training images",
        "prepare  test images",
        "prepare  test episodes",
        "prepare  teacher features",
        "prepare  text embeddings of the classes of training images",
        "train    hyperprior codec lambda=0.02",
        "prepare  hyperprior latents lambda=0.02",
        "train    hyperprior d1 lambda=0.02 seed=0",
        "train    hyperprior d2 lambda=0.02 seed=0",
        "d1, d2: 1 CPU in the trial's process\n",
        "failure: 1 time at the most, each job, evaluation pass and shard for itself\n",
        "(a lost machine costs no try; out of memory: once more; error of code or data: never)\n",
        "entering block 2 of 24; hub/mllm if they share its encoder (not all is at hand)",
        "(assuming that hub/teacher is a CLIP ViT-L/14)",
    ):
        assert line in said
    assert "0.002" not in said


def test_the_plan_of_a_sweep_that_runs_says_who_runs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "being run" not in plan_of(tmp_path, capsys)
    store = Store(str(tmp_path))
    with only_driver(store, "smoke"):
        said = plan_of(tmp_path, capsys)
        elsewhere = plan_of(tmp_path, capsys, name="another")
    assert f"\nit is being run by process {os.getpid()} on " in said
    assert "unless" not in said
    assert "being run" not in elsewhere
    assert "being run" not in plan_of(tmp_path, capsys)


def plan_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *settings: str, name: str = "smoke"
) -> str:
    sets = [word for setting in settings for word in ("--set", setting)]
    assert main([*SMOKE, *sets, "--plan", "--storage", str(tmp_path), "--name", name]) == 0
    return capsys.readouterr().out


def test_the_plan_estimates_what_features_take_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imagenet = ("data.train=1281067", "data.val=100", "teacher.model=openai/clip-vit-large-patch14")
    said = plan_of(tmp_path, capsys, *imagenet, "surrogate.tokens=1", "surrogate.pooled=0")
    # 1,281,167 images x 257 tokens x 1024 x 2 bytes
    assert re.search(r"  features +674\.[0-9] GB\n", said)
    said = plan_of(tmp_path, capsys, *imagenet, "surrogate.tokens=0", "surrogate.pooled=1")
    # 1,281,167 images x 768 numbers x 2 bytes
    assert re.search(r"  features +2\.0 GB\n", said)


def test_the_plan_says_how_latents_meet_the_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, said in (
        ("openai/clip-vit-large-patch14", "latents 16x16 -> tokens 16x16, entering block 2 of 24"),
        (
            "openai/clip-vit-large-patch14-336",
            "latents 16x16 -> tokens 24x24: resampled, entering block 2 of 24",
        ),
        (
            "google/siglip2-base-patch16-256",
            "latents 16x16 -> tokens 16x16, entering block 2 of 12",
        ),
    ):
        assert said in plan_of(tmp_path, capsys, "data.size=256", f"teacher.model={name}")


def test_the_plan_says_why_jobs_run_again_and_what_the_estimates_rest_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(Store(str(tmp_path)), space_of(), lambda job, stage: 60.0, lambda stage: 1000)
    lines = plan_of(tmp_path, capsys, "d1.lr=0.002").splitlines()
    assert re.search(r"6 of \d+ jobs to run: 6 train, \d+ reuse$", lines[1])
    assert "wave 2: points from the codec: 2 train, 5 reuse" in lines
    assert "again  6 jobs (hyperprior d1 lambda=0.002 seed=0, ...): d1.lr 0.001 -> 0.002" in lines
    stages = 6 + 6 * len(space_of().measurements)
    assert f"estimates of {stages} stages rest: {stages} on earlier ones in this storage" in lines
    assert any(f"({stages} min of computing)" in line for line in lines)
    assert "  trained weights               6.0 kB" in lines
    lines = plan_of(tmp_path, capsys, "evaluation.beams=2").splitlines()
    assert re.search(r"11 of \d+ jobs to run: 11 measure, \d+ reuse$", lines[1])
    lines = plan_of(tmp_path, capsys).splitlines()
    assert lines[-1] == "nothing is left to compute"
    assert not [line for line in lines if line.startswith("again")]


def test_the_plan_of_a_new_storage_rests_on_planned_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = plan_of(tmp_path / "new", capsys, "seeds=[0,1]")
    assert re.search(r"estimates of \d+ stages rest: \d+ on planned costs\n", said)
    assert "as this machine has room for" in said
    assert "\nagain " not in said


def test_the_plan_says_which_differences_the_sweep_will_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = "data.test=50", "data.episodes=50"
    said = plan_of(tmp_path, capsys, *settings)
    # 1.96 * sqrt(0.25 / 50)
    assert "an accuracy over 50 test images is known to ±0.139 at worst" in said
    pilot = make_sweep(tmp_path / "earlier", n=200, examples=False)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "sweep.json").write_text('{"points": {"a": {}}, "created": "2030"}')
    rows = compare(read_sweep(str(pilot)), n_resamples=400)
    rows = rows[rows["task"] == MEAN]
    halves = (rows["bd_accuracy_high"] - rows["bd_accuracy_low"]).dropna() / 2
    said = plan_of(tmp_path, capsys, *settings)
    assert "by 50 test images or more a task and 1 training of each, as in sweep 'earlier'" in said
    assert "; what trainings vary by is not in it" in said
    found = re.search(r"BD-rate to ±\d+ % and accuracy to ±(0\.\d+) against", said)
    assert found is not None
    assert float(found[1]) == pytest.approx(2 * halves.median(), abs=0.0006)


def test_the_plan_counts_the_trainings_that_may_end_early(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early = "trainings that may end at a plateau before their last step: "
    assert early not in plan_of(tmp_path, capsys)
    # d1 of two lambdas.
    assert f"{early}2\n" in plan_of(tmp_path, capsys, "d1.until=plateau", "d1.lr_decay=step")

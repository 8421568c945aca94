import json
import os
import re
from pathlib import Path

import pytest

from orchestrator.sweep import main
from orchestrator.validation.teachers import check_teacher
from search_spaces import load_space
from tests.blocked_imports import run_blocked

SMOKE = ["smoke", "--set", "teacher.model=hub/teacher", "--set", "mllms=[hub/mllm]"]


def test_all_mistakes_are_said_at_once_with_setting_value_and_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    code = main(
        [
            "smoke",
            "--set=teacher.model=./no/such/teacher",
            "--set=mllms=[shipped:nonsense]",
            "--only=scenario=d9",
            "--name=../up",
            f"--storage={tmp_path}/file/below",
            "--tracking-uri=htp://host",
        ]
    )
    said = capsys.readouterr().err
    assert code == 2
    for expected in (
        "teacher.model = './no/such/teacher': no such directory",
        "mllms.0 = 'shipped:nonsense': nothing is shipped by that name",
        "no operating point has scenario d9; there are d1, d2, d3",
        "--name '../up'",
        "is a file, not a directory",
        "--tracking-uri htp://host: unknown scheme 'htp'",
    ):
        assert expected in said, said
    assert len(said.splitlines()) == 6


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nonsense"], "named spaces are"),
        (["smoke", "--set", "d1.stepz=3"], "did you mean 'steps'?"),
        ([*SMOKE, "--set", "surrogate.templates=imagnet"], "data, plain, imagenet-80, or a file"),
        ([*SMOKE, "--set", "surrogate.classes=no.txt"], "surrogate.classes = 'no.txt' cannot be"),
        ([*SMOKE, "--storage", "s4://bucket"], "unknown scheme 's4'"),
        ([*SMOKE, "--storage", "memory://x"], "not shared between processes"),
        ([*SMOKE, "--storage", "{tmp}", "--tracking-uri", "http:///x"], "no host"),
        ([*SMOKE, "--storage", "{tmp}", "--tracking-uri", "sqlite://x.db"], "sqlite:///PATH"),
        ([*SMOKE, "--storage", "{tmp}", "--only", "colour=red"], "codec, lmbda, scenario, seed"),
    ],
)
def test_bad_input_exits_2_before_any_work(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("{tmp}", str(tmp_path)) for word in arguments]) == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.glob("*/"))


def test_a_model_directory_without_config_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["smoke", "--set", f"teacher.model={tmp_path}", "--set", "mllms=[hub/mllm]"]
    assert main([*command, "--storage", str(tmp_path)]) == 2
    assert "no readable config.json" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_storage_without_permission_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    assert main([*SMOKE, "--storage", str(tmp_path / "new")]) == 2
    assert "no permission" in capsys.readouterr().err


def test_a_password_in_a_uri_is_never_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for argument in ("--tracking-uri=ftp://me:hunter2@host", "--storage=s4://me:hunter2@host/x"):
        assert main([*SMOKE, f"--storage={tmp_path}", argument]) == 2
        said = capsys.readouterr()
        assert "hunter2" not in said.err + said.out
        assert "host" in said.err


COMMAND = "from orchestrator.sweep import main; sys.exit(main(sys.argv[1:]))"
HEAVY = ("torch", "ray", "mlflow", "transformers", "pandas")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--list"], 0),
        ([*SMOKE, "--plan", "--storage", "{tmp}/new"], 0),
        (["nonsense", "--storage", "{tmp}/new"], 2),
    ],
)
def test_list_plan_and_mistakes_are_quick_and_touch_nothing(
    arguments: list[str], code: int, tmp_path: Path
) -> None:
    words = [word.replace("{tmp}", str(tmp_path)) for word in arguments]
    done = run_blocked(HEAVY, COMMAND, *words)
    assert done.returncode == code, done.stderr
    assert not (tmp_path / "new").exists()


def test_the_plan_names_waves_points_resources_and_storage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*SMOKE, "--plan", "--storage", str(tmp_path), "--only", "scenario=d2"]
    assert main([*command, "--only", "lambda=0.02"]) == 0
    said = capsys.readouterr().out
    assert "1 operating points, 0 of them complete; 7 of 7 jobs to run" in said
    # d2 needs d1, and d1 everything before it, but nothing of the other lambda.
    for line in (
        "to do  world",
        "to do  teacher features",
        "to do  text embeddings of the classes",
        "to do  hyperprior codec lambda=0.02",
        "to do  hyperprior latents lambda=0.02",
        "to do  hyperprior d1 lambda=0.02 seed=0",
        "to do  hyperprior d2 lambda=0.02 seed=0",
        "asks for 1 CPU",
        "entering block 2 of 24; hub/mllm if they share its encoder (not all is at hand)",
        "(assuming that hub/teacher is a CLIP ViT-L/14)",
    ):
        assert line in said
    assert "0.002" not in said


def plan_of(tmp_path: Path, capsys: pytest.CaptureFixture[str], *settings: str) -> str:
    sets = [word for setting in settings for word in ("--set", setting)]
    assert main([*SMOKE, *sets, "--plan", "--storage", str(tmp_path)]) == 0
    return capsys.readouterr().out


def test_the_plan_estimates_what_features_take_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imagenet = ("data.train=1281067", "data.val=100", "teacher.model=openai/clip-vit-large-patch14")
    said = plan_of(tmp_path, capsys, *imagenet, "surrogate.tokens=1", "surrogate.pooled=0")
    # 1,281,167 images x 257 tokens x 1024 x 2 bytes
    assert re.search(r"token features +674 GB\n", said)
    assert "pooled features" not in said
    said = plan_of(tmp_path, capsys, *imagenet, "surrogate.tokens=0", "surrogate.pooled=1")
    assert re.search(r"pooled features +2 GB\n", said)
    assert "token features" not in said


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


@pytest.mark.parametrize(
    ("config", "settings", "expected"),
    [
        ({"model_type": "siglip2"}, [], "NaFlex"),
        ({"model_type": "bert"}, [], "'bert' is no visual encoder; clip, "),
        ({"model_type": "clip"}, ["teacher.block=13"], "teacher.block = 13: "),
        ({"model_type": "clip"}, ["surrogate.token_layer=1"], "valid are 2 to 12"),
        ({"model_type": "clip"}, ["surrogate.token_layer=-14"], "hidden states -13 to 12"),
        ({"model_type": "clip"}, ["neck.heads=5"], "neck.heads = 5: does not divide"),
        (
            {"model_type": "clip"},
            ["neck.init=encoder", "neck.heads=6"],
            "the encoder's, 12 or null",
        ),
        ({"model_type": "clip"}, ["neck.init=encoder", "neck.mlp_ratio=3"], "the encoder's, 4 or"),
        ({"model_type": "clip_vision_model"}, [], "has no text tower; set ce to 0"),
        (
            {"model_type": "siglip", "vision_config": {"vision_use_head": False}},
            [],
            "no pooled feature",
        ),
        ({"model_type": "siglip"}, ["surrogate.double_norm=true"], "a setting of CLIP"),
    ],
)
def test_what_does_not_fit_the_teacher_is_a_mistake(
    config: dict[str, object],
    settings: list[str],
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "config.json").write_text(json.dumps(config))
    sets = [f"--set={setting}" for setting in (f"teacher.model={tmp_path / 'teacher'}", *settings)]
    assert main([*SMOKE, *sets, "--plan", "--storage", str(tmp_path / "new")]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert len(said.splitlines()) == 1


def test_zero_shot_tasks_need_a_teacher_with_a_text_tower(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip_vision_model"}')
    settings = [
        f"teacher.model={tmp_path}",
        "surrogate.phases=[{until: 1, ce: 0, distill: 1}]",
        f"data={{kind: folder, uri: {tmp_path}}}",
        "tasks=[zeroshot]",
    ]
    (problem,) = check_teacher(load_space("smoke", settings))
    assert problem.startswith("tasks: zeroshot: the encoder alone classifies by class names'")
    assert check_teacher(load_space("smoke", ["tasks=[vqa]"])) == []


def test_a_search_over_blocks_that_the_teacher_has_not_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = "search.over={teacher.block: {integers: [2, 40]}}"
    assert main(["demo-search", "--plan", "--storage", str(tmp_path), f"--set={over}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: teacher.block = 40: shipped:clip-scenes has blocks 0 to ")

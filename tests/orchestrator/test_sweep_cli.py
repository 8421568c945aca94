import json
import os
import threading
from pathlib import Path

import pytest

from orchestrator.sweep import main, parser
from tests.blocked_imports import run_blocked
from tests.orchestrator.models import SMOKE
from tests.orchestrator.waiting import wait_until


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
        f"teacher.model = '{Path.cwd()}/no/such/teacher': ",
        "mllms.0 = 'shipped:nonsense': ",
        "scenario d9",
        "d1, d2, d3",
        "--name '../up'",
        f"--storage {tmp_path}/file/below: {tmp_path}/file",
        "--tracking-uri htp://host: ",
    ):
        assert expected in said, said
    assert len(said.splitlines()) == 6


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nonsense"], "demo, "),
        (["smoke", "--set", "d1.stepz=3"], "'steps'"),
        ([*SMOKE, "--set", "surrogate.templates=imagnet"], "data, plain, imagenet-80"),
        ([*SMOKE, "--set", "surrogate.classes=no.txt"], "/no.txt' cannot be read"),
        ([*SMOKE, "--set", "mllms=[{tmp}]"], "(no readable config.json)"),
        ([*SMOKE, "--set", "codecs.0.weights=no.pth"], "codecs.0.weights = 'no.pth': no such"),
        ([*SMOKE, "--set", "mllms=[/{long}]"], "mllms.0 = '/xxx"),
        ([*SMOKE, "--set", "codecs.0.weights=shipped:{long}"], "codecs.0.weights = 'shipped:x"),
        ([*SMOKE, "--set", "surrogate.classes=/dev/zero"], "'/dev/zero' is no regular file"),
        ([*SMOKE, "--set", "surrogate.templates=/dev/zero"], "'/dev/zero' is no regular file"),
        ([*SMOKE, "--storage", "s4://bucket"], "--storage s4://bucket: "),
        ([*SMOKE, "--storage", "memory://x"], "--storage memory://x: "),
        ([*SMOKE, "--storage", "s3://[x/y"], "--storage s3://[x/y: "),
        ([*SMOKE, "--storage", "{tmp}", "--tracking-uri", "http://me:p[w@h"], "http://***@h: "),
        ([*SMOKE, "--storage", "{tmp}", "--tracking-uri", "http:///x"], "http://HOST:PORT"),
        ([*SMOKE, "--storage", "{tmp}", "--tracking-uri", "sqlite://x.db"], "sqlite:///PATH"),
        ([*SMOKE, "--storage", "{tmp}", "--experiment", "a#b"], "--experiment 'a#b': 1 to 250"),
        ([*SMOKE, "--storage", "{tmp}", "--owner", " ada"], "--owner ' ada': 1 to 250"),
        ([*SMOKE, "--storage", "{tmp}", "--only", "colour=red"], "codec, lambda, scenario, seed"),
    ],
)
def test_bad_input_exits_2_before_any_work(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [word.replace("{tmp}", str(tmp_path)) for word in arguments]
    assert main([word.replace("{long}", "x" * 300) for word in filled]) == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.glob("*/"))


def test_files_beside_no_space_are_mistakes_though_they_are_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other nodes have other working directories."""
    space = tmp_path / "lab" / "mine.yaml"
    for file in (space, tmp_path / "w.pth.tar", tmp_path / "clip" / "config.json"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
    images = (
        "data: {kind: folder, uri: clip, size: 64}, scenarios: [d1], mllms: [], "
        "tasks: [classification]"
    )
    model = "codecs: [{arch: tic, lambdas: [0.1], weights: w.pth.tar}], teacher: {model: clip}"
    space.write_text(f"{{{model}, {images}}}")
    monkeypatch.chdir(tmp_path)
    assert main([str(space), "--storage", str(tmp_path / "storage")]) == 2
    mistakes = capsys.readouterr().err
    assert "codecs.0.weights = 'w.pth.tar': no such file" in mistakes
    assert "data.uri = 'clip': no such directory" in mistakes
    assert "teacher.model = 'clip': is here, but not beside the space" in mistakes


def test_a_space_that_stands_within_itself_is_a_mistake_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text("extends: smoke\ntasks: &t [*t]\n")
    assert main([str(space), "--storage", str(tmp_path / "storage")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("*t stands within itself, line 2, column 12")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_storage_without_permission_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    assert main([*SMOKE, "--storage", str(tmp_path / "new")]) == 2
    assert f"--storage {tmp_path}/new: " in capsys.readouterr().err


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
        (["status", "demo", "--storage", "{tmp}/new"], 2),
    ],
)
def test_list_plan_and_mistakes_are_quick_and_touch_nothing(
    arguments: list[str], code: int, tmp_path: Path
) -> None:
    words = [word.replace("{tmp}", str(tmp_path)) for word in arguments]
    done = run_blocked(HEAVY, COMMAND, *words)
    assert done.returncode == code, done.stderr
    assert not (tmp_path / "new").exists()


def test_a_ray_that_does_not_start_is_one_line_and_the_command_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def time_out(**options: object) -> None:
        raise Exception("The current node timed out during startup. The GCS is overloaded.")

    monkeypatch.setattr("ray.init", time_out)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)  # else the sweep makes one
    assert main([*SMOKE, "--storage", str(tmp_path / "storage")]) == 1
    error = capfd.readouterr().err
    assert "error: Ray on this machine: Exception: The current node timed out" in error
    assert "Traceback" not in error
    assert "the same command tries again" in error
    # A thread that goes on would log what another driver may be changing.
    wait_until(lambda: "mlflow" not in {thread.name for thread in threading.enumerate()}, 60)


def test_a_plan_warns_of_weights_that_are_hardly_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = ["--storage", str(tmp_path / "new")]
    assert main([*SMOKE, "--set", "d3.delta=1", "--plan", *storage]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: d3.delta = 1: ")


@pytest.mark.parametrize("config", [b"\xff\xfe", b"[" * 100_000, b"[]", b"{"])
def test_a_broken_configuration_of_a_model_is_one_line_with_its_setting(
    config: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_bytes(config)
    storage = ["--storage", str(tmp_path / "new")]
    for setting in ("teacher.model={}", "mllms=[{}]"):
        text = setting.format(tmp_path / "model")
        assert main([*SMOKE, "--set", text, "--plan", *storage]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert setting.partition("=")[0] in line
        assert "config.json cannot be read" in line


def test_a_model_whose_image_processor_is_its_own_code_is_refused_by_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    processor = {"auto_map": {"AutoImageProcessor": "theirs.P"}, "image_processor_type": "Theirs"}
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(processor))
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    plan = [*SMOKE, "--set", f"mllms=[{tmp_path}]", "--plan", "--storage", str(tmp_path / "new")]
    assert main(plan) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "mllms.0" in line
    assert "'Theirs'" in line
    assert "own code (auto_map) is never run" in line
    assert not (tmp_path / "run").exists()
    file.write_text(json.dumps(processor | {"image_processor_type": "CLIPImageProcessor"}))
    assert main(plan) == 0, "it has a class of transformers"


def test_an_error_that_no_check_foresaw_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("two\nlines")

    command = [*SMOKE, "--plan", "--storage", str(tmp_path / "new")]
    for module in ("orchestrator.validation.inputs.check_data", "orchestrator.sweep._plan"):
        with monkeypatch.context() as patch:
            patch.setattr(module, fail)
            assert main(command) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert "KeyError" in line
            with pytest.raises(KeyError):
                main([*command, "-v"])


def test_the_help_names_the_filter_as_labels_do() -> None:
    text = " ".join(parser().format_help().split())
    assert "fields: codec, lambda (also lmbda), scenario, seed, variant;" in text

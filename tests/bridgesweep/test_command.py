"""The command `bridgesweep`: the packages' commands, with the base install and with everything."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bridgesweep
from bridgesweep.command import COMMANDS, run
from orchestrator.sweep import main as sweep
from tests.blocked_imports import ROOT, run_absent

START = "from bridgesweep.command import main; main()"
OF_BASE = ("report", "doctor")
GET_IT = 'pip install "bridgesweep[sweep]"'


def packages_of_sweep() -> list[str]:
    """What the base install does not have, by the names that are imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = {
        canonicalize_name(Requirement(line).name)
        for line in project["optional-dependencies"]["sweep"]
    }
    installed = packages_distributions()
    return [
        name
        for name, distributions in installed.items()
        if extra & {canonicalize_name(distribution) for distribution in distributions}
    ]


ABSENT = packages_of_sweep()


@pytest.mark.parametrize("word", COMMANDS)
def test_a_word_has_the_options_of_the_packages_command(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run([word, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: bridgesweep {word} ")
    command = COMMANDS[word]
    assert shown == command.parser(f"bridgesweep {word}").format_help()


def test_a_word_does_what_the_module_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["smoke", "--storage", str(tmp_path / "new")]
    for words, module in (
        (["list"], ["--list"]),
        (["plan", *options], ["--plan", *options]),
        (["status", *options], ["status", *options]),
        (["gc", *options[1:]], ["gc", *options[1:]]),
        (["cancel", "smoke", "scenario=d1"], ["cancel", "smoke", "scenario=d1"]),
        (["run", "nonsense"], ["nonsense"]),
    ):
        code = run(words)
        said = capsys.readouterr()
        assert (sweep(module), capsys.readouterr()) == (code, said)
        assert said.out or said.err


def test_an_unknown_word_is_refused_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["nonsense"])
    assert ended.value.code == 2
    assert all(repr(word) in capsys.readouterr().err for word in ["report"])


def test_the_base_install_makes_figures_and_report(tmp_path: Path) -> None:
    assert {"torch", "ray", "mlflow", "transformers", "sklearn", "compressai"} <= set(ABSENT)
    points = "codec,bpp,accuracy\nelic,0.1,0.5\nelic,0.2,0.7\ntic,0.1,0.4\ntic,0.3,0.7\n"
    (tmp_path / "mine.csv").write_text(points)
    out = tmp_path / "out"
    done = run_absent(ABSENT, tmp_path, "-c", START, "report", "mine.csv", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").is_file()
    assert list(out.glob("plots/*.png"))


@pytest.mark.parametrize(
    "arguments",
    [
        *(("-c", START, word, "x") for word in COMMANDS if word not in OF_BASE),
        ("-m", "orchestrator.sweep", "--list"),
        ("-m", "trainables.commands.rd_eval"),
    ],
)
def test_without_the_extra_a_command_says_in_one_line_how_to_get_it(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done = run_absent(ABSENT, tmp_path, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert GET_IT in line


def test_mlflow_s_runs_are_not_read_without_mlflow(tmp_path: Path) -> None:
    server = "http://127.0.0.1:9"
    done = run_absent(ABSENT, tmp_path, "-m", "analysis.report", server)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install mlflow" in line
    assert server in line


def test_doctor_says_what_the_base_install_lacks(tmp_path: Path) -> None:
    done = run_absent(ABSENT, tmp_path, "-c", START, "doctor")
    assert done.returncode == 1, done.stderr
    assert GET_IT in done.stdout
    assert not done.stderr


def test_the_shell_s_completion_knows_the_options_and_is_valid(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "--mlflow-ui" in script
    assert "--older-than" in script
    ask = "complete -p bridgesweep && COMP_WORDS=(bridgesweep gc --del) COMP_CWORD=2 && "
    function = script.partition("complete ")[2].partition("-F ")[2].split()[0]
    bash = shutil.which("bash") or "bash"
    done = subprocess.run(
        [bash, "-c", f"{script}\n{ask} {function} bridgesweep --del gc; echo ${{COMPREPLY[@]}}"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "--delete"


def test_the_package_gives_what_notebooks_need_and_imports_nothing_before() -> None:
    code = (
        "import sys, bridgesweep; assert not {'pandas', 'pydantic', 'torch'} & set(sys.modules);"
        "bridgesweep.load_space('demo'); assert 'pandas' not in sys.modules;"
        "bridgesweep.read_sweep(bridgesweep.EXAMPLE); print(*sorted({'torch', 'ray'} & set("
        "sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
    names = dir(bridgesweep)
    assert len(names) == len(set(names)) > 30, "no name means two things"
    assert all(getattr(bridgesweep, name) is not None for name in names)
    with pytest.raises(AttributeError, match="no_such"):
        _ = bridgesweep.no_such

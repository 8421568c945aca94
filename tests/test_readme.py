"""What the README shows is true: its spaces are spaces, its named ones are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from search_spaces import load_space
from search_spaces.load import named_spaces

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = {"gc", "status", "cancel", "prioritise"}
SPACES = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(SPACES)))
def test_the_spaces_that_are_shown_are_spaces(number: int, tmp_path: Path) -> None:
    file = tmp_path / "shown.yaml"
    file.write_text(SPACES[number], encoding="utf-8")
    assert load_space(str(file)).name == "shown"


def test_the_notebook_lines_train_a_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = TEXT[TEXT.index("## From a notebook") :]
    (block, *_) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    assert (tmp_path / "scratch" / "codec" / "model.safetensors").is_file()


def test_the_spaces_that_are_named_are_there() -> None:
    named = re.findall(r"orchestrator\.sweep ([a-z][a-z-]*)(?![\w.-])", TEXT)
    assert {"demo", "smoke", "demo-codecs"} <= set(named) - COMMANDS <= set(named_spaces())

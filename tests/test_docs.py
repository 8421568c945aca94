"""What README and the pages of docs/ show is true: spaces, commands, code, links, the reference."""

from __future__ import annotations

import copy
import dataclasses
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import EXAMPLE, assemble, read_sweep
from analysis.stats.trainings import trainings
from bridgesweep.command import COMMANDS
from orchestrator.sweep import parser as sweep_parser
from search_spaces import load_space
from search_spaces.load import named_spaces
from tests.orchestrator.plan.made_again import all_settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    page.name: page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *DOCS.glob("*.md")]
}
TEXT = "\n".join(PAGES.values())
VERBS = {"gc", "status", "cancel", "prioritise"}
SPACES = list(dict.fromkeys(re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)))


def commands() -> Iterator[str]:
    """The command lines of all shell blocks, without comments; lines that go on are one."""
    for block in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL):
        yield from filter(None, block.replace("\\\n", " ").splitlines())


@pytest.mark.parametrize("number", range(len(SPACES)))
def test_the_spaces_that_are_shown_are_spaces(number: int, tmp_path: Path) -> None:
    file = tmp_path / "shown.yaml"
    file.write_text(SPACES[number], encoding="utf-8")
    assert load_space(str(file)).name == "shown"


def test_the_notebook_lines_train_a_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = PAGES["how-it-works.md"].partition("## From a notebook")[2]
    (block, *_) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    assert (tmp_path / "scratch" / "codec" / "model.safetensors").is_file()


def test_the_lines_about_figures_draw_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    (block, *_) = re.findall(r"```python\n(.*?)```", PAGES["compare.md"], flags=re.DOTALL)
    shown = '"bridgesweep-results/demo"'
    assert shown in block
    monkeypatch.chdir(tmp_path)
    exec(block.replace(shown, repr(EXAMPLE)), {})
    assert {file.suffix for file in tmp_path.glob("paper/*")} == {".png", ".svg", ".pdf"}
    assert "shipped:llava-scenes" in capsys.readouterr().out


def test_the_spaces_that_are_named_are_there() -> None:
    named = re.findall(r"orchestrator\.sweep ([a-z][a-z-]*)(?![\w.-])", TEXT)
    assert {"demo", "smoke", "demo-codecs"} <= set(named) - VERBS <= set(named_spaces())


def test_the_commands_that_are_shown_have_these_options() -> None:
    count = 0
    for line in commands():
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            if words[:1] == ["bridgesweep"]:
                COMMANDS[words[1]].parser("shown").parse_args(words[2:])
            elif "orchestrator.sweep" in words:
                arguments = words[words.index("orchestrator.sweep") + 1 :]
                if arguments[:1] and arguments[0] in VERBS:
                    COMMANDS[arguments[0]].parser("shown").parse_args(arguments[1:])
                else:
                    sweep_parser().parse_args(arguments)
            else:
                continue
            count += 1
    assert count >= 8


def test_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(PAGES["README.md"].splitlines()) < 120
    for name, text in PAGES.items():
        base = ROOT if name == "README.md" else DOCS
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            assert "://" in link or (base / link).exists(), (name, link)


def test_the_reference_is_that_of_the_code() -> None:
    made = runpy.run_path(str(DOCS / "reference.py"))["reference"]()
    assert PAGES.get("reference.md") == made, "run `python docs/reference.py`"


def test_a_table_ends_with_an_empty_line() -> None:
    """What follows without one is drawn as a row."""
    for page in PAGES.values():
        for table in re.findall(r"(?:^ *\|.*\n)+(.*)", page, flags=re.MULTILINE):
            assert not table.strip()


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True))
    pages = {page.parent.name for page in (tmp_path / "site").glob("*/index.html")}
    assert {Path(name).stem for name in PAGES} - {"README"} <= pages
    reference = (tmp_path / "site" / "reference" / "index.html").read_text(encoding="utf-8")
    for path in all_settings():
        assert f"<code>{path.rpartition('.')[2]}</code>" in reference, path
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?://[^\s\">]+)", page.read_text()
        )
        assert not loaded, page


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """`docs/measured.py`, which is no package's module."""
    return runpy.run_path(str(DOCS / "measured.py"))


def test_the_numbers_of_the_readme_are_those_of_the_shipped_sweeps(
    measured: dict[str, Any],
) -> None:
    short, long = (
        assemble(read_sweep(str(DOCS / "results" / name))) for name in ("demo", "demo-converged")
    )
    readme = PAGES["README.md"]
    assert measured["with_measured"](readme, measured["measured"](short, long)) == readme


def test_the_numbers_of_the_gallery_are_those_of_the_shipped_sweeps(
    measured: dict[str, Any],
) -> None:
    page = PAGES["gallery.md"]
    assert measured["with_measured"](page, measured["gallery"]()) == page


def test_curves_that_saw_unequal_numbers_of_images_are_not_called_equal(
    measured: dict[str, Any],
) -> None:
    sweep = read_sweep(str(DOCS / "results" / "demo"))
    points = copy.deepcopy(sweep.manifest["points"])
    keys = sweep.points.loc[sweep.points["scenario"] == "d3", "point_key"].unique()
    for key in keys:
        points[key]["info"]["images"] *= 2
    other = dataclasses.replace(sweep, manifest={**sweep.manifest, "points": points})
    with pytest.raises(ValueError, match="d2 saw 768 images, d3 1,536"):
        measured["_images"](trainings(other))


def test_a_readme_without_the_marks_is_not_written(measured: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not once"):
        measured["with_measured"]("no marks", "numbers")

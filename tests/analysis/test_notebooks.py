"""Every notebook, run from top to bottom in a kernel of its own."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from analysis import EXAMPLE
from tests.analysis.sweeps import GAIN

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "analysis" / "notebooks").glob("*.ipynb"))
SOURCE = "SWEEP = EXAMPLE"
HEAVY = "import sys\nprint(sorted({'torch', 'ray'} & set(sys.modules)))"


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def run(notebook: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The notebook, executed in an empty folder."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(folder / ".ipython"))
    work = folder / "work"
    work.mkdir()
    client = NotebookClient(
        notebook,
        timeout=600,
        startup_timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(work)}},
    )
    client.execute()
    assert list(work.iterdir()) == []  # what it writes, it removes
    return notebook


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Any]:
    """Runs a shipped notebook once for all tests; its last cell names the heavy packages."""

    @functools.cache
    def run_once(path: Path) -> Any:
        notebook = read(path)
        notebook.cells.append(nbformat.v4.new_code_cell(HEAVY))
        with pytest.MonkeyPatch.context() as monkeypatch:
            return run(notebook, tmp_path_factory.mktemp(path.stem), monkeypatch)

    return run_once


def said(cell: Any) -> str:
    return "".join(out.get("text", "") for out in cell.outputs)


def test_there_are_five() -> None:
    names = [path.stem for path in NOTEBOOKS]
    assert names == [
        "01_first_sweep",
        "02_compare_codecs",
        "03_savings_and_intervals",
        "04_bring_your_own_results",
        "05_paper_figures",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped_and_it_begins_with_a_question(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert "**Question.**" in notebook.cells[0].source
    assert notebook.cells[-2].source.startswith("## Answer")
    # The answer is computed: its text holds no number but those that were put in.
    assert notebook.cells[-1].cell_type == "code"
    assert notebook.cells[-1].source.count("print(") > 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_answers_without_torch_and_ray(
    path: Path, executed: Callable[[Path], Any]
) -> None:
    done = executed(path)
    *_, answer, heavy = done.cells
    assert said(heavy) == "[]\n"
    assert len(said(answer)) > 60
    assert "nan" not in said(answer)
    errors = [
        out
        for cell in done.cells
        if cell.cell_type == "code"
        for out in cell.outputs
        if out.get("name") == "stderr"
    ]
    assert errors == []


def test_own_results_are_compared_with_what_was_put_in(
    executed: Callable[[Path], Any],
) -> None:
    assert not any("assert" in cell.source for cell in read(NOTEBOOKS[3]).cells)
    *_, answer_cell, _ = executed(NOTEBOOKS[3]).cells
    answer = said(answer_cell)
    rows = [line.split()[-2:] for line in answer.splitlines() if " from " in line]
    assert [float(put_in) for put_in, _ in rows] == [-10, -20, -30]
    for put_in, measured in rows:
        assert float(measured) == pytest.approx(float(put_in), abs=0.1)


def test_the_answer_is_that_of_the_sweep_it_is_given(
    sweep_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a simulated sweep it finds the saving that was put in."""
    notebook = read(NOTEBOOKS[0])
    (cell,) = [c for c in notebook.cells if SOURCE in c.source]
    cell.source = cell.source.replace(SOURCE, f"SWEEP = {str(sweep_dir)!r}")
    answer = said(run(notebook, tmp_path, monkeypatch).cells[-1])
    low, high = answer.partition("(BD-rate ")[2].partition(" %)")[0].split(" to ")
    truth = 100 * (1 / GAIN["d1"] - 1)
    assert float(low) - 0.5 <= truth <= float(high) + 0.5
    assert EXAMPLE not in answer

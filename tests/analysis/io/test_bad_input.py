"""Input that is not a sweep, by the command: one line that says what is wrong, exit code 2."""

from __future__ import annotations

import http.server
import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from analysis.io.read import write_points
from analysis.io.schema import AnalysisError
from analysis.report.build import main
from tests.analysis.benchmark_files import RUN, lmms_content
from tests.analysis.messages import holds

pytestmark = pytest.mark.timeout(180)  # a server that is away must not be waited for


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command; its one line of complaint."""

    def run(*arguments: str | Path) -> str:
        assert main([str(one) for one in arguments]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        (line,) = said.err.strip().splitlines()
        assert line.startswith("error: ")
        return line

    return run


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "text.txt": (lambda f: f.write_text("no points\n"), "Parquet"),
    "text.csv": (lambda f: f.write_text("no points\n"), "point_key"),
    "picture.png": (lambda f: Image.new("RGB", (8, 8)).save(f), "Parquet"),
    "picture.csv": (lambda f: f.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe"), "CSV"),
    "other.parquet": (lambda f: pd.DataFrame({"a": [1]}).to_parquet(f), " a "),
    "other.csv": (lambda f: f.write_text("rate,top1\n1,2\n"), "`bpp`"),
    "empty.parquet": (lambda f: f.write_bytes(b""), "empty"),
    "empty.csv": (lambda f: f.write_bytes(b""), "empty"),
    "empty.json": (lambda f: f.write_bytes(b""), "empty"),
    "list.json": (lambda f: f.write_text("[1]"), "CompressAI"),
    "empty": (lambda f: f.mkdir(), "points.parquet"),
    "nowhere": (lambda f: None, "no such file"),
}


@pytest.mark.parametrize("name", list(FILES))
def test_files_that_are_no_points(name: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    make, words = FILES[name]
    make(tmp_path / name)
    line = refused(tmp_path / name)
    assert words in line
    assert str(tmp_path / name) in line


def spoilt(sweep_dir: Path, tmp_path: Path, name: str, data: bytes) -> Path:
    """The sweep with other bytes in one of its files."""
    for file in ("points.parquet", "samples.parquet", "sweep.json"):
        shutil.copy(sweep_dir / file, tmp_path)
    (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.parametrize("name", ["points.parquet", "samples.parquet"])
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_damaged_files(
    sweep_dir: Path, tmp_path: Path, name: str, damage: str, refused: Callable[..., str]
) -> None:
    data = (sweep_dir / name).read_bytes()
    half = data[: len(data) // 2]
    if damage == "overwritten":
        half = data[:200] + b"\xff" * 2000 + data[2200:]
    line = refused(spoilt(sweep_dir, tmp_path, name, half))
    assert holds(line, tmp_path / name, "damaged", "Parquet")


def test_samples_of_another_form(
    sweep_dir: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    samples = pd.read_parquet(sweep_dir / "samples.parquet")
    worded = tmp_path / "worded.parquet"
    samples.assign(value="right").to_parquet(worded)
    (tmp_path / "one").mkdir()
    line = refused(spoilt(sweep_dir, tmp_path / "one", "samples.parquet", worded.read_bytes()))
    assert holds(line, "one/samples.parquet", "numbers", "value")
    samples.drop(columns="task").to_parquet(worded)
    (tmp_path / "two").mkdir()
    line = refused(spoilt(sweep_dir, tmp_path / "two", "samples.parquet", worded.read_bytes()))
    assert holds(line, "two/samples.parquet", "missing", "task")


@pytest.mark.parametrize(
    ("column", "value"), [("prompt", 3), ("sample_id", 3), ("answer", 0.5), ("task", 1)]
)
def test_samples_whose_texts_are_none(
    column: str, value: object, rich_dir: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    samples = pd.read_parquet(rich_dir / "samples.parquet").assign(**{column: value})
    samples.to_parquet(tmp_path / "changed")
    changed = (tmp_path / "changed").read_bytes()
    line = refused(spoilt(rich_dir, tmp_path, "samples.parquet", changed))
    assert holds(line, "samples.parquet", "text", column)


@pytest.mark.parametrize("column", ["distill_tokens", "distill_pooled", "value", "seed", "quality"])
def test_a_word_in_a_column_of_numbers(
    column: str, rich_dir: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    points = pd.read_csv(rich_dir / "points.csv", dtype=str)
    points[column] = points.get(column, "1")
    points.loc[3, column] = "none at all"
    points.to_csv(tmp_path / "worded.csv", index=False)
    line = refused(tmp_path / "worded.csv")
    assert holds(line, "worded.csv", column, "none at all")


def test_a_column_of_several_types(tmp_path: Path, rich_dir: Path) -> None:
    points = pd.read_parquet(rich_dir / "points.parquet")
    points["more"] = [1, "a", *[None] * (len(points) - 2)]
    with pytest.raises(AnalysisError, match="more is not of one type"):
        write_points(points, str(tmp_path))


def _first_example(manifest: dict[str, Any]) -> dict[str, Any]:
    example: dict[str, Any] = next(iter(manifest["points"].values()))["examples"][0]
    return example


EXAMPLES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no id": (lambda e: e["images"][0].pop("id"), "images.0.id"),
    "id 3": (lambda e: e["images"][0].update(id=3), "images.0.id"),
    "no images": (lambda e: e.update(images=[]), "images"),
    "images 3": (lambda e: e.update(images=3), "images"),
    "image 3": (lambda e: e.update(images=[3]), "images.0"),
    "no input": (lambda e: e["images"][0].update(input=None), "images.0.input"),
    "bpp": (lambda e: e["images"][0].update(bpp="few"), "images.0.bpp"),
    "psnr": (lambda e: e["images"][0].update(psnr=[1]), "images.0.psnr"),
    "samples": (lambda e: e.update(samples=[3]), "samples.0"),
    "no dataset": (lambda e: e.pop("dataset"), "dataset"),
    "no mllm": (lambda e: e.pop("mllm"), "mllm"),
    "boxes 3": (lambda e: e.update(boxes=3), "boxes"),
    "box 3": (lambda e: e.update(boxes={"a": 3}), "boxes.a"),
    "box of 3": (
        lambda e: e.update(boxes={"a": {"wanted": [0, 0, 1], "answered": None}}),
        "boxes.a.wanted",
    ),
    "box of words": (
        lambda e: e.update(boxes={"a": {"wanted": None, "answered": list("abcd")}}),
        "boxes.a.answered.0",
    ),
    "no answer": (lambda e: e.update(boxes={"a": {"wanted": None}}), "boxes.a.answered"),
}


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_examples_of_another_form(
    name: str, rich_dir: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    change, place = EXAMPLES[name]
    manifest = json.loads((rich_dir / "sweep.json").read_text())
    change(_first_example(manifest))
    line = refused(spoilt(rich_dir, tmp_path, "sweep.json", json.dumps(manifest).encode()))
    assert holds(line, "sweep.json", f"examples.0.{place}:")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"schema": 1, "sweep":', ["JSON"]),
        ("[" * 100_000, ["JSON"]),
        ('{"points": {"x": {"examples": 3}}}', ["points.x.examples", "list"]),
        ("[1]", ["manifest"]),
        ('{"schema": 7}', ["schema 7", "1 known"]),
        ('{"expected": [{"codec": "elic"}]}', ["expected", "point_key", "lmbda", "scenario"]),
        ('{"points": {"x": 3}, "tasks": []}', ["points", "objects"]),
        ('{"tasks": [1]}', ["tasks", "objects"]),
    ],
)
def test_manifests_that_are_none(
    sweep_dir: Path, tmp_path: Path, content: str, words: list[str], refused: Callable[..., str]
) -> None:
    line = refused(spoilt(sweep_dir, tmp_path, "sweep.json", content.encode()))
    assert holds(line, tmp_path / "sweep.json", *words)


def test_several_sweeps(sweep_dir: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    points = pd.read_parquet(sweep_dir / "points.parquet")
    write_points(points.assign(value=0.9 * points["value"]), str(tmp_path / "clash"))
    other = points.assign(point_key="other-" + points["point_key"], sweep="other")
    write_points(other[other["scenario"] != "uncompressed"], str(tmp_path / "other"))
    out = ("--out", tmp_path / "out")
    assert holds(refused(sweep_dir, tmp_path / "clash"), "--out", "2 given")
    assert holds(refused(sweep_dir, "--apart"), "--apart", "one was given")
    assert holds(refused(sweep_dir, tmp_path / "clash", *out), "demo 1", "demo 2", " at ")
    assert holds(refused(sweep_dir, tmp_path / "other", *out), "demo and other", "--apart")
    assert not (tmp_path / "out").exists()
    assert main([str(sweep_dir), str(tmp_path / "other"), "--apart", *map(str, out)]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<title>demo + other" in page
    assert "d3 other" in page


def test_settings_that_cannot_be(
    sweep_dir: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "file").write_text("here")
    inside = tmp_path / "file" / "deeper"
    assert holds(refused(sweep_dir, "--out", inside), "out", inside)
    assert holds(refused(sweep_dir, "--mlflow-ui", "x"), "mlflow-ui 'x'", "http://", "https://")
    assert "x: no such file" in refused(sweep_dir, "--complexity", "x")
    assert "nosuch" in refused("nosuch://x/y")
    for uri in ("reference://x", "github://x", "dir://x"):
        assert uri in refused(uri)
    assert holds(refused("mlflow:"), "'mlflow:'", "mlflow:sqlite:///")


def test_databases_that_are_none(
    empty_database: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    data = empty_database.read_bytes()
    (tmp_path / "cut.db").write_bytes(data[:6000])
    (tmp_path / "begin.db").write_bytes(bytes(4096) + data[4096:])
    (tmp_path / "text.db").write_text("no database " * 100)
    with sqlite3.connect(tmp_path / "foreign.db") as foreign:
        foreign.execute("CREATE TABLE x (a)")
    for name, words in (
        ("cut", "SQLite: database disk image is malformed"),
        ("begin", "SQLite: file is not a database"),
        ("text", "SQLite: file is not a database"),
        ("foreign", "no such table: experiments"),
        ("none", "no such database file"),
    ):
        file = tmp_path / f"{name}.db"
        before = file.read_bytes() if file.exists() else None
        line = refused(f"sqlite:///{file}")
        assert words in line
        assert file.name in line
        assert (file.read_bytes() if file.exists() else None) == before


def _rates(**columns: Any) -> Callable[[Path], object]:
    """A table of one row about the directory `run`, with other columns; None leaves one out."""
    row = {"results": "run", "codec": "vtm", "bpp": "0.1", **columns}
    frame = pd.DataFrame({name: [value] for name, value in row.items() if value is not None})
    return lambda f: frame.to_csv(f / "rates.csv", index=False)


def _results(text: str | bytes, name: str = "run/m_X_acc.json") -> Callable[[Path], object]:
    """Results of these bytes, and a table about them."""

    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        _rates(mllm="m")(folder)

    return make


def _lmms(**parts: Any) -> str:
    """Results of lmms-eval with other parts."""
    content = lmms_content({"qa": {"acc,none": 0.5}}, {"qa": {"acc": True}})
    return json.dumps({**content, **parts})


LMMS = f"run/{RUN}_results.json"
RATES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no bpp": (_rates(bpp=None), ["rates.csv", "without bpp", "codec"]),
    "no codec": (_rates(codec=None), ["rates.csv", "without codec"]),
    "a bpp of 0": (_rates(bpp=0), ["row 1", "bpp 0", "above 0"]),
    "a bpp that is none": (_rates(bpp="few"), ["row 1", "bpp few", "above 0"]),
    "no bits": (_rates(bpp=float("nan")), ["row 1", "bpp", "above 0"]),
    "infinite bits": (_rates(bpp="inf"), ["row 1", "bpp inf", "above 0"]),
    "endless psnr": (_rates(psnr="inf"), ["row 1", "psnr inf", "finite"]),
    "no results": (_rates(results=""), ["row 1", "results is empty"]),
    "codec empty": (_rates(codec=""), ["row 1", "codec is empty"]),
    "nowhere": (_rates(results="there"), ["row 1", "/there", "no such file"]),
    "no such protocol": (_rates(results="nosuch://x"), ["row 1", "nosuch"]),
    "no such store": (_rates(results="reference://x"), ["row 1", "reference://x", "'fo'"]),
    "no repository": (_rates(results="github://x"), ["row 1", "github://x", "'org'"]),
    "no path of a store": (_rates(results="dir://x"), ["row 1", "dir://x"]),
    "an empty directory": (
        lambda f: [(f / "run").mkdir(), _rates()(f)],
        ["row 1", "/run", "no results", "_acc", "*_results.json"],
    ),
    "several directories": (
        lambda f: (
            [_results("1", "a_m_X_acc.csv")(f)]
            + [_results("1", f"{name}/m_X_acc.csv")(f) for name in "ab"]
            + [(f / "a_m_X_acc.csv").unlink(), _rates(results=".")(f)]
        ),
        ["row 1", "several directories", "a, b"],
    ),
    "another form": (_results("<html>", "run/m_X.txt"), ["row 1", "/run", "no results"]),
    "an empty file": (_results(" "), ["m_X_acc.json", "empty"]),
    "damaged JSON": (_results('{"Overall": '), ["m_X_acc.json", "not JSON"]),
    "nested": (_results("[" * 10**6), ["m_X_acc.json", "not JSON"]),
    "nested, just read": (_results('{"Overall": ' + "[" * 900 + "]" * 900 + "}"), ["m_X_acc"]),
    "no text": (_results(b"\xff\xfe\x00", "run/m_X_acc.csv"), ["m_X_acc.csv", "not a CSV"]),
    "a quote": (_results('"Overall"\n"0.5', "run/m_X_acc.csv"), ["m_X_acc.csv", "not a CSV"]),
    "NaN": (_results('{"Overall": NaN}'), ["m_X_acc.json", "Overall", "nan"]),
    "no number": (_results('{"Overall": {}}'), ["m_X_acc.json", "Overall", "dict"]),
    "no overall": (_results('{"a": 1}'), ["m_X_acc.json", "it holds a", "Overall"]),
    "beyond": (_results('{"Overall": 101}'), ["row 1", "X accuracy 101", "percentage"]),
    "below": (_results('{"Overall": -0.1}'), ["row 1", "X accuracy -0.1", "fraction"]),
    "whose model": (
        lambda f: [_results('{"Overall": 1}')(f), _rates()(f)],
        ["m_X_acc.json", "'m_X'", "'run'", "mllm"],
    ),
    "another benchmark": (
        lambda f: [_results('{"Overall": 1}')(f), _rates(mllm="m", task="Y")(f)],
        ["row 1", "task 'Y'", " X"],
    ),
    "lmms of lists": (_results(_lmms(results=[]), LMMS), [LMMS, "results"]),
    "lmms of numbers": (_results(_lmms(results={"qa": 1}), LMMS), [LMMS, "results.qa"]),
    "lmms without scores": (_results(_lmms(results={}), LMMS), [LMMS, "no score"]),
    "lmms NaN": (_results(_lmms(results={"q": {"a,b": float("nan")}}), LMMS), [LMMS, "q.a,b"]),
    "lmms elsewhere": (_results(_lmms(results={"../x": {"acc,none": 1}}), LMMS), [LMMS, "../x"]),
    "lmms no text": (_results(_lmms(results={"\ud800": {"acc,none": 1}}), LMMS), [LMMS, "text"]),
    "lmms no name": (_results(_lmms(results={" ": {"acc,none": 1}}), LMMS), [LMMS, "name"]),
    "unknown direction": (
        _results(_lmms(higher_is_better={}, results={"q": {"zeal,none": 1}}), LMMS),
        ["row 1", "q", "zeal", "--higher-is-better"],
    ),
    "damaged samples": (
        lambda f: [_results(_lmms(), LMMS)(f), (f / f"run/{RUN}_samples_qa.jsonl").write_text("{")],
        [LMMS, "samples of qa, line 1", "JSON"],
    ),
}


@pytest.mark.parametrize("name", list(RATES))
def test_tables_of_rates(name: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    make, words = RATES[name]
    make(tmp_path)
    assert holds(refused(tmp_path / "rates.csv"), tmp_path / "rates.csv", *words)


def test_a_point_twice(tmp_path: Path, refused: Callable[..., str]) -> None:
    _results('{"Overall": 1}')(tmp_path)
    row = (tmp_path / "rates.csv").read_text().splitlines()
    (tmp_path / "rates.csv").write_text("\n".join([*row, row[1]]))
    assert holds(refused(tmp_path / "rates.csv"), "row 2", "row 1", "X of m", "lmbda")


def test_a_task_in_two_files(tmp_path: Path, refused: Callable[..., str]) -> None:
    for name in ("m_X_acc.json", "m_X_score.json"):
        _results('{"Overall": 1}', f"run/{name}")(tmp_path)
    line = refused(tmp_path / "rates.csv")
    assert holds(line, "/run", "X", "m_X_acc.json", "m_X_score.json")


class Broken(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(503)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def broken_server() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Broken) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_servers_that_do_not_answer(broken_server: str, refused: Callable[..., str]) -> None:
    line = refused("http://somebody:secret@127.0.0.1:9")
    assert holds(line, "***@127.0.0.1:9", "MLflow")
    assert "secret" not in line
    assert holds(refused(broken_server), broken_server, "503")

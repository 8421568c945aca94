"""Every figure kind: nothing runs off it, no legend covers data, however many curves there are."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analysis.curves.assemble import Assembled, assemble
from analysis.figures.common.drawing import UNDIVIDED_CURVES
from analysis.figures.common.layout import WIDTH, columns_of
from analysis.figures.common.render import Plot, styled
from analysis.figures.cost import draw_costs
from analysis.figures.difference import draw_difference
from analysis.figures.panels import draw_panels
from analysis.figures.rate_accuracy import draw_curves, draw_psnr
from analysis.figures.surrogate import draw_surrogate
from analysis.io.complexity import COMPLEXITY, read_costs
from analysis.io.read import AnalysisError, read_sweep
from analysis.stats.compare import compare
from analysis.stats.costs import costs_and_savings
from tests.analysis.messages import naming
from tests.analysis.rich import make_rich

KINDS = ["mean", "captioning-cider", "psnr", "difference", "surrogate", "complexity", "panel-1"]
OWN = {"d1": 1.7, "d2": 1.7, "d3": 1.7, "reconstruction": 5.1, "post_processing": 14.1}


def write_costs(
    directory: Path, codecs: tuple[str, ...], more: Mapping[str, float] | None = None
) -> None:
    """As `trainables.commands.complexity --json` writes it (a test compares the two)."""
    totals = [
        {
            "codec": codec,
            "variant": "",
            "scenario": scenario,
            "sender": 3.8,
            "receiver": own + 3.1,
            "own": own,
        }
        | {"own_parameters": int(2e5 * own), "saving": 1 - own / 14.1}
        for codec in codecs
        for scenario, own in {**OWN, **(more or {})}.items()
    ]
    content = {"space": "demo", "size": 128, "teacher": "t", "block": 2, "parts": []}
    (directory / COMPLEXITY).write_text(json.dumps(content | {"totals": totals}))


@pytest.fixture(scope="module", params=[("elic",), ("elic", "mbt2018-mean")], ids=["one", "two"])
def drawn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Assembled, dict[str, Plot]]:
    directory = make_rich(tmp_path_factory.mktemp("many") / "demo", request.param, n=60)
    write_costs(directory, request.param)
    assembled = assemble(read_sweep(str(directory)), 200)
    comparison = compare(assembled.sweep, n_resamples=200, assembled=assembled)
    costs = read_costs(str(directory / COMPLEXITY))
    plots = [*draw_curves(assembled), *draw_psnr(assembled), *draw_difference(assembled)]
    plots += [*draw_surrogate(assembled), *draw_panels(assembled)]
    plots += draw_costs(assembled, comparison, costs)
    return assembled, {plot.name: plot for plot in plots}


def extents(plot: Plot) -> tuple[Any, list[tuple[str, Bbox]], list[Bbox], list[Bbox]]:
    """Texts, axes and legends as boxes in pixels."""
    with styled():
        canvas = FigureCanvasAgg(plot.figure)
        canvas.draw()
    renderer = canvas.get_renderer()
    unseen = _unseen(plot.figure)
    texts = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in plot.figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in unseen
    ]
    axes = [axes.get_window_extent(renderer) for axes in plot.figure.axes]
    legends = [legend.get_window_extent(renderer) for legend in plot.figure.legends]
    return plot.figure.bbox, texts, axes, legends


def _unseen(figure: Figure) -> set[int]:
    """Labels of ticks outside the axes, which Matplotlib keeps and does not draw."""
    found: set[int] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            for tick in (one for one in ticks if not low <= one.get_loc() <= high):
                found |= {id(tick.label1), id(tick.label2)}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_runs_off_and_no_legend_covers_data(
    drawn: tuple[Assembled, dict[str, Plot]], kind: str
) -> None:
    check_fits(drawn[1][kind])


def check_fits(plot: Plot) -> None:
    """Every text is inside the figure, and no legend covers axes or another."""
    page, texts, axes, legends = extents(plot)
    for text, box in texts:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, (plot.name, text, box, page)
    for legend, other in itertools.product(legends, axes):
        assert not legend.overlaps(other), plot.name
    for one, other in itertools.combinations(legends, 2):
        assert not one.overlaps(other)


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_letters_are_readable_at_the_width_of_a_column(
    drawn: tuple[Assembled, dict[str, Plot]], kind: str
) -> None:
    figure = drawn[1][kind].figure
    assert figure.get_figwidth() == WIDTH == 3.5
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
    assert min(sizes) >= 6.5


def test_every_curve_is_in_the_figure_of_many(drawn: tuple[Assembled, dict[str, Plot]]) -> None:
    """Each curve is drawn once in its own colour; the anchors stand in every panel."""
    assembled, plots = drawn
    own = [c for c in assembled.means if not c.frame.empty]
    assert len(own) > 12 > UNDIVIDED_CURVES
    panels = plots["mean"].figure.axes
    assert 1 < len(panels) <= 6
    bold = [
        tuple(line.get_xdata())
        for axes in panels
        for line in axes.lines
        if line.get_marker() not in ("", "None", None)
    ]
    wanted = {tuple(c.frame["bpp"]) for c in own if c.scenario != "reconstruction"}
    assert wanted <= set(bold)
    assert len(set(bold)) < len(bold)
    labels = {t.get_text() for legend in plots["mean"].figure.legends for t in legend.get_texts()}
    standards = {"jpeg", "jpeg2000", "webp", "avif"}
    assert standards | {"uncompressed", "the other curves"} <= labels
    said = plots["mean"].alt
    assert all(f"; {name} 0." in said or f". {name} 0." in said for name in standards)
    assert "classical" not in said
    assert any("oracle" in label for label in labels)


def test_files_are_vector_and_their_fonts_are_no_type_3(
    drawn: tuple[Assembled, dict[str, Plot]], tmp_path: Path
) -> None:
    plot = drawn[1]["difference"]
    files = [Path(path) for path in plot.save(str(tmp_path))]
    assert [file.name for file in files] == [f"difference.{e}" for e in ("png", "svg", "pdf")]
    png, svg, pdf = (file.read_bytes() for file in files)
    assert png.startswith(b"\x89PNG")
    assert b"<image" not in svg
    assert pdf.startswith(b"%PDF")
    assert b"/Type3" not in pdf
    assert b"/TrueType" in pdf or b"/CIDFontType2" in pdf
    again = draw_difference(drawn[0])[0]
    assert (again.svg, again.pdf) == (plot.svg, plot.pdf)


def test_a_legend_has_the_columns_that_fit() -> None:
    assert columns_of(["d1", "d2", "d3", "chance"]) == 4
    assert columns_of(["x" * 40, "y" * 40]) == 1
    assert columns_of([]) == 1


def test_costs_meet_savings(drawn: tuple[Assembled, dict[str, Plot]]) -> None:
    assembled, _ = drawn
    comparison = compare(assembled.sweep, n_resamples=200, assembled=assembled)
    costs = read_costs(f"{assembled.sweep.directory}/{COMPLEXITY}")
    frame = costs_and_savings(assembled, comparison, costs)
    elic = frame[frame["codec"] == "elic"].set_index("scenario")
    assert dict(elic["receiver_without_common"]) == OWN
    assert elic.loc["reconstruction", "saved"] == 0
    heads = comparison[(comparison["task"] == "mean over tasks") & (comparison["codec"] == "elic")]
    d3 = heads.set_index("scenario").loc["d3"]
    assert elic.loc["d3", "saved"] == -d3["bd_rate"]
    assert elic.loc["d3", "low"] < elic.loc["d3", "saved"] < elic.loc["d3", "high"]
    assert set(frame["scenario"]) == set(OWN)


def test_costs_are_read_as_trainables_writes_them(tmp_path: Path) -> None:
    from search_spaces import load_space
    from trainables.commands.complexity import as_data  # imports torch
    from trainables.commands.costs import Total

    total = Total("elic 192/320", "d1", 3.0, 5.0, 2.0, 1000, 0.9)
    (tmp_path / "c.json").write_text(json.dumps(as_data(load_space("smoke"), [], [total])))
    costs = read_costs(str(tmp_path / "c.json"))
    assert costs.totals.to_dict("records") == [
        {"codec": "elic 192/320", "variant": "", "scenario": "d1", "sender": 3.0, "receiver": 5.0}
        | {"own": 2.0, "own_parameters": 1000}
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ""),
        ("no", "JSON"),
        ("[]", "trainables.commands.complexity --json"),
        ('{"totals": [{"codec": "x"}], "size": 1}', "trainables.commands.complexity --json"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: str | None, words: str) -> None:
    file = tmp_path / "c.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(AnalysisError, match=naming(file, words)):
        read_costs(str(file))

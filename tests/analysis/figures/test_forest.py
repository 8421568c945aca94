"""The forest plot, the small multiples, and every kind of figure's texts."""

from __future__ import annotations

from itertools import combinations

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from analysis.curves.assemble import Assembled, assemble
from analysis.curves.curve import MEAN
from analysis.curves.tasks import main_rows
from analysis.figures.ablation import draw_ablation
from analysis.figures.common.render import Plot, styled
from analysis.figures.common.style import MUTED
from analysis.figures.cost import draw_costs
from analysis.figures.difference import draw_difference, draw_forest
from analysis.figures.gaps import draw_gaps
from analysis.figures.panels import draw_panels
from analysis.figures.rate_accuracy import draw_curves, draw_psnr, draw_tasks
from analysis.figures.surrogate import draw_surrogate
from analysis.io.complexity import find_costs
from analysis.io.read import read_sweep
from analysis.report.summary import lead_sentence
from analysis.stats.compare import compare
from analysis.stats.gaps import gaps


@pytest.fixture(scope="module")
def shipped() -> tuple[Assembled, pd.DataFrame]:
    assembled = assemble(read_sweep("analysis/example"))
    return assembled, compare(assembled.sweep, assembled=assembled)


def with_rates(comparison: pd.DataFrame, rates: list[tuple[float, float, float]]) -> pd.DataFrame:
    """The first curves' rows of the mean with these BD-rates and intervals."""
    rows = comparison[(comparison["task"] == MEAN) & comparison["bd_rate"].notna()]
    rows = rows.head(len(rates)).copy()
    rows[["bd_rate", "bd_rate_low", "bd_rate_high"]] = rates
    return rows.assign(ranked_bd_rate=rows["bd_rate"])


def test_forest_is_sorted_and_grey_where_the_interval_holds_zero(
    shipped: tuple[Assembled, pd.DataFrame],
) -> None:
    assembled, comparison = shipped
    nan = float("nan")
    rates = [(10.0, 5.0, 20.0), (-5.0, -9.0, 1.0), (-30.0, -40.0, -20.0), (3.0, nan, nan)]
    (plot,) = draw_forest(assembled, with_rates(comparison, rates))
    lines = plot.figure.axes[0].get_lines()[1:]  # without the line at 0
    assert [line.get_xdata()[0] for line in lines] == [-30.0, -5.0, 3.0, 10.0]
    assert [line.get_color() == MUTED for line in lines] == [False, True, True, False]
    assert plot.alt.count("no difference shown") == 2


def test_the_lead_counts_curves_by_their_intervals(
    shipped: tuple[Assembled, pd.DataFrame],
) -> None:
    assembled, comparison = shipped
    rates = [(10.0, 5.0, 20.0), (-5.0, -9.0, 1.0), (-30.0, -40.0, -20.0)]
    lead = lead_sentence(assembled.sweep, with_rates(comparison, rates))
    assert lead.startswith("As trained in this sweep, ")
    assert "1 of 3 curves need fewer bits" in lead
    assert "1 need more bits" in lead
    assert "1 show no difference" in lead
    assert "30 % fewer bits (20 to 40)" in lead
    lead = lead_sentence(assembled.sweep, with_rates(comparison, rates[:2]))
    assert "no curve is shown to need fewer bits" in lead


def test_curves_against_the_anchors_of_two_codecs_are_not_ranked_together(
    shipped: tuple[Assembled, pd.DataFrame],
) -> None:
    assembled, comparison = shipped
    lead = lead_sentence(assembled.sweep, comparison)
    assert "d3 (hyperprior) needs 55 % fewer bits" in lead
    assert "adapted encoder (vbr) needs 22 % fewer bits" in lead
    assert lead.endswith("each against its own codec's.")
    (plot,) = draw_forest(assembled, comparison)
    assert "each against its own codec's" in "".join(text.get_text() for text in plot.figure.texts)
    _, rows = main_rows(comparison, assembled.tasks)
    assert list(rows["anchor_codec"]) == sorted(rows["anchor_codec"])
    for _, of_anchor in rows.groupby("anchor_codec"):
        rates = of_anchor["ranked_bd_rate"].dropna()
        assert rates.is_monotonic_increasing
        assert list(of_anchor["ranked_bd_rate"].isna()) == sorted(
            of_anchor["ranked_bd_rate"].isna()
        )
    names = [(row.codec, row.scenario) for row in rows.itertuples()]
    # d1 saves more over its own accuracies, the oracle over those that all share.
    assert names.index(("hyperprior", "end_to_end_oracle")) < names.index(("hyperprior", "d1"))


def test_small_multiples_share_their_axes_and_have_one_legend(
    shipped: tuple[Assembled, pd.DataFrame],
) -> None:
    (plot,) = draw_tasks(shipped[0])
    assert len(plot.figure.axes) % len(shipped[0].tasks) == 0
    assert len({axes.get_xlim() for axes in plot.figure.axes}) == 1
    assert len(plot.figure.legends) == 1


def hidden_ticks(plot: Plot) -> set[Text]:
    """Labels of ticks beyond the ends of their axis, which are not drawn."""
    out = set()
    for axes in plot.figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= tick.get_loc() <= high or not axes.axison:
                    out |= {tick.label1, tick.label2}
    return out


def kinds(assembled: Assembled, comparison: pd.DataFrame) -> list[Plot]:
    """Every kind of figure."""
    costs = find_costs(assembled.sweep.directory, None)
    assert costs is not None
    return [
        *(*draw_curves(assembled), *draw_psnr(assembled), *draw_tasks(assembled)),
        *(*draw_forest(assembled, comparison), *draw_difference(assembled)),
        *(*draw_costs(assembled, comparison, costs), *draw_surrogate(assembled)),
        *(*draw_ablation(assembled, comparison), *draw_panels(assembled)),
        *draw_gaps(assembled, gaps(assembled)),
    ]


def test_no_text_leaves_its_figure_or_covers_another(
    shipped: tuple[Assembled, pd.DataFrame],
) -> None:
    problems = []
    for plot in kinds(*shipped):
        with styled():
            canvas = FigureCanvasAgg(plot.figure)
            canvas.draw()
            hidden = hidden_ticks(plot)
            shown = [
                (text.get_text(), text.get_window_extent(canvas.get_renderer()))
                for text in plot.figure.findobj(Text)
                if text.get_visible() and text.get_text().strip() and text not in hidden
            ]
        width, height = canvas.get_width_height()
        for text, box in shown:
            if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1:
                problems.append(f"{plot.name}: {text!r} leaves the figure")
        for (text, box), (other, beside) in combinations(shown, 2):
            wide = min(box.x1, beside.x1) - max(box.x0, beside.x0)
            high = min(box.y1, beside.y1) - max(box.y0, beside.y0)
            if wide > 2 and high > 2:
                problems.append(f"{plot.name}: {text!r} and {other!r} overlap")
    assert problems == [], "\n".join(problems)

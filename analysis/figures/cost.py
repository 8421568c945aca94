"""What a saving costs: kMAC per pixel at the receiver against the change of the bits.

complexity.json (of `trainables.commands.complexity`), the comparison --> figure
"""

from __future__ import annotations

from typing import Final

import pandas as pd

from analysis.curves.assemble import Assembled
from analysis.figures.common.drawing import Drawing, Group, Level, Panel, Series, with_subtitle
from analysis.figures.common.looks import Looks
from analysis.figures.common.render import Plot, draw, file_name
from analysis.io.complexity import Costs
from analysis.io.frames import rows_of
from analysis.stats.costs import costs_and_savings

TITLE: Final = "Complexity against bits"
LABEL: Final = "kMAC/pixel from bytes to the MLLM's encoder"


def draw_costs(assembled: Assembled, comparison: pd.DataFrame, costs: Costs) -> list[Plot]:
    """A figure per MLLM: change of the bits over kMAC per pixel; fewer are negative.

    Args:
        assembled: the sweep assembled.
        comparison: what `compare` gave.
        costs: what `read_costs` gave.

    Returns:
        Nothing where no curve has both numbers.
    """
    looks = Looks.of(assembled)
    zero = looks.scenario(assembled.sweep.anchor).colour
    frame = costs_and_savings(assembled, comparison, costs)
    several = frame["mllm"].nunique() > 1
    out = []
    for mllm, rows in frame.groupby("mllm", sort=False):
        subtitle = str(mllm) if several else ""
        series, descriptions = [], []
        for row in rows_of(rows):
            owner = (row.codec, row.scenario, row.variant)
            look = looks.owner(*owner)
            hover = "%{y:+.0f} % bits, %{x:.2f} kMAC/pixel, " + f"{row.parameters:,.0f} parameters"
            kmac = row.receiver_without_common
            coordinates = ([kmac], [-row.saved], [-row.high], [-row.low])
            series.append(Series(owner, look, *coordinates, hover=hover))
            descriptions.append(
                f"{look.label} {kmac:.3g} kMAC/pixel, {round(-row.saved):+d} % bits"
            )
        owners = [point.owner for point in series]
        group = Group(frozenset(owners), looks.legend(owners))
        levels = [Level("", 0.0, zero, "--")]
        panel = Panel("bits (%)", series, [group], levels, LABEL)
        title = with_subtitle(f"Bits on the mean over tasks, over {LABEL}", subtitle)
        name = file_name(f"complexity-{subtitle}" if subtitle else "complexity")
        alt = f"{title}: {'; '.join(descriptions)}."
        out.append(draw(Drawing(name, TITLE, subtitle, alt, [[panel]], logarithmic=True)))
    return out

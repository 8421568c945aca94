"""Curves of a figure divided into panels."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.curves.curve import Curve


def in_panels(curves: Sequence[Curve], max_undivided: int, max_per_panel: int) -> list[list[Curve]]:
    """The curves in groups, by scenario family.

    Up to `max_undivided` curves are one group; more are divided into groups of at most
    `max_per_panel`.

    Families come in the order of their first scenarios. A scenario's codecs stay together as far
    as they can, so that they are compared in one panel.
    """
    ranked = sorted(curves, key=lambda curve: curve.rank)  # stable
    if len(curves) <= max_undivided:
        return [ranked]
    families: dict[str, list[Curve]] = {}
    for curve in ranked:
        families.setdefault(curve.look.family, []).append(curve)
    groups: list[list[Curve]] = []
    for family in families.values():
        if groups and len(groups[-1]) + len(family) <= max_per_panel:
            groups[-1] += family
        else:
            groups += _divided(family, max_per_panel)
    return groups


def _divided(family: Sequence[Curve], max_per_panel: int) -> list[list[Curve]]:
    """A family in as few groups as possible, about equal, cut between scenarios if it can."""
    if len(family) <= max_per_panel:
        return [list(family)]
    target = len(family) / -(-len(family) // max_per_panel)
    scenarios = [
        [c for c in family if c.scenario == s] for s in dict.fromkeys(c.scenario for c in family)
    ]
    groups: list[list[Curve]] = [[]]
    for of_scenario in scenarios:
        if groups[-1] and (
            len(groups[-1]) + len(of_scenario) > max_per_panel or len(groups[-1]) >= target
        ):
            groups.append([])
        groups[-1] += of_scenario
        while len(groups[-1]) > max_per_panel:
            groups.append(groups[-1][max_per_panel:])
            groups[-2] = groups[-2][:max_per_panel]
    return groups

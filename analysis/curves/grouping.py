"""Curves of a figure divided into panels."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.curves.curve import Curve


def in_panels(curves: Sequence[Curve], many: int, most: int) -> list[list[Curve]]:
    """The curves in groups of at most `most`, by scenario family; one group up to `many` curves.

    Families come in the order of their first scenarios. A scenario's codecs stay together as far
    as they can, so that they are compared in one panel.
    """
    ranked = sorted(curves, key=lambda curve: curve.rank)  # stable
    if len(curves) <= many:
        return [ranked]
    families: dict[str, list[Curve]] = {}
    for curve in ranked:
        families.setdefault(curve.look.family, []).append(curve)
    groups: list[list[Curve]] = []
    for family in families.values():
        if groups and len(groups[-1]) + len(family) <= most:
            groups[-1] += family
        else:
            groups += _divided(family, most)
    return groups


def _divided(family: Sequence[Curve], most: int) -> list[list[Curve]]:
    """A family in as few groups as `most` allows, about equal, cut between scenarios if it can."""
    if len(family) <= most:
        return [list(family)]
    target = len(family) / -(-len(family) // most)
    scenarios = [
        [c for c in family if c.scenario == s] for s in dict.fromkeys(c.scenario for c in family)
    ]
    groups: list[list[Curve]] = [[]]
    for of_scenario in scenarios:
        if groups[-1] and (len(groups[-1]) + len(of_scenario) > most or len(groups[-1]) >= target):
            groups.append([])
        groups[-1] += of_scenario
        while len(groups[-1]) > most:
            groups.append(groups[-1][most:])
            groups[-2] = groups[-2][:most]
    return groups

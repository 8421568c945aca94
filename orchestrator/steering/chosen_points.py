"""The operating points that a person names, by keys, labels and filters."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.plan.jobs import Plan
from search_spaces import select


def chosen_keys(plan: Plan, words: Iterable[str]) -> frozenset[str]:
    """The keys of the operating points that a person names.

    Args:
        plan: of the sweep.
        words: keys and labels of points, and filters `field=value[,value...]`, all of which a point
            must meet that is named by filters.

    Raises:
        ValueError: a word names no point; a line per mistake.
    """
    words = list(words)
    by_label = {point.label: key for key, point in plan.wanted.items()}
    names = [word for word in words if word in plan.wanted or word in by_label]
    filters = [word for word in words if word not in names and "=" in word]
    problems = [
        f"{word!r}: no operating point of this sweep has this key or label; a filter is "
        "field=value[,value...]"
        for word in words
        if word not in names and word not in filters
    ]
    keys = {word if word in plan.wanted else by_label[word] for word in names}
    if filters:
        try:
            keys |= {plan.key(point) for point in select(plan.points, filters)}
        except ValueError as error:
            problems += [
                line.replace("--only ", "").replace("--only: ", "")
                for line in str(error).splitlines()
            ]
    if problems:
        raise ValueError("\n".join(problems))
    return frozenset(keys)

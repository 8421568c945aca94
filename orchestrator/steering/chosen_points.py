"""The operating points that a person names, by keys, labels and filters."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from orchestrator.plan.jobs import Plan
from search_spaces import select
from search_spaces.specs.points import FILTER_FIELDS


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
    filters = [word for word in words if word not in names and _is_filter(word)]
    jobs = {job.label for job in plan.jobs.values()}
    problems = [
        _mistake(word, by_label, word in jobs)
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


def _is_filter(word: str) -> bool:
    field, equals, _ = word.partition("=")
    return bool(equals) and field.strip() in (*FILTER_FIELDS, "lmbda")


def _mistake(word: str, labels: Iterable[str], is_job: bool) -> str:
    """What is wrong with a word that is no key, no label and no filter.

    Args:
        is_job: it names a job that points need.
    """
    if is_job:
        return (
            f"{word!r}: no operating point, but a job that some of them need; name those points: a "
            "job without any is not done"
        )
    closest = ", ".join(get_close_matches(word, labels))
    return (
        f"{word!r}: no operating point of this sweep has this key or label"
        f"{closest and f'; the closest labels are {closest}'}; a filter is field=value[,value...] "
        f"with a field of {', '.join(FILTER_FIELDS)}"
    )

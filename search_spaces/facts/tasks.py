"""The tasks, as far as a space needs them: found by name, without importing torch.

A task's file in `trainables/tasks/` (or a module of another distribution) is imported when a space
names the task.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from search_spaces.plugins import Registry


class TaskFacts:
    """What planning a sweep needs of a task; the base of `trainables.tasks.Task`."""

    data_kinds: tuple[str, ...] = ()
    """The kinds of `data` (`scenes`, `tabletop`, `folder`, `parquet`, `datasets`) with samples of
    the task; empty for a task of benchmarks alone."""
    by_encoder: bool = False
    """Whether the visual encoder answers alone, without an MLLM."""
    several_images: bool = False
    """Whether a prompt shows several images."""
    by_likelihood: bool = False
    """Whether an answer is no text that is generated, but the log-likelihood of each of the
    reference's `choices` (letter -> text) after the prompt, in their order, as a JSON list."""
    compares_with_original: bool = False
    """Whether each sample is answered about the original image, too, and that answer is the
    `original` of its reference."""
    in_episodes: bool = False
    """Whether its samples show several of the scenes with one digit, which are made for them."""
    has_training_answers: bool = False
    """Whether the training images have samples with answers, which an MLLM can be trained on."""


_FIRST: Final = "captioning vqa rec"
"""The order of these tasks in the stage keys of earlier sweeps."""

TASK_FACTS: Final = Registry("bridgesweep.tasks", "trainables.tasks", "TASK", TaskFacts)


def known_task(name: str) -> str:
    """The name itself.

    Raises:
        UnknownPluginError: no task has the name.
        BrokenPluginError: its plug-in cannot be imported.
    """
    TASK_FACTS.get(name)
    return name


def encoder_tasks(names: Iterable[str]) -> tuple[str, ...]:
    """Those of some tasks that the visual encoder does alone."""
    return tuple(name for name in names if TASK_FACTS.get(name).by_encoder)


def mllm_tasks(names: Iterable[str]) -> tuple[str, ...]:
    """Those of some tasks that need an MLLM."""
    return tuple(name for name in names if not TASK_FACTS.get(name).by_encoder)


def tasks_to_learn(names: Iterable[str]) -> tuple[str, ...]:
    """Those of some tasks that training images have answers for; their order does not depend on
    the order of `names`."""
    learnable = [name for name in names if TASK_FACTS.get(name).has_training_answers]
    return tuple(sorted(learnable, key=lambda n: (n not in _FIRST, _FIRST.find(n), n)))


def tasks_of_data(kind: str) -> tuple[str, ...]:
    """The tasks that data of a kind have samples of. Imports all tasks; skips broken plug-ins."""
    return tuple(name for name, task in TASK_FACTS.working().items() if kind in task.data_kinds)


def plugin_identities(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Name -> identity (distribution, version, content) of the tasks from other distributions."""
    origins = {name: TASK_FACTS.origin(name) for name in names}
    return {name: origin.identity for name, origin in origins.items() if not origin.is_project}

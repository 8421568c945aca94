"""Extensions of other distributions that a space names: do they work in it?

The project's own are checked by its tests; only others are loaded here, as that imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

from search_spaces import CodecSpec, OperatingPoint, Space, Stages
from search_spaces.facts.tasks import TASK_FACTS
from search_spaces.plugins import implementation
from search_spaces.scenarios import Environment, Scenario, scenario_of
from search_spaces.specs.codec import CODECS
from search_spaces.specs.scenario_rules import SCENARIOS


def check_extensions(space: Space) -> list[str]:
    """What is wrong with a space's extensions, a line per mistake."""
    problems = []
    for setting, load in _loads(space):
        try:
            load()
        except (Exception, SystemExit) as error:  # foreign code may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            problems.append(f"{setting}: {reason}")
    return list(dict.fromkeys(problems))


def _loads(space: Space) -> Iterator[tuple[str, Callable[[], object]]]:
    """(setting, what loads it) of every extension that is not the project's."""
    for name in space.scenario_names:
        origin = SCENARIOS.origin(name)
        if not origin.is_project:
            setting = f"scenario {name} of {origin.distribution} {origin.version}"
            yield setting, partial(_load_method, name)
            for variant in space.expanded:
                yield setting, partial(_declare, name, variant)
    for number, codec in enumerate(space.codecs):
        if not CODECS.origin(codec.arch).is_project:
            yield f"codecs.{number}", partial(_build, codec)
    for task in space.tasks:
        if not TASK_FACTS.origin(task).is_project:
            yield f"tasks: {task}", partial(_check_task, task)


def _load_method(name: str) -> None:
    from trainables.points.contract import method_of  # imports torch

    method_of(name)


def _declare(name: str, space: Space) -> None:
    """Call what a scenario declares of a space and its points, as plan and records will."""
    scenario, stages = scenario_of(name), Stages(space)
    for point in _points(scenario, space):
        scenario.stage(stages, point)
        scenario.training(space, point)
        scenario.cost(space, point)
        json.dumps(scenario.record(space, point))
    scenario.trained_parameters(space, {"codec": 1.0, "neck": 1.0, "encoder_block": 1.0})
    if scenario.environment:
        environment: Environment = implementation(scenario.environment)
        environment.versions(space)
        list(environment.problems(space))


def _points(scenario: Scenario, space: Space) -> Iterator[OperatingPoint]:
    """A scenario's operating points under the first seed."""
    yield from scenario.own_points(space)
    for codec in space.codecs:
        if scenario.applies_to(space, codec):
            for lmbda, at_rate in codec.at_each():
                yield OperatingPoint(at_rate, lmbda, scenario.name, space.seeds[0])


def _build(codec: CodecSpec) -> None:
    from trainables.codecs import build_codec  # imports torch

    build_codec(codec.at(codec.lambdas[0]))


def _check_task(name: str) -> None:
    from trainables.tasks import TASKS

    task = TASKS.get(name)
    names = [metric.name for metric in task.metrics]
    if task.primary not in names:
        raise ValueError(f"its primary metric {task.primary!r} is none of {', '.join(names)}")
    if not isinstance(task.data_kinds, tuple):
        raise ValueError(f"its data_kinds are {task.data_kinds!r}, not a tuple")

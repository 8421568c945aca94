"""What a changed setting makes again after a finished sweep, read off real plans."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from orchestrator.plan.jobs import Plan
from orchestrator.storage.provenance import fingerprints
from search_spaces import Space, operating_points
from search_spaces.specs.benchmark import FORMATS, BenchmarkSpec
from search_spaces.specs.codec import CODECS, CodecSpec


def stages_of(space: Space) -> dict[str, tuple[str, str]]:
    """Key of each stage of a space -> what it is called, and the key of the point it measures.

    A point is called by its scenario, an evaluation by its task.
    """
    plan = Plan(space, operating_points(space), fingerprints(space), None)
    stages = {}
    for job in plan.jobs.values():
        point = job.subject.point
        name = job.stage.kind if point is None or job.stage.kind != "point" else point.scenario
        stages[job.stage.key] = name, ""
        for measurement, stage in job.evaluations:
            stages[stage.key] = f"evaluation of {measurement.task}", job.stage.key
    return stages


def made_again(
    before: Mapping[str, tuple[str, str]], after: Mapping[str, tuple[str, str]]
) -> set[str]:
    """The kinds of the stages that a finished sweep has not; of new points their evaluations go
    without saying."""
    new = {key: value for key, value in after.items() if key not in before}
    return {name for name, point in new.values() if point not in new}


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The paths of all settings of a model and of the models in it."""
    for name, field in model.model_fields.items():
        path = prefix.rstrip(".") if name == "root" else f"{prefix}{name}"
        nested = list(dict.fromkeys(_models_in(field.annotation)))
        if not nested:
            yield path
        for inner in nested:
            yield from settings_of(inner, f"{path}.")


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def all_settings() -> list[str]:
    """All settings that a space can have: its own, those of scenarios, codecs and benchmarks.

    Of a family of codecs and of a format of benchmarks, `codecs.<family>.<setting>` and
    `benchmarks.<format>.<setting>`.
    """
    paths = list(settings_of(Space))
    for key, model in Space.settings_models().items():
        paths += settings_of(model, f"{key}.")
    families = {CODECS.get(name) for name in CODECS.names() if CODECS.origin(name).is_project}
    formats = [FORMATS.get(name) for name in FORMATS.names() if FORMATS.origin(name).is_project]
    models: list[tuple[str, type[BaseModel], type[BaseModel]]] = [
        *(("codecs", family, CodecSpec) for family in families),
        *(("benchmarks", form, BenchmarkSpec) for form in formats),
    ]
    for root, model, base in models:
        name = model.__module__.rpartition(".")[2]
        shared = set(base.model_fields)
        paths += [f"{root}.{name}.{field}" for field in model.model_fields if field not in shared]
    return list(dict.fromkeys(paths))

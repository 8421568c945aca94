"""Finds all input mistakes before anything runs: setting, value and valid choices of each."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from orchestrator.storage.provenance import local_path, model_names, shipped_names, text_files
from orchestrator.storage.references import RESERVED
from orchestrator.storage.store import Store
from orchestrator.validation.extensions import check_extensions
from orchestrator.validation.mllm_towers import check_towers
from orchestrator.validation.model_files import check_configs
from orchestrator.validation.revisions import pin_revisions
from orchestrator.validation.teachers import check_teacher
from orchestrator.validation.uris import InputError, check_run_names, check_tracking, open_storage
from search_spaces import OperatingPoint, Space, SpaceError, load_space, operating_points, select
from search_spaces.facts.compressai_zoo import ZOO
from search_spaces.facts.texts import class_lists, read_class_names, read_templates
from search_spaces.scenarios import environments_of
from search_spaces.settings.paths import is_regular, is_there
from search_spaces.specs.data import MADE_KINDS
from search_spaces.specs.evaluation import EVALUATION

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LONGEST_NAME = 100


def read_input(
    space_name: str,
    overrides: Sequence[str],
    only: Sequence[str],
    name: str | None,
    storage: str,
    tracking_uri: str | None,
    experiment: str,
    owner: str | None,
    touch: bool = True,
) -> tuple[Space, tuple[OperatingPoint, ...], Store]:
    """Read the command line: the space, the wanted operating points and the storage.

    Args:
        touch: try to write to the storage, and ask the hub for revisions; False where the storage
            is only read.

    Raises:
        InputError: with all mistakes.
    """
    problems: list[str] = []
    space: Space | None = None
    points: tuple[OperatingPoint, ...] = ()
    try:
        space = load_space(space_name, overrides)
    except SpaceError as error:
        problems += str(error).splitlines()
    if space is not None:
        problems += [*check_models(space), *check_teacher(space), *check_towers(space)]
        problems += [*check_data(space), *check_benchmarks(space), *check_texts(space)]
        problems += check_packages(space)
        if broken := check_extensions(space):
            problems += broken
        else:
            problems += check_environments(space)
            try:
                points = select(operating_points(space), only)
            except ValueError as error:
                problems += str(error).splitlines()
    problems += [*check_name(name, space), *check_run_names(experiment, owner)]
    store = None
    if tracking_uri is not None and (problem := check_tracking(tracking_uri)):
        problems.append(problem)
    try:
        # Nothing is made on the disk for a command that has other mistakes.
        store = open_storage(storage, touch and not problems, writes=touch)
    except InputError as error:
        problems.append(str(error))
    if space is not None and store is not None and not problems:
        space, problems = pin_revisions(space, store, ask_hub=touch)
        points = select(operating_points(space), only)
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))
    assert space is not None
    assert store is not None
    return space, points, store


def check_name(name: str | None, space: Space | None) -> list[str]:
    """Mistakes in a sweep's name, which is a directory in the storage.

    Args:
        name: as given by `--name`; None for the space's.
    """
    if name is None and space is None:
        return []
    setting, sweep = ("--name", name) if name is not None else ("name", space.name if space else "")
    if NAME.fullmatch(sweep) is None or len(sweep) > LONGEST_NAME:
        valid = f"up to {LONGEST_NAME} letters, digits, '.', '_' and '-', not a path"
        return [f"{setting} {sweep!r}: {valid}"]
    if sweep in RESERVED:
        return [f"{setting} {sweep!r}: the storage's own directory; not {', '.join(RESERVED)}"]
    return []


def check_models(space: Space) -> list[str]:
    """Mistakes in the models' names, a line each."""
    problems = []
    for setting, name in model_names(space):
        is_codec = "codecs." in setting
        mistake = _weights_mistake(name) if is_codec else _model_mistake(name)
        mistake = mistake or (None if is_codec else _world_mistake(name, space.data.kind))
        if mistake:
            problems.append(f"{setting} = {name!r}: {mistake}")
    return problems


def _world_mistake(name: str, kind: str) -> str | None:
    """What is wrong with a shipped model that knows another made world than the data's."""
    part, _, world = name.removeprefix("shipped:").partition("-")
    is_other = kind in MADE_KINDS and world in MADE_KINDS and world != kind
    if not name.startswith("shipped:") or not is_other:
        return None
    return f"it knows the world {world!r}, and data.kind is {kind!r}; give shipped:{part}-{kind}"


def _weights_mistake(name: str) -> str | None:
    path = local_path(name) or Path(name)
    if name.startswith(ZOO):
        return None
    # A relative path is of no file beside the space that names it: then it would be absolute.
    if not path.is_absolute() or not is_there(path):
        return f"no such file; give a weights file, {ZOO}mse or {_shipped()}"
    file = path / "model.safetensors" if path.is_dir() else path
    readable = is_regular(file) and os.access(file, os.R_OK)
    return None if readable else f"{file} cannot be read"


def _model_mistake(name: str) -> str | None:
    path = local_path(name)
    if path is None and is_there(Path(name)):
        return (
            "is here, but not beside the space that names it, and could be meant for a hub id; "
            "give its absolute path, or start elsewhere"
        )
    if path is None:
        return check_configs(name)
    if not is_there(path):
        return f"no such directory; give {_shipped()}, a local directory or a hub id"
    if list(path.glob("pytorch_model*.bin")) and not list(path.glob("*.safetensors")):
        return "its weights are a pickle, which can run programs; give a model in safetensors"
    config = path / "config.json"
    readable = is_regular(config) and os.access(config, os.R_OK)
    if not readable:
        return "not a transformers model (no readable config.json)"
    return check_configs(name)


def _shipped() -> str:
    return f"shipped:NAME ({', '.join(shipped_names()) or 'none in this installation'})"


def check_data(space: Space) -> list[str]:
    """Mistakes in the settings of a data set, a line each; none where scenes are made."""
    if space.data.is_made:
        return []
    # A relative path is of no file beside the space that names it: then it would be absolute.
    lost = [
        f"data.{setting} = {path!r}: no such {', '.join(('directory or file', *names))}"
        for setting, path, names in (
            ("uri", space.data.uri, ()),
            ("names", space.data.names, class_lists()),
        )
        if path is not None
        and "://" not in path
        and not Path(path).is_absolute()
        and path not in names
    ]
    if lost:
        return lost
    # Imported late: the demo has no data set to list.
    from trainables.datasets.images.files import SourceError
    from trainables.datasets.images.source import read_source

    try:
        source = read_source(space.data)
    except SourceError as error:
        return str(error).splitlines()
    problems = []
    without = "has none (folders per class, or data.label_column)"
    if not source.classes and any(variant.trains_on_classes for variant in space.expanded):
        problems.append(
            f"surrogate.phases: ce needs classes, and the data set {space.data.uri!r} {without}; "
            "set ce to 0 in all phases"
        )
    if space.tasks and not source.is_labelled("test"):
        split = source.origins["test"]
        where = f"its split {split!r}" if split else f"the data set {space.data.uri!r}"
        problems.append(
            f"tasks: {space.tasks[0]} needs the classes of the test images, and {where} {without}"
        )
    return problems


def check_benchmarks(space: Space) -> list[str]:
    """Mistakes in the files of the benchmarks, a line each."""
    if not space.benchmarks:
        return []
    from trainables.datasets.benchmarks.read import read_benchmark
    from trainables.datasets.images.files import SourceError

    problems = []
    for number, benchmark in enumerate(space.benchmarks):
        try:
            read_benchmark(benchmark)
        except SourceError as error:
            problems += [f"benchmarks.{number}.{line}" for line in str(error).splitlines()]
        if benchmark.asks_all and _overlap(benchmark.image_directory, space.data.uri):
            problems.append(
                f"benchmarks.{number}.images = {benchmark.image_directory!r}: holds images of "
                f"data.uri, {space.data.uri!r}, which are trained on; give a directory of others"
            )
    return problems


def _overlap(one: str | None, other: str | None) -> bool:
    """Whether one of two directories is the other one, or within it."""
    if one is None or other is None:
        return False
    first, second = (
        PurePosixPath(uri if "://" in uri else os.path.realpath(uri)) for uri in (one, other)
    )
    return first.is_relative_to(second) or second.is_relative_to(first)


def check_texts(space: Space) -> list[str]:
    """Mistakes in the files of templates and class names, a line each."""
    problems = []
    for setting, file in text_files(space):
        read = read_templates if setting.endswith("templates") else read_class_names
        try:
            read(file)
        except ValueError as error:
            problems.append(f"{setting} = {error}")
    return problems


def check_environments(space: Space) -> list[str]:
    """What this machine lacks for the space's scenarios, a line each."""
    return [line for environment in environments_of(space) for line in environment.problems(space)]


def check_packages(space: Space) -> list[str]:
    """Optional packages that the space needs and that are not installed, a line each."""
    problems = []
    needs_optuna = space.search is not None and space.search.algorithm == "optuna"
    if needs_optuna and importlib.util.find_spec("optuna") is None:
        problems.append(
            "search.algorithm = 'optuna': the package optuna is not installed (pip install "
            "'bridgesweep[search]'); random and asha need none"
        )
    gpus = space.resources.of(EVALUATION).gpus_per_worker
    if gpus > 1 and space.mllms and importlib.util.find_spec("accelerate") is None:
        problems.append(
            f"resources.by_kind.evaluation.gpus_per_worker = {gpus:g}: the package accelerate, "
            "which divides an MLLM over GPUs, is not installed (pip install 'bridgesweep[gpus]')"
        )
    if gpus > 1 and not space.mllms:
        problems.append(
            f"resources.by_kind.evaluation.gpus_per_worker = {gpus:g}: mllms is empty, and the "
            "encoder that answers then runs on one GPU"
        )
    return problems

"""One model is kept, and is gone before the next one is loaded."""

import gc
import weakref
from collections.abc import Iterator
from functools import lru_cache

import pytest
import torch

from trainables.evaluation import loaded_models
from trainables.evaluation.loaded_models import LastLoaded


class Heavy:
    """Stands for a model."""


class Hooked(Heavy):
    """Stands for a divided MLLM: accelerate's hooks refer to the modules that hold them."""

    def __init__(self) -> None:
        self.hook = self


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Python collects no garbage by itself."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_a_model_in_a_circle_and_torchs_cache_are_gone_before_the_next_one_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alive: weakref.WeakSet[Hooked] = weakref.WeakSet()
    steps: list[tuple[str, int]] = []

    @LastLoaded
    def load(name: str) -> Hooked:
        steps.append((name, len(alive)))
        model = Hooked()
        alive.add(model)
        return model

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: steps.append(("empty", len(alive))))
    load("a")
    load("a")
    load("b")
    assert steps == [("empty", 0), ("a", 0), ("empty", 0), ("b", 0)]


def test_the_last_model_is_kept_and_dropped_before_another_is_loaded() -> None:
    alive: weakref.WeakSet[Heavy] = weakref.WeakSet()
    alive_at_load: list[int] = []

    @LastLoaded
    def load(name: str, beams: int = 1) -> Heavy:
        gc.collect()
        alive_at_load.append(len(alive))
        model = Heavy()
        alive.add(model)
        return model

    assert load("a") is load("a")
    load("b")
    load("b", beams=2)
    load("a")
    assert alive_at_load == [0, 0, 0, 0]
    assert len(alive) == 1


def test_forgetting_drops_mllm_tower_and_the_teacher_that_holds_the_tower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alive: weakref.WeakSet[Heavy] = weakref.WeakSet()

    def load(name: str) -> Heavy:
        model = Heavy()
        alive.add(model)
        return model

    towers, mllms = LastLoaded(load), LastLoaded(load)
    teachers = lru_cache(maxsize=4)(lambda name: [towers(name)])
    for name, loader in (
        ("load_teacher_tower", towers),
        ("load_known_teacher", teachers),
        ("load_mllm", mllms),
    ):
        monkeypatch.setattr(loaded_models, name, loader)
    for loader in (teachers, mllms):
        loader("a")
    gc.collect()
    assert len(alive) == 2
    loaded_models.forget_models()
    assert len(alive) == 0

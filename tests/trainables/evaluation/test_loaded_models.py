"""One model is kept, and is gone before the next one is loaded."""

import gc
import weakref

from trainables.evaluation.loaded_models import LastLoaded


class Heavy:
    """Stands for a model."""


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

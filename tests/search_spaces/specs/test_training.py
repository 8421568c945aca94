"""Defaults of training are the authors', or are said to be ours."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from pydantic import BaseModel

from search_spaces.scenarios.d1 import NeckTraining
from search_spaces.scenarios.d2 import JointTraining
from search_spaces.scenarios.post_processing import UNetTraining
from search_spaces.specs.scenario_rules import settings_models
from search_spaces.specs.training import NeckSpec, SurrogateSpec, TeacherSpec

SAYS_WHOSE = re.compile(r"\b(paper|authors|ours)\b", re.IGNORECASE)
MODELS = {
    model.__name__: model
    for model in (NeckSpec, SurrogateSpec, TeacherSpec, *settings_models().values())
    if model.__name__ != "ClassicalCodecs"  # a list without defaults
}


def whose(model: type[BaseModel], name: str) -> str:
    """What says whose a default is: the field's text, and those of the classes that have it."""
    classes = [c for c in model.__mro__ if name in getattr(c, "__annotations__", {})]
    texts = [model.model_fields[name].description, *(c.__doc__ for c in classes)]
    return "\n".join(filter(None, texts))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_default_says_whose_it_is(model: type[BaseModel]) -> None:
    settings = model.model_fields.items()
    fields = [name for name, field in settings if not field.is_required() and field.default != ""]
    assert [name for name in fields if not SAYS_WHOSE.search(whose(model, name))] == []


def test_d1_is_trained_as_the_authors_train_it() -> None:
    """Their code: Adam 1e-4, a tenth from epoch 20 on, batches of 32, no clipping."""
    d1, images, epochs = NeckTraining(), 1_281_167 // 12, 60
    assert images == 106_763
    assert d1.batch_size == 32
    assert d1.steps == epochs * (images // d1.batch_size) == 200_160
    assert (d1.lr, d1.lr_drop, d1.lr_decay, d1.warmup_steps) == (1e-4, 0.1, "step", 0)
    assert Fraction(d1.lr_drop_at * d1.steps).limit_denominator(1000) == 20 * 3336
    assert d1.grad_clip is None


def test_competitors_of_d1_see_as_many_images() -> None:
    d1, unet = NeckTraining(), UNetTraining()
    assert unet.steps * unet.batch_size == d1.steps * d1.batch_size


def test_image_and_distillation_weigh_sixty_to_one_and_the_image_as_in_a_base_codec() -> None:
    joint = JointTraining()
    assert joint.gamma == 255**2
    assert joint.delta == pytest.approx(1083.75)

"""The losses of both teachers' recipes can be learnt."""

from __future__ import annotations

import argparse
from types import ModuleType

import pytest
import torch

from trainables.datasets.worlds.scenes import captions
from trainables.datasets.worlds.scenes import scene as scenes
from trainables.datasets.worlds.tabletop import language
from trainables.datasets.worlds.tabletop import scene as tabletop
from trainables.recipes.common import build_tokenizer
from trainables.recipes.contrast import Texts
from trainables.recipes.scenes import teacher as scenes_recipe
from trainables.recipes.scenes import teacher_losses
from trainables.recipes.tabletop import teacher as tabletop_recipe
from trainables.recipes.tabletop import teacher_losses as tabletop_losses
from trainables.recipes.teacher_training import build_teacher, teacher_optimisers


@pytest.mark.parametrize(
    ("recipe", "words", "world", "heads"),
    [
        (scenes_recipe, captions, scenes, teacher_losses.Heads),
        (tabletop_recipe, language, tabletop, tabletop_losses.Heads),
    ],
    ids=["scenes", "tabletop"],
)
def test_steps_on_the_same_scenes_lower_each_part_of_the_loss(
    recipe: ModuleType, words: ModuleType, world: ModuleType, heads: type[torch.nn.Module]
) -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(words.vocabulary(), end=True)
    texts = Texts(tokenizer, world.class_names(), words.TEMPLATES)
    model, known = build_teacher(len(tokenizer)), heads()
    parameters = [*model.parameters(), *known.parameters()]
    options = argparse.Namespace(seed=0, batch=4, steps=100, full_until=0.5, easy=0.3)
    optimisers = teacher_optimisers(model, parameters, 1e-3, muon=True)
    seen = []
    for _ in range(12):
        loss, values = recipe.step_loss(model, known, texts, 0, options)
        seen.append(values)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
    assert set(seen[0]) > {"dense", "total"}
    for part, before in seen[0].items():
        assert seen[-1][part] < 0.9 * before, part

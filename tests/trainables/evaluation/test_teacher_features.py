"""The teacher is asked once for an image, as long as there is room for what it says."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.trainables.evaluation.setting import save_llava
from tests.trainables.small import make_clip
from trainables.encoders.bridge import Entry
from trainables.encoders.partial_encoder import Features, Teacher
from trainables.encoders.tower import Tower
from trainables.evaluation.teacher_features import KnownTeacher, shared_layer
from trainables.mllms import Mllm


class Counted(Teacher):
    """Also counts the images that it looks at."""

    def __init__(self, tower: Tower) -> None:
        super().__init__(tower)
        self.seen = 0

    def forward(self, images: Tensor, pooled: bool = True, tokens: bool = True) -> Features:
        self.seen += len(images)
        return super().forward(images, pooled, tokens)


@pytest.mark.parametrize(("pooled", "tokens"), [(True, True), (True, False), (False, True)])
def test_what_is_remembered_is_what_the_teacher_says(pooled: bool, tokens: bool) -> None:
    teacher = Counted(Tower(make_clip()))
    known = KnownTeacher(teacher, pooled, tokens)
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first = known(["a", "b", "c", "d"], images)
    again = known(["c", "a"], images[[2, 0]])
    assert teacher.seen == 4
    for name, wanted in (("pooled", pooled), ("tokens", tokens)):
        computed, kept = getattr(first, name), getattr(again, name)
        assert (computed is not None) == (kept is not None) == wanted
        if wanted:
            assert torch.equal(kept, computed[[2, 0]])


def test_without_room_the_teacher_looks_again() -> None:
    teacher = Counted(Tower(make_clip()))
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    pooled = teacher(images, tokens=False).pooled
    assert pooled is not None
    known = KnownTeacher(teacher, True, False, room=4 * pooled[0].numel())
    teacher.seen = 0
    for _ in range(2):
        recomputed = known(["a", "b", "c"], images).pooled
        assert recomputed is not None
        assert torch.equal(recomputed, pooled)
    assert teacher.seen == 6, "there is room for one image, not for the batch"
    assert known(["a"], images[:1]).pooled is not None
    assert teacher.seen == 6


@pytest.fixture(scope="module")
def mllm(tmp_path_factory: pytest.TempPathFactory) -> Mllm:
    directory = tmp_path_factory.mktemp("mllm")
    save_llava(directory)
    return Mllm.load(str(directory))


def test_an_mllm_with_the_teacher_s_tower_may_be_entered_behind_it(mllm: Mllm) -> None:
    tower = Tower(make_clip(), mllm.preprocess)
    layer = shared_layer(mllm, tower, -2)
    assert layer == tower.sizes.blocks - 1
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    tokens = Teacher(tower)(images, pooled=False).tokens
    assert tokens is not None
    inside, outside = mllm.look(Entry(tokens, layer)), mllm.look(Entry(images, None))
    for features, expected in zip(inside, outside, strict=True):
        assert torch.equal(features, expected)


def test_it_may_not_where_anything_differs(mllm: Mllm) -> None:
    tower = Tower(make_clip(), mllm.preprocess)
    assert shared_layer(mllm, tower, -1) is None, "the text model reads an earlier layer"
    assert shared_layer(object(), tower, -2) is None
    preprocess = replace(mllm.preprocess, resampling="bilinear")
    assert shared_layer(mllm, Tower(make_clip(), preprocess), -2) is None
    with torch.no_grad():
        next(tower.blocks[0].parameters()).view(-1)[0] += 1e-3
    assert shared_layer(mllm, tower, -2) is None

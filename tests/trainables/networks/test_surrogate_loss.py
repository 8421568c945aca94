"""The surrogate loss against closed forms in NumPy."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from search_spaces import load_space
from search_spaces.specs.training import SurrogateSpec
from trainables.encoders.partial_encoder import Features
from trainables.networks.surrogate_loss import cross_entropy, distillation, phase_at
from trainables.training.loop import learning_rate_factor

rng = np.random.default_rng(0)


def softmax_cross_entropy(logits: np.ndarray, labels: list[list[int]]) -> float:
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows = [
        -np.mean(np.log(row[present])) for row, present in zip(probabilities, labels, strict=True)
    ]
    return float(np.mean(rows))


def test_cross_entropy_is_uniform_over_the_classes_present() -> None:
    pooled, weights = rng.normal(size=(3, 4)), rng.normal(size=(4, 5))
    labels = [[0], [1, 4], [2, 3, 0]]
    target = np.zeros((3, 5))
    for row, present in zip(target, labels, strict=True):
        row[present] = 1 / len(present)
    loss = cross_entropy(*map(torch.from_numpy, (pooled, weights, target)))
    assert loss.item() == pytest.approx(softmax_cross_entropy(pooled @ weights, labels))


def test_cross_entropy_of_one_class_is_the_papers() -> None:
    pooled, weights = torch.randn(6, 4), torch.randn(4, 5)
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    target = torch.nn.functional.one_hot(labels, 5).float()
    expected = torch.nn.functional.cross_entropy(pooled @ weights, labels)
    torch.testing.assert_close(cross_entropy(pooled, weights, target), expected)


@pytest.mark.parametrize(("pooled", "tokens"), [(1.0, 0.0), (0.0, 2.0), (0.5, 3.0)])
def test_distillation_is_the_weighted_mean_squared_error(pooled: float, tokens: float) -> None:
    a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 7, 5))
    student, teacher = (Features(torch.from_numpy(a[i]), torch.from_numpy(b[i])) for i in range(2))
    spec = SurrogateSpec(pooled=pooled, tokens=tokens)
    total, terms = distillation(spec, student, teacher)
    expected = pooled * np.mean((a[0] - a[1]) ** 2) + tokens * np.mean((b[0] - b[1]) ** 2)
    assert total.item() == pytest.approx(expected)
    assert set(terms) == {n for n, w in (("pooled", pooled), ("tokens", tokens)) if w}


def test_under_autocast_losses_are_computed_in_fp32() -> None:
    """Of features that the encoder gave in bfloat16: the closed forms of just these values."""
    torch.manual_seed(3)
    coarse, features = torch.randn(4, 64).bfloat16(), torch.randn(4, 64)
    weights, target = torch.randn(64, 9), torch.eye(9)[[0, 3, 3, 8]]
    spec = SurrogateSpec(pooled=1.0, tokens=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        ce = cross_entropy(coarse, weights, target)
        total, _ = distillation(spec, Features(coarse, None), Features(features, None))
    logits = coarse.double().numpy() @ weights.double().numpy()
    assert ce.item() == pytest.approx(softmax_cross_entropy(logits, [[0], [3], [3], [8]]), rel=1e-5)
    expected = np.mean((coarse.double().numpy() - features.double().numpy()) ** 2)
    assert ce.dtype == total.dtype == torch.float32
    assert total.item() == pytest.approx(expected, rel=1e-6)


def test_the_schedule_progresses_as_in_the_paper() -> None:
    phases = [phase_at(SurrogateSpec(), epoch, 60) for epoch in range(60)]
    weights = [(phase.ce, phase.distill) for phase in phases]
    assert weights == [(100, 0)] * 20 + [(1, 100)] * 20 + [(0, 100)] * 20


@pytest.mark.parametrize(
    ("epoch", "weights"),
    [(0, (100, 0)), (19, (100, 0)), (20, (1, 100)), (39, (1, 100)), (40, (0, 100)), (59, (0, 100))],
)
def test_the_paper_s_space_changes_its_weights_between_the_paper_s_epochs(
    epoch: int, weights: tuple[float, float]
) -> None:
    """First and last step of epochs 0, 19, 20, 39, 40, 59; an epoch is a twelfth of ImageNet."""
    space = load_space("paper")
    images = space.d1.steps * space.d1.batch_size / 60
    assert images == pytest.approx(1_281_167 / 12, rel=1e-3)
    first, after = (math.ceil(n * space.d1.steps / 60) for n in (epoch, epoch + 1))
    for step in (first, after - 1):
        phase = phase_at(space.surrogate, step, space.d1.steps)
        assert (phase.ce, phase.distill) == weights
        rate = learning_rate_factor(space.d1, step)
        assert rate == pytest.approx(1 if epoch < 20 else 0.1), "Adam 1e-4, a tenth from epoch 20"


def test_every_step_has_a_phase() -> None:
    for steps in (3, 7, 100):
        assert phase_at(SurrogateSpec(), steps - 1, steps).ce == 0


def test_phases_must_reach_the_end() -> None:
    with pytest.raises(ValidationError):
        SurrogateSpec.model_validate({"phases": [{"until": 0.5, "ce": 1, "distill": 0}]})

"""Parts of a batch together draw what the whole batch draws."""

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torchvision.ops import StochasticDepth

from trainables.training.noise import RowsOfBatch

PARTS = [(0, 1), (2,), (3, 4, 5, 6)]
APART = [(1, 6), (0, 3, 5), (2, 4)]
TOTAL = 7


@pytest.mark.parametrize("positions", [PARTS, APART])
@pytest.mark.parametrize("prior", ["bottleneck", "gaussian", "rand_like"])
def test_noise_of_parts_is_the_wholes(prior: str, positions: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    x = torch.randn(TOTAL, 3, 4, 5)
    bottleneck, gaussian = EntropyBottleneck(3), GaussianConditional(None)

    def noisy(part: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        if prior == "bottleneck":
            return bottleneck(part, training=True)[0]
        if prior == "gaussian":
            return gaussian.quantize(part, "noise")
        return part + torch.rand_like(part)

    found = torch.empty_like(x)
    for part in positions:
        with RowsOfBatch(part, TOTAL):
            found[list(part)] = noisy(x[list(part)])
    torch.testing.assert_close(found, noisy(x), rtol=0, atol=0)
    assert not torch.equal(noisy(x), x)


def test_stochastic_depth_leaves_the_same_blocks_out_of_slices_as_of_the_whole_batch() -> None:
    layer = StochasticDepth(0.5, "row").train()
    images = torch.ones(12, 3, 3, 2)
    torch.manual_seed(4)
    whole = layer(images)
    assert 0 < int((whole.flatten(1).sum(1) == 0).sum()) < 12
    for rows in ([0, 1, 2], [3, 7, 8, 11], list(range(12))):
        torch.manual_seed(4)
        with RowsOfBatch(rows, 12):
            part = layer(images[rows])
        assert torch.equal(part, whole[rows])

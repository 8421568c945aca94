"""Parts of a batch together draw what the whole batch draws."""

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional

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

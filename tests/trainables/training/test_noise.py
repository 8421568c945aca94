"""Parts of a batch together draw what the whole batch draws."""

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional

from trainables.training.noise import RowsOfBatch

PARTS = [(0, 2), (2, 1), (3, 4)]
TOTAL = 7


@pytest.mark.parametrize("prior", ["bottleneck", "gaussian", "rand_like"])
def test_noise_of_parts_is_the_wholes(prior: str) -> None:
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

    parts = []
    for first, rows in PARTS:
        with RowsOfBatch(first, rows, TOTAL):
            parts.append(noisy(x[first : first + rows]))
    torch.testing.assert_close(torch.cat(parts), noisy(x), rtol=0, atol=0)
    assert not torch.equal(noisy(x), x)

"""The U-Net: the classical size, a residual start, and clear limits."""

import pytest
import torch

from trainables.networks.unet import UNet


def test_size_is_the_classical_unets() -> None:
    with torch.device("meta"):
        unet = UNet(channels=64, levels=4)
    # Closed form: two 3x3 convolutions per level and side, transposed 2x2 in between, 1x1 at last.
    widths = [64, 128, 256, 512, 1024]
    count = 64 * 3 + 3
    for inside, width in zip([3, *widths[:-1]], widths, strict=True):
        count += 9 * inside * width + 9 * width * width + 2 * width
    for width in widths[:-1]:
        count += 4 * 2 * width * width + width
        count += 9 * 2 * width * width + 9 * width * width + 2 * width
    assert sum(p.numel() for p in unet.parameters()) == count
    assert count / 1e6 == pytest.approx(31, abs=0.5)


def test_starts_as_the_identity_and_learns() -> None:
    torch.manual_seed(0)
    unet, image = UNet(channels=4, levels=2), torch.rand(2, 3, 16, 24)
    assert torch.equal(unet(image), image)
    optimiser = torch.optim.Adam(unet.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = (unet(image) - image.flip(1)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_one_image_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    unet, image = UNet(channels=4, levels=2), torch.rand(3, 3, 16, 16)
    torch.nn.init.normal_(unet.last.weight)
    torch.testing.assert_close(unet(image)[1:2], unet(image[1:2]))


def test_sides_must_be_multiples() -> None:
    with pytest.raises(ValueError, match=r" 8\D.*16 x 12"):
        UNet(channels=4, levels=3)(torch.rand(1, 3, 16, 12))

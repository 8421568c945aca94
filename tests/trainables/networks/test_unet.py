"""The U-Net: the classical size, a residual start, and clear limits."""

import pytest
import torch

from trainables.networks.unet import UNet


def test_size_is_the_classical_unets() -> None:
    with torch.device("meta"):
        unet = UNet(channels=64, levels=4)
    # Closed form: two 3x3 convolutions per level and side, a factor and a bias per channel behind
    # each of them, transposed 2x2 in between, 1x1 at last.
    widths = [64, 128, 256, 512, 1024]
    count = 64 * 3 + 3
    for inside, width in zip([3, *widths[:-1]], widths, strict=True):
        count += 9 * inside * width + 9 * width * width + 6 * width
    for width in widths[:-1]:
        count += 4 * 2 * width * width + width
        count += 9 * 2 * width * width + 9 * width * width + 6 * width
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
    unet, image = UNet(channels=4, levels=2).train(), torch.rand(3, 3, 16, 16)
    torch.nn.init.normal_(unet.last.weight)
    together = unet(image)[1:2]
    torch.testing.assert_close(together, unet(image[1:2]))
    torch.testing.assert_close(together, unet.eval()(image[1:2]))


@pytest.mark.parametrize("channels", [3, 8, 22, 64])
def test_what_follows_a_convolution_is_normalised_image_by_image(channels: int) -> None:
    """A residual that grows tenfold with its input's contrast would learn at one contrast alone."""
    torch.manual_seed(0)
    unet, x = UNet(channels, levels=1), torch.randn(2, 3, 8, 8)
    convolution, norm = unet.encoders[0][:2]
    assert channels // norm.num_groups >= 2 or channels == norm.num_groups == 1
    torch.nn.init.zeros_(convolution.bias)
    normed = norm(convolution(x))
    torch.testing.assert_close(norm(convolution(10 * x)), normed, atol=1e-3, rtol=0)
    torch.testing.assert_close(normed.mean((1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.square().mean((1, 2, 3)), torch.ones(2), atol=1e-3, rtol=0)


def test_sides_must_be_multiples() -> None:
    with pytest.raises(ValueError, match=r" 8\D.*16 x 12"):
        UNet(channels=4, levels=3)(torch.rand(1, 3, 16, 12))

"""The parts of operating points, fresh, and putting stored weights into them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.space import Space
from trainables.codecs import mismatches
from trainables.encoders.partial_encoder import PartialEncoder, Teacher
from trainables.encoders.tower import Tower
from trainables.networks.neck import TransformNeck
from trainables.networks.token_codec import TokenCodec, TokenNet
from trainables.networks.unet import UNet, channels_within


def build_neck(space: Space, codec: CodecSpec, tower: Tower) -> TransformNeck:
    """A fresh neck between a codec and the space's teacher."""
    if space.neck.init == "random":
        return _neck(space, codec.M, tower, norm=True)
    neck = _neck(space, codec.M, tower, norm=tower.pre_norm is not None)
    neck.start_from(tower, space.teacher.block)
    return neck


def build_unet(space: Space, codec: CodecSpec, tower: Tower) -> UNet:
    """A fresh U-Net of the space's size, or of that of the codec's neck."""
    channels, levels = space.post_processing.channels, space.post_processing.levels
    if channels == "neck":
        with torch.device("meta"):
            neck = _neck(space, codec.M, tower, norm=True)
        channels = channels_within(count(neck), levels)
    return UNet(channels, levels)


def build_token_codec(space: Space, tower: Tower) -> tuple[TokenCodec, TransformNeck]:
    """A fresh codec of the teacher's tokens at block k, and the neck that reads its latents."""
    channels, teacher = space.feature_coding.channels, complete_encoder(space, tower)
    codec = TokenCodec(TokenNet(teacher, space.teacher.block, channels))
    return codec, _neck(space, channels, tower, norm=False)


def _neck(space: Space, channels: int, tower: Tower, norm: bool) -> TransformNeck:
    return TransformNeck(
        latent_channels=channels,
        encoder=tower.sizes,
        heads=space.neck.heads,
        layers=space.neck.layers,
        mlp_ratio=space.neck.mlp_ratio,
        norm=norm,
    )


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def partial_encoder(space: Space, tower: Tower) -> PartialEncoder:
    """The space's teacher from block k on."""
    return PartialEncoder(
        tower,
        space.teacher.block,
        space.surrogate.token_layer,
        space.surrogate.double_norm,
        space.resources.checkpoint_blocks,
    )


def complete_encoder(space: Space, tower: Tower) -> Teacher:
    """The space's teacher."""
    surrogate = space.surrogate
    return Teacher(
        tower, surrogate.token_layer, surrogate.double_norm, space.resources.checkpoint_blocks
    )


def named(**modules: nn.Module) -> dict[str, Tensor]:
    """The parameters of modules, `MODULE.PARAMETER`, without gradients."""
    return {
        f"{prefix}.{name}": parameter.detach()
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters()
    }


@torch.no_grad()
def overlay(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Copy stored values into parameters; names and shapes must agree exactly."""
    problems = mismatches(own, given)
    if problems:
        raise ValueError(f"stored weights do not fit: {'; '.join(problems[:5])}")
    for name, value in own.items():
        value.copy_(given[name])

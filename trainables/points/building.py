"""Networks of operating points, freshly initialised, at the sizes that a space gives."""

from __future__ import annotations

from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.space import Space
from trainables.encoders.partial_encoder import PartialEncoder, Teacher
from trainables.encoders.tower import Tower
from trainables.networks.neck import TransformNeck


def build_neck(space: Space, codec: CodecSpec, tower: Tower) -> TransformNeck:
    """A fresh neck between a codec and the space's teacher."""
    if space.neck.init == "random":
        return sized_neck(space, codec.M, tower, norm=True)
    neck = sized_neck(space, codec.M, tower, norm=tower.pre_norm is not None)
    neck.start_from(tower, space.teacher.block)
    return neck


def sized_neck(space: Space, channels: int, tower: Tower, norm: bool) -> TransformNeck:
    """A neck of the space's size with torch's initial weights.

    Args:
        channels: of the latents that it reads.
        norm: whether it has a LayerNorm in front of its attention blocks.
    """
    return TransformNeck(
        latent_channels=channels,
        encoder=tower.sizes,
        heads=space.neck.heads,
        layers=space.neck.layers,
        mlp_ratio=space.neck.mlp_ratio,
        norm=norm,
    )


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

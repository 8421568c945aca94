"""TIC: a transformer codec.

Lu et al., *Transformer-based image compression* (DCC 2022, arXiv 2111.06707).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from search_spaces.codecs.project_codec import ProjectCodec
from search_spaces.specs.base import Positive

HEADS_OF_CONTEXT = 16
"""Attention heads over channels, which N and M must be multiples of."""


class TicCodec(ProjectCodec):
    """Settings of TIC."""

    implementation: ClassVar[str] = "trainables.codecs.tic:build"

    arch: Literal["tic"]
    N: Positive = 128
    """Channels of the transforms, a multiple of 16."""
    M: Positive = 192
    """Channels of the latents, a multiple of 16."""
    depths: tuple[Positive, ...] = (2, 4, 6, 2, 2)
    """Swin blocks per stage, three of the transforms and two of the hyper-transforms, as TIC's
    paper has them; its released implementation, which `paper-tic` takes, has 1, 2, 3, 1, 1."""

    def problems(self) -> list[str]:
        """See `CodecSpec`."""
        problems = super().problems()
        if self.N % HEADS_OF_CONTEXT or self.M % HEADS_OF_CONTEXT or len(self.depths) != 5:
            problems.append(
                f"tic needs N and M that are multiples of {HEADS_OF_CONTEXT} and five depths, not "
                f"N {self.N}, M {self.M} and depths {self.depths}"
            )
        return problems


CODEC = TicCodec

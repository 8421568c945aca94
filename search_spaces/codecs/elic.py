"""ELIC: groups of channels, each coded in two checkerboard passes.

He et al., *ELIC: Efficient learned image compression with unevenly grouped space-channel contextual
adaptive coding* (CVPR 2022, arXiv 2203.10886), in the variant `chandelier` that CompressAI has.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from search_spaces.codecs.project_codec import ProjectCodec
from search_spaces.specs.base import Positive
from search_spaces.specs.codec import hyperprior_parameters

FIRST_GROUPS: Final = (16, 16, 32, 64)
"""The published groups but for the last, which has the channels that are left."""


class ElicCodec(ProjectCodec):
    """Settings of ELIC."""

    implementation: ClassVar[str] = "trainables.codecs.elic:build"

    arch: Literal["elic2022-chandelier"]
    groups: tuple[Positive, ...] | None = None
    """Channel groups of the latents, adding up to M; null for 16, 16, 32, 64, M - 128."""
    context_width: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Width of the context and parameter networks relative to the published ones."""

    @property
    def parameter_estimate(self) -> float:
        """See `CodecSpec`."""
        return hyperprior_parameters(self.N, self.M, self.context_width)

    def problems(self) -> list[str]:
        """See `CodecSpec`."""
        problems = super().problems()
        rest = sum(FIRST_GROUPS)
        if self.groups is not None and sum(self.groups) != self.M:
            problems.append(f"groups add up to {sum(self.groups)}, but M is {self.M}")
        if self.groups is None and rest >= self.M:
            problems.append(f"groups is needed where M ({self.M}) is {rest} or less")
        return problems


CODEC = ElicCodec

"""The settings that the project's own codecs share."""

from __future__ import annotations

from search_spaces.specs.base import Positive
from search_spaces.specs.codec import CodecSpec, hyperprior_parameters


class ProjectCodec(CodecSpec):
    """A codec of the project: transforms of N channels."""

    N: Positive = 192
    """Channels of the transforms."""
    M: Positive = 320
    """Channels of the latents."""

    @property
    def widths(self) -> tuple[int, ...]:
        """See `CodecSpec`."""
        return (self.N, self.M)

    @property
    def parameter_estimate(self) -> float:
        """See `CodecSpec`."""
        return hyperprior_parameters(self.N, self.M)

"""The settings that the project's own codecs share."""

from __future__ import annotations

from typing import Any

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

    @property
    def identity(self) -> dict[str, Any]:
        """See `CodecSpec`; the two settings of ELIC were in the keys of all codecs once, and stay
        there: so stages that were made before are found again."""
        return {"groups": None, "context_width": 1.0, **super().identity}

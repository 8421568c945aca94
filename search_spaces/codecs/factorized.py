"""The factorized prior: every channel of the latents has its own distribution.

Ballé et al., *Variational image compression with a scale hyperprior* (ICLR 2018, arXiv 1802.01436).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from search_spaces.codecs.compressai_codec import CompressAICodec


class FactorizedCodec(CompressAICodec):
    """Settings of the factorized prior."""

    implementation: ClassVar[str] = "trainables.codecs.factorized:build"

    arch: Literal["bmshj2018-factorized", "bmshj2018-factorized-relu"]

    @property
    def pad_to(self) -> int:
        """See `CodecSpec`; there are no hyper-latents."""
        return self.stride


CODEC = FactorizedCodec

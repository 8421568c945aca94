"""Autoregressive models: means and scales depend also on the latents above and to the left.

Minnen et al., *Joint autoregressive and hierarchical priors* (NeurIPS 2018, arXiv 1809.02736);
Cheng et al., *Learned image compression with discretized Gaussian mixture likelihoods and attention
modules* (CVPR 2020, arXiv 2001.01568), with one Gaussian as in CompressAI.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from search_spaces.codecs.compressai_codec import CompressAICodec


class AutoregressiveCodec(CompressAICodec):
    """Settings of mbt2018 and cheng2020.

    cheng2020 has N channels of latents, too.
    """

    implementation: ClassVar[str] = "trainables.codecs.autoregressive:build"

    arch: Literal["mbt2018", "cheng2020-anchor", "cheng2020-attn"]

    def problems(self) -> list[str]:
        """See `CodecSpec`."""
        problems = super().problems()
        if self.arch.startswith("cheng2020") and self.M != self.N:
            problems.append(f"{self.arch} has M = N; M is {self.M} and N is {self.N}")
        return problems


CODEC = AutoregressiveCodec

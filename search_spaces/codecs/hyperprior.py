"""Hyperpriors: the latents' scales (and means) are predicted from hyper-latents.

Ballé et al., *Variational image compression with a scale hyperprior* (ICLR 2018, arXiv 1802.01436);
Minnen et al., *Joint autoregressive and hierarchical priors* (NeurIPS 2018, arXiv 1809.02736).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from search_spaces.codecs.compressai_codec import CompressAICodec


class HyperpriorCodec(CompressAICodec):
    """Settings of the scale hyperprior and of the mean-scale hyperprior."""

    implementation: ClassVar[str] = "trainables.codecs.hyperprior:build"

    arch: Literal["bmshj2018-hyperprior", "mbt2018-mean"]


CODEC = HyperpriorCodec

"""Variable-rate models: one set of weights for all rates.

Kamisli et al., *Variable-rate learned image compression with multi-objective optimization and
quantization-reconstruction offsets* (DCC 2024, arXiv 2402.18930).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from search_spaces.codecs.compressai_codec import CompressAICodec
from search_spaces.facts.compressai_zoo import LAMBDAS
from search_spaces.specs.base import Rate

RATES = 8
"""Rates that one network has steps for."""


class VariableRateCodec(CompressAICodec):
    """Settings of the variable-rate models.

    `qualities` are the rates of the one base codec that are swept, all of them unless given.
    """

    implementation: ClassVar[str] = "trainables.codecs.variable_rate:build"
    not_architecture: ClassVar[tuple[str, ...]] = ("qualities", "rate_lambdas")

    arch: Literal["bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr", "mbt2018-vbr"]
    rate_lambdas: tuple[Rate, ...] | None = None
    """The lambda of each rate that is trained here, two to eight, rising; null for those of
    CompressAI's eight qualities."""

    @property
    def is_variable_rate(self) -> bool:
        """See `CodecSpec`."""
        return True

    @property
    def rate(self) -> int:
        """See `CodecSpec`."""
        return self.qualities[0] - 1 if self.qualities else 0

    @property
    def rate_table(self) -> tuple[float, ...]:
        """See `CodecSpec`."""
        return self.rate_lambdas or LAMBDAS["mse"]

    @property
    def quality_lambdas(self) -> tuple[float, ...]:
        """The lambda of each rate."""
        return self.rate_table

    @property
    def identity(self) -> dict[str, Any]:
        """See `CodecSpec`; all rates are trained together, so their lambdas are in it."""
        trained = {"rate_lambdas": list(self.rate_lambdas)} if self.rate_lambdas else {}
        return super().identity | trained

    def problems(self) -> list[str]:
        """See `CodecSpec`."""
        if self.rate_lambdas is not None and (mistake := self._mistake_in(self.rate_lambdas)):
            return [f"rate_lambdas {mistake}"]
        if self.qualities is None:
            return ["a -vbr codec has qualities, not lambdas"]
        return super().problems()

    def _mistake_in(self, rate_lambdas: tuple[float, ...]) -> str:
        if self.zoo_metric is not None:
            return f"are given by the weights {self.weights!r}"
        if sorted(set(rate_lambdas)) != list(rate_lambdas):
            return f"must rise, not be {rate_lambdas}"
        if not 2 <= len(rate_lambdas) <= RATES:
            return f"are two to eight, not {len(rate_lambdas)}"
        return ""

    @classmethod
    def with_defaults(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """See `CompressAICodec`; all rates, unless lambdas or qualities are given."""
        if settings.get("qualities") is None and "lambdas" not in settings:
            lambdas = settings.get("rate_lambdas") or LAMBDAS["mse"]
            settings["qualities"] = tuple(range(1, 1 + len(lambdas)))
        return super().with_defaults(settings)


CODEC = VariableRateCodec

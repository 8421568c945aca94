"""The settings that CompressAI's codecs with pretrained models share: qualities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from search_spaces.codecs.project_codec import ProjectCodec
from search_spaces.facts.compressai_zoo import LAMBDAS, WIDTHS, ZOO, metrics

Quality = Annotated[int, Field(ge=1, le=8)]


class CompressAICodec(ProjectCodec):
    """A codec of CompressAI, whose qualities stand for lambdas and widths."""

    not_architecture: ClassVar[tuple[str, ...]] = ("qualities",)

    qualities: tuple[Quality, ...] | None = None
    """CompressAI's qualities, 1 to 8, instead of lambdas, N and M, which follow from them."""

    @property
    def pretrained(self) -> tuple[str, ...]:
        """See `CodecSpec`."""
        return metrics(self.arch)

    @property
    def quality_lambdas(self) -> tuple[float, ...]:
        """The lambda of each quality, 1 first."""
        return LAMBDAS.get(self.zoo_metric or "mse", LAMBDAS["mse"])

    def settings_of_rate(self, place: int) -> dict[str, Any]:
        """See `CodecSpec`: with the widths and the pretrained model of the rate's quality."""
        settings = super().settings_of_rate(place)
        if self.qualities is None:
            return settings
        quality = self.qualities[place]
        settings["qualities"] = (quality,)
        if not self.is_variable_rate:
            settings["N"], settings["M"] = WIDTHS[self.arch][quality - 1]
            if isinstance(self.weights, str) and self.weights.count(":") == 1:
                settings["weights"] = f"{self.weights}:{quality}"
        return settings

    def problems(self) -> list[str]:
        """See `CodecSpec`."""
        problems = [*self._problems_of_qualities(), *super().problems()]
        if self.zoo_metric in self.pretrained:
            if self.qualities is None:
                problems.append(f"weights {self.weights!r} needs qualities, such as [1, 2, 3, 4]")
            if not self.lambda_is_of_mse and self.train.steps:
                problems.append("train.steps must be 0 with ms-ssim weights: the loss here is MSE")
        return problems

    def _problems_of_qualities(self) -> list[str]:
        if self.qualities is None:
            return []
        widths, lambdas = WIDTHS[self.arch], self.quality_lambdas
        last = min(len(widths), len(lambdas))
        if not self.qualities or max(self.qualities) > last:
            return [f"qualities of {self.arch} are 1 to {last}, not {self.qualities}"]
        problems = []
        if self.lambdas != tuple(lambdas[quality - 1] for quality in self.qualities):
            problems.append("lambdas follow from the qualities: give one of the two")
        first = self.qualities[0]
        if not self.is_variable_rate and widths[first - 1] != (self.N, self.M):
            problems.append(
                f"N and M follow from the qualities ({widths[first - 1]} for quality {first} of "
                f"{self.arch}), not {self.N}, {self.M}"
            )
        return problems

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Set defaults that follow from other settings; wrong ones are left to `problems`."""
        if not isinstance(data, Mapping) or data.get("arch") not in WIDTHS:
            return data
        return cls.with_defaults(dict(data))

    @classmethod
    def with_defaults(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Settings as given, of a known architecture, with the defaults that follow from them."""
        weights = settings.get("weights")
        metric = "ms-ssim" if "ms-ssim" in str(weights) else "mse"
        lambdas = settings.get("rate_lambdas") or LAMBDAS[metric]
        qualities, widths = settings.get("qualities"), WIDTHS[settings["arch"]]
        known = range(1, 1 + len(lambdas))
        if isinstance(qualities, (list, tuple)) and all(quality in known for quality in qualities):
            settings.setdefault("lambdas", tuple(lambdas[quality - 1] for quality in qualities))
            if qualities and qualities[0] <= len(widths):
                N, M = widths[qualities[0] - 1]
                settings.setdefault("N", N)
                settings.setdefault("M", M)
        if isinstance(weights, str) and weights.startswith(ZOO):
            settings.setdefault("train", {"steps": 0})
        return settings

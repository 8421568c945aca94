"""Codecs: architectures, sizes, rates, and the weights they start from."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from search_spaces.facts.compressai_zoo import LAMBDAS, WIDTHS, ZOO, is_vbr, metrics
from search_spaces.specs.base import Positive, Rate, Spec
from search_spaces.specs.training import BaseCodecTraining

Arch = Literal[
    "bmshj2018-factorized",
    "bmshj2018-hyperprior",
    "mbt2018-mean",
    "mbt2018",
    "cheng2020-anchor",
    "cheng2020-attn",
    "bmshj2018-factorized-relu",
    "bmshj2018-hyperprior-vbr",
    "mbt2018-mean-vbr",
    "mbt2018-vbr",
    "elic2022-chandelier",
    "tic",
]


class CodecSpec(Spec):
    """One codec architecture and the rates it is trained for."""

    arch: Arch
    """CompressAI's name of the architecture, or `tic`."""
    name: str = ""
    """How the codec is called in points and plots; empty for the architecture's name."""
    N: Positive = 192
    """Channels of the transforms; 128 for tic."""
    M: Positive = 320
    """Channels of the latents; 192 for tic."""
    groups: tuple[Positive, ...] | None = None
    """Channel groups of ELIC's latents, adding up to M; null for 16, 16, 32, 64, M - 128."""
    context_width: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Width of ELIC's context and parameter networks relative to the published one."""
    depths: tuple[Positive, ...] = (2, 4, 6, 2, 2)
    """TIC's Swin blocks per stage, three of the transforms and two of the hyper-transforms; the
    released implementation has 1, 2, 3, 1, 1."""
    lambdas: tuple[Rate, ...] = (0.004, 0.008, 0.016, 0.032)
    """One base codec each; CompressAI's convention, loss = bpp + lambda * 255^2 * MSE."""
    qualities: tuple[Annotated[int, Field(ge=1, le=8)], ...] | None = None
    """CompressAI's qualities in the place of lambdas, which follow from them as N and M do. Of a
    `-vbr` architecture they are the rates of one base codec, all of them unless given."""
    rate_lambdas: tuple[Rate, ...] | None = None
    """Of a `-vbr` architecture that is trained here: the lambda of each of its rates, two to eight,
    rising; null for those of CompressAI's eight."""
    weights: str | tuple[str, ...] | None = None
    """What base codecs start from, one for all or one per rate: `shipped:NAME`, a weights file,
    `compressai:mse` or `compressai:ms-ssim` (CompressAI's pretrained models), null for scratch."""
    released: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Finished operating points of this codec, which are then used and not trained: scenario ->
    files of the paper's format, one per rate."""
    train: BaseCodecTraining = BaseCodecTraining()
    """With `compressai:` weights they are taken as they are unless this is given."""

    def __hash__(self) -> int:
        return hash((self.arch, self.name, self.lambdas))

    @property
    def label(self) -> str:
        """The name in points and plots."""
        return self.name or self.arch

    @property
    def rate(self) -> int:
        """Index of a `-vbr` architecture's (first) rate; 0 for all others."""
        return self.qualities[0] - 1 if self.qualities and is_vbr(self.arch) else 0

    @property
    def rate_table(self) -> tuple[float, ...]:
        """The lambda of each rate that a `-vbr` architecture is trained for."""
        return self.rate_lambdas or LAMBDAS["mse"]

    def at(self, lmbda: float) -> CodecSpec:
        """This codec at one of its rates alone, with that rate's widths and files.

        Raises:
            ValueError: lmbda is none of its lambdas.
        """
        if lmbda not in self.lambdas:
            raise ValueError(f"{self.label} has lambdas {self.lambdas}, not {lmbda:g}")
        place = self.lambdas.index(lmbda)
        update: dict[str, object] = {"lambdas": (lmbda,)}
        if isinstance(self.weights, tuple):
            update["weights"] = self.weights[place]
        if self.qualities is not None:
            quality = self.qualities[place]
            update["qualities"] = (quality,)
            if not is_vbr(self.arch):
                update["N"], update["M"] = WIDTHS[self.arch][quality - 1]
                if isinstance(self.weights, str) and self.weights.count(":") == 1:
                    update["weights"] = f"{self.weights}:{quality}"
        update["released"] = {name: (files[place],) for name, files in self.released.items()}
        return self.model_copy(update=update)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Defaults that follow from others; a given value that differs is left for `_check`."""
        if not isinstance(data, dict):
            return data
        if data.get("arch") == "tic":
            return {"N": 128, "M": 192, **data}
        if data.get("arch") not in WIDTHS:
            return data
        data, arch = dict(data), data["arch"]
        weights = data.get("weights")
        own = data.get("rate_lambdas")
        table = own or LAMBDAS["ms-ssim" if "ms-ssim" in str(weights) else "mse"]
        if is_vbr(arch) and data.get("qualities") is None and "lambdas" not in data:
            data["qualities"] = tuple(range(1, 1 + len(table)))
        qualities = data.get("qualities")
        if isinstance(qualities, (list, tuple)) and set(qualities) <= set(range(1, 1 + len(table))):
            data.setdefault("lambdas", tuple(table[quality - 1] for quality in qualities))
            if qualities and qualities[0] <= len(WIDTHS[arch]):
                N, M = WIDTHS[arch][qualities[0] - 1]
                data.setdefault("N", N)
                data.setdefault("M", M)
        if isinstance(weights, str) and weights.startswith(ZOO):
            data.setdefault("train", {"steps": 0})
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [*self._problems_of_rates(), *self._problems_of_weights()]
        if self.groups is not None:
            if self.arch != "elic2022-chandelier":
                problems.append(f"groups is a setting of elic2022-chandelier, not of {self.arch}")
            elif sum(self.groups) != self.M:
                problems.append(f"groups add up to {sum(self.groups)}, but M is {self.M}")
        elif self.arch == "elic2022-chandelier" and self.M <= 128:
            problems.append(f"groups is needed where M ({self.M}) is 128 or less")
        if self.arch.startswith("cheng2020") and self.M != self.N:
            problems.append(f"{self.arch} has M = N; M is {self.M} and N is {self.N}")
        if self.context_width != 1 and self.arch != "elic2022-chandelier":
            problems.append(f"context_width is a setting of elic2022-chandelier, not {self.arch}")
        if self.arch != "tic" and self.depths != type(self).model_fields["depths"].default:
            problems.append(f"depths is a setting of tic, not of {self.arch}")
        if self.arch == "tic" and (self.N % 16 or self.M % 16 or len(self.depths) != 5):
            problems.append(
                f"tic needs N and M that are multiples of 16 and five depths, not N {self.N}, "
                f"M {self.M} and depths {self.depths}"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _problems_of_rates(self) -> list[str]:
        if len(set(self.lambdas)) != len(self.lambdas) or not self.lambdas:
            return ["lambdas must be one or more different values"]
        if self.rate_lambdas is not None and (wrong := self._wrong_rate_lambdas):
            return [f"rate_lambdas {wrong}"]
        if self.qualities is None:
            return ["a -vbr codec has qualities, not lambdas"] if is_vbr(self.arch) else []
        widths = WIDTHS.get(self.arch)
        if widths is None:
            return [f"qualities: CompressAI has none of {self.arch}; valid: {', '.join(WIDTHS)}"]
        table = self.rate_lambdas or LAMBDAS[self._metric or "mse"]
        last = min(len(widths), len(table))
        if not self.qualities or max(self.qualities) > last:
            return [f"qualities of {self.arch} are 1 to {last}, not {self.qualities}"]
        problems = []
        if self.lambdas != tuple(table[quality - 1] for quality in self.qualities):
            problems.append("lambdas follow from the qualities: give one of the two")
        if not is_vbr(self.arch) and widths[self.qualities[0] - 1] != (self.N, self.M):
            problems.append(
                f"N and M follow from the qualities ({widths[self.qualities[0] - 1]} for quality "
                f"{self.qualities[0]} of {self.arch}), not {self.N}, {self.M}"
            )
        return problems

    def _problems_of_weights(self) -> list[str]:
        problems = []
        rates = len(self.lambdas)
        if isinstance(self.weights, tuple):
            if len(self.weights) != rates:
                problems.append(f"weights names {len(self.weights)} files for {rates} rates")
            if is_vbr(self.arch) or any(name.startswith(ZOO) for name in self.weights):
                problems.append("weights is one name for all rates of a -vbr or compressai: codec")
        elif self._metric is not None:
            if self._metric not in metrics(self.arch):
                has = ", ".join(ZOO + metric for metric in metrics(self.arch)) or "none"
                problems.append(f"weights {self.weights!r}: pretrained {self.arch} are {has}")
            elif self.qualities is None:
                problems.append(f"weights {self.weights!r} needs qualities, such as [1, 2, 3, 4]")
            if self._metric == "ms-ssim" and self.train.steps:
                problems.append("train.steps must be 0 with ms-ssim weights: the loss here is MSE")
        if self.weights is None and not self.train.steps:
            problems.append("train.steps is 0 and there are no weights to take as they are")
        for scenario, files in self.released.items():
            if len(files) != rates:
                problems.append(f"released.{scenario} names {len(files)} files for {rates} rates")
        return problems

    @property
    def _wrong_rate_lambdas(self) -> str:
        """What is wrong with `rate_lambdas`; empty if nothing is."""
        assert self.rate_lambdas is not None
        if not is_vbr(self.arch):
            return f"is a setting of -vbr architectures, not of {self.arch}"
        if self._metric is not None:
            return f"are given by the weights {self.weights!r}"
        if sorted(set(self.rate_lambdas)) != list(self.rate_lambdas):
            return f"must rise, not be {self.rate_lambdas}"
        if not 2 <= len(self.rate_lambdas) <= 8:
            return f"are two to eight, not {len(self.rate_lambdas)}"
        return ""

    @property
    def _metric(self) -> str | None:
        """What CompressAI's pretrained models named by `weights` are for, if it names any."""
        if not isinstance(self.weights, str) or not self.weights.startswith(ZOO):
            return None
        return self.weights.removeprefix(ZOO).split(":")[0]

    @property
    def lambda_is_of_mse(self) -> bool:
        """Whether lambda weighs the MSE, as d2 and d3 take it to."""
        return self._metric != "ms-ssim"

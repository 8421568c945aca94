"""What each part costs: parameters, and kMAC per pixel of the image given to the codec.

    sender     x -> analysis g_a -> hyper analysis h_a -> entropy networks -> bytes
    receiver   bytes -> entropy networks -> y_hat --+-> neck ------------------------+-> encoder_run
                                                    +-> synthesis g_s --+-> encoder_skipped --+
                                                                        +-> U-Net --+

Counted, not quoted: the project's own modules, built from a space, are run once on the meta device
(no memory, no weights) under PyTorch's FlopCounterMode; a MAC is two of its operations. It counts
matrix products and convolutions; attention runs on its plain mathematical path, so that both of
its products are counted as such (fused kernels are not known to the counter on every device).
Normalisations, activations, softmax, resizing and table look-ups are not counted.

    python -m trainables.commands.complexity [SPACE] [--set PATH=VALUE] [--codec NAME] [--json FILE]

At the paper's sizes its own figures stand beside them, with what explains each difference.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import CodecSpec, Space, SpaceError, load_space
from search_spaces.specs.base import Spec
from search_spaces.specs.data import DataSpec
from search_spaces.specs.points import TOKENS
from trainables.codecs import build_codec
from trainables.commands.paper_figures import Comparison, compare, table
from trainables.encoders.load import meta_tower
from trainables.encoders.tower import Tower
from trainables.networks.token_codec import TokenCodec
from trainables.scenarios.building import (
    build_neck,
    build_token_codec,
    build_unet,
    complete_encoder,
    partial_encoder,
)

PAPER = Space(
    name="paper",
    codecs=(CodecSpec(arch="elic2022-chandelier"),),
    data=DataSpec(size=256),
    mllms=("none",),
)
"""The sizes of the paper: ELIC 192/320 at 256 x 256, CLIP ViT-L/14 at 224, k = 2."""

SENDER = ("analysis", "hyper_analysis", "entropy")
_ENCODER = ("encoder_skipped", "encoder_run")
_BRIDGE = ("entropy", "neck", "encoder_run")
RECEIVER = {
    **dict.fromkeys(("d1", "d2", "d3", "shared_neck"), _BRIDGE),
    **dict.fromkeys(("transfer", "transfer_tuned", "end_to_end_oracle"), _BRIDGE),
    "post_processing": ("entropy", "synthesis", "unet", *_ENCODER),
    "reconstruction": ("entropy", "synthesis", *_ENCODER),
    "uncompressed": _ENCODER,
    "feature_coding": ("token_neck", "encoder_run"),
}
"""The parts that the receiver of each scenario runs, up to the layer that the MLLM reads."""
_SENDS = {"uncompressed": (), "feature_coding": ("encoder_skipped", "token_analysis")}
"""What senders run, where it is not `SENDER`."""
COMMON = ("entropy", "encoder_run")
"""What every receiver of compressed images runs; the paper compares the rest."""

MEANING = {
    "analysis": "g_a: image to latents",
    "hyper_analysis": "h_a: latents to hyper-latents",
    "entropy": "h_s, context and parameter networks",
    "synthesis": "g_s: latents to image",
    "neck": "latents to tokens of block k",
    "unet": "U-Net on the decoded image",
    "token_analysis": "tokens of block k to latents",
    "token_neck": "latents to tokens of block k",
    "encoder_skipped": "patch embedding and blocks before k",
    "encoder_run": "blocks k up to the layer that is read",
    "teacher": "the complete encoder, as in training",
}
_SIDE = {
    "analysis": "sender",
    "hyper_analysis": "sender",
    "token_analysis": "sender",
    "entropy": "both",
    "teacher": "training",
}
_SIZES = (
    *("model", "block", "layers", "heads", "mlp_ratio", "channels", "levels"),
    *("arch", "N", "M", "groups", "context_width"),
)
"""Settings that decide what parts cost."""


@dataclass(frozen=True)
class Part:
    """One part of one codec's operating points; a row of the table.

    codec: its label, empty where the part does not depend on one; side: `sender`, `receiver`,
    `both` or `training`; macs: of one image; kmac_per_pixel: of the image given to the codec;
    variant: of the space, empty where its variants do not differ.
    """

    codec: str
    part: str
    side: str
    parameters: int
    macs: int
    kmac_per_pixel: float
    variant: str = ""


@dataclass(frozen=True)
class Total:
    """What one scenario costs with one codec, in kMAC/pixel.

    sender: encoding; receiver: from bytes (pixels for `uncompressed`) to the layer that the MLLM
    reads; own: the receiver without what every receiver of compressed images runs, the number that
    the paper compares; own_parameters: of those parts; saving: share of `own` that is saved
    against post_processing, of variants the cheapest; variant: as in `Part`.
    """

    codec: str
    scenario: str
    sender: float
    receiver: float
    own: float
    own_parameters: int
    saving: float
    variant: str = ""


Row = TypeVar("Row", Part, Total)


def count_macs(run: Callable[[], object], *inside: nn.Module) -> list[int]:
    """MACs of matrix products and convolutions.

    Args:
        run: what is counted.
        inside: modules that it calls.

    Returns:
        Of all of it, then of what ran inside each module.
    """
    mode = FlopCounterMode(display=False)
    sums = [0] * len(inside)
    handles = []
    for place, module in enumerate(inside):

        def enter(_module: nn.Module, _arguments: Any, place: int = place) -> None:
            sums[place] -= mode.get_total_flops()

        def leave(_module: nn.Module, _arguments: Any, _output: Any, place: int = place) -> None:
            sums[place] += mode.get_total_flops()

        handles += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave),
        ]
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), mode:
            run()
    finally:
        for handle in handles:
            handle.remove()
    return [flops // 2 for flops in (mode.get_total_flops(), *sums)]


def codecs_of(space: Space) -> dict[str, CodecSpec]:
    """The codecs by label; one whose widths depend on the quality, by label and widths."""
    found: dict[str, CodecSpec] = {}
    for spec in space.codecs:
        sizes = {(own.N, own.M): own for own in map(spec.at, spec.lambdas)}
        for (N, M), own in sizes.items():
            found[spec.label if len(sizes) == 1 else f"{spec.label} {N}/{M}"] = own
    return found


def codec_parts(label: str, spec: CodecSpec, size: int) -> list[Part]:
    """The parts of a codec on an image of size x size pixels."""
    # CompressAI's layers compute their first weights, so they are built with memory.
    codec = build_codec(spec).eval().to("meta")
    image, y_hat = _meta(3, size, size), _meta(spec.M, size // 16, size // 16)
    hyper = [m for name, m in codec.net.named_modules() if name.rpartition(".")[2] == "h_a"]
    g_a, g_s = codec.net.g_a, codec.net.g_s
    encoding, analysis, *hyper_analysis = count_macs(lambda: codec.latents(image), g_a, *hyper)
    macs = {"analysis": analysis, "hyper_analysis": sum(hyper_analysis)}
    macs["entropy"] = encoding - sum(macs.values())
    (macs["synthesis"],) = count_macs(lambda: codec.synthesis(y_hat))
    parameters = {
        "analysis": _parameters([g_a]),
        "hyper_analysis": _parameters(hyper),
        "synthesis": _parameters([g_s]),
    }
    parameters["entropy"] = _parameters([codec]) - sum(parameters.values())
    return [_part(label, name, size, parameters[name], macs[name]) for name in macs]


def other_parts(space: Space) -> list[Part]:
    """The neck of each codec, the U-Net and the encoder."""
    size, block = space.data.size, space.teacher.block
    tower = meta_tower(space.teacher.model)
    whole, partial = complete_encoder(space, tower), partial_encoder(space, tower)
    image = _meta(3, size, size)
    found = []
    for label, spec in codecs_of(space).items():
        with torch.device("meta"):
            neck = build_neck(space, spec, tower)
        y_hat = _meta(spec.M, size // 16, size // 16)
        (macs,) = count_macs(functools.partial(neck, y_hat))
        found.append(_part(label, "neck", size, _parameters([neck]), macs))
    with torch.device("meta"):
        unet = build_unet(space, space.codecs[0].at(space.codecs[0].lambdas[0]), tower)
    (macs,) = count_macs(lambda: unet(image))
    found.append(_part("", "unet", size, _parameters([unet]), macs))

    hidden = torch.empty_like(whole.hidden(image, block))
    if "feature_coding" in space.baselines:
        found += token_parts(space, tower, hidden)
    blocks = list(tower.blocks)
    stem = (tower.embeddings, tower.pre_norm or nn.Identity())
    (macs,) = count_macs(lambda: whole.hidden(image, block))
    skipped = _parameters([*stem, *blocks[:block]])
    found.append(_part("", "encoder_skipped", size, skipped, macs))
    (macs,) = count_macs(lambda: partial.hidden(hidden, space.surrogate.token_layer))
    run = _parameters(blocks[block : partial.token_index])
    found.append(_part("", "encoder_run", size, run, macs))
    pooled, tokens = space.surrogate.pooled > 0, space.surrogate.tokens > 0
    (macs,) = count_macs(lambda: whole(image, pooled, tokens))
    found.append(_part("", "teacher", size, _parameters([whole]), macs))
    return found


def token_parts(space: Space, tower: Tower, hidden: Tensor) -> list[Part]:
    """Both ends of feature_coding, on hidden state k."""
    # CompressAI's entropy bottleneck computes its first weights, so it is built with memory.
    codec, neck = (one.to("meta") for one in build_token_codec(space, tower))
    assert isinstance(codec, TokenCodec)
    net, size = codec.net, space.data.size
    (sent,) = count_macs(lambda: net.analysis(hidden))
    (read,) = count_macs(functools.partial(neck, _meta(net.linear.out_features, *net.grid)))
    analysis = [net.attention, net.linear]
    return [
        _part(TOKENS, "token_analysis", size, _parameters(analysis) + net.position.numel(), sent),
        _part(TOKENS, "token_neck", size, _parameters([neck]), read),
    ]


def complexity(space: Space) -> tuple[list[Part], list[Total]]:
    """All parts of a space's operating points, and what its scenarios cost.

    Raises:
        OSError: the teacher's configuration cannot be read.
        ValueError: the space's sizes do not fit together.
    """
    codecs = codecs_of(space).items()
    shared = [part for codec in codecs for part in codec_parts(*codec, space.data.size)]
    names = _without_common("post_processing")
    variants = {variant: space.of(variant) for variant in space.variants or ("",)}
    parts = {variant: [*shared, *other_parts(own)] for variant, own in variants.items()}
    worst = {
        label: min(_kmac(_of_codec(label, found), names) for found in parts.values())
        for label, _ in codecs
    }
    sums = {variant: totals(own, parts[variant], worst) for variant, own in variants.items()}
    return _told_apart(parts), _told_apart(sums)


def _told_apart(of: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The rows of all variants; one that is the same in all of them once, without a name."""
    found = []
    for place, (variant, rows) in enumerate(of.items()):
        for row in rows:
            if not all(row in other for other in of.values()):
                found.append(replace(row, variant=variant))
            elif place == 0:
                found.append(row)
    return found


def totals(space: Space, parts: Iterable[Part], worst: Mapping[str, float]) -> list[Total]:
    """What each scenario and baseline costs with each codec.

    Args:
        space: without variants, or of one.
        parts: its parts.
        worst: kMAC/pixel by codec that savings are measured against.
    """
    parts = list(parts)
    found = []
    for label, spec in codecs_of(space).items():
        own = _of_codec(label, parts)
        for scenario in (*space.scenarios, *space.baselines):
            if scenario == "uncompressed" or space.is_for(scenario, spec):
                found.append(_total(label, scenario, own, worst[label]))
    if "feature_coding" in space.baselines:
        own = _of_codec(TOKENS, parts)
        found.append(_total(TOKENS, "feature_coding", own, worst[label]))
    return found


def _of_codec(label: str, parts: Iterable[Part]) -> dict[str, Part]:
    """The parts of a codec's points by name, with those that depend on no codec."""
    return {part.part: part for part in parts if part.codec in (label, "")}


def _total(label: str, scenario: str, own: dict[str, Part], worst: float) -> Total:
    names = _without_common(scenario)
    return Total(
        codec=label,
        scenario=scenario,
        sender=_kmac(own, _SENDS.get(scenario, SENDER)),
        receiver=_kmac(own, RECEIVER[scenario]),
        own=_kmac(own, names),
        own_parameters=sum(own[name].parameters for name in names),
        saving=1 - _kmac(own, names) / worst,
    )


def _kmac(own: dict[str, Part], names: Iterable[str]) -> float:
    return sum(own[name].kmac_per_pixel for name in names)


def _without_common(scenario: str) -> tuple[str, ...]:
    return tuple(name for name in RECEIVER[scenario] if name not in COMMON)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.commands.complexity",
        description="Parameters and kMAC/pixel of everything that an operating point is made of.",
    )
    parser.add_argument(
        "space", nargs="?", help="named space or YAML file (default: the paper's sizes)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE")
    parser.add_argument("--codec", help="only the codec of this name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    options = parser.parse_args(argv)
    try:
        space = _space(options.space, options.set, options.codec)
        parts, sums = complexity(space)
    except (SpaceError, OSError, ValueError) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    print(_table(space, parts, sums))
    for label, rows in against_paper(space, parts).items():
        print(f"\n{label} {table(rows)}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(as_data(space, parts, sums), indent=1) + "\n", "utf-8")
    return 0


def against_paper(space: Space, parts: Sequence[Part]) -> dict[str, list[Comparison]]:
    """The paper's figures beside those of each codec that has the paper's sizes, by label."""
    what = ("teacher", "neck", "post_processing")
    found = {}
    for variant in space.variants or ("",):
        own_space = space.of(variant)
        sizes = (_sizes(getattr(own_space, n)) == _sizes(getattr(PAPER, n)) for n in what)
        if not all(sizes) or space.data.size != PAPER.data.size:
            continue
        told = [part for part in parts if part.variant in ("", variant)]
        for label, spec in codecs_of(space).items():
            if _sizes(spec) == _sizes(PAPER.codecs[0]):
                own = _of_codec(label, told)
                kmac = {name: part.kmac_per_pixel for name, part in own.items()}
                parameters = {name: part.parameters for name, part in own.items()}
                found[f"{label} {variant}".strip()] = compare(kmac, parameters)
    return found


def _sizes(spec: Spec) -> dict[str, Any]:
    """What of a spec decides on sizes."""
    return {name: value for name, value in spec.model_dump().items() if name in _SIZES}


def as_data(space: Space, parts: Sequence[Part], sums: Iterable[Total]) -> dict[str, Any]:
    """The numbers as JSON data: `parts`, `totals` and `paper` have a row per table row."""
    return {
        "space": space.name,
        "size": space.data.size,
        "teacher": space.teacher.model,
        "block": space.teacher.block,
        "parts": [asdict(part) for part in parts],
        "totals": [asdict(total) for total in sums],
        "paper": {
            label: [asdict(row) for row in rows]
            for label, rows in against_paper(space, parts).items()
        },
    }


def _space(name: str | None, overrides: Sequence[str], codec: str | None) -> Space:
    if name is None:
        if overrides:
            raise ValueError("--set changes a space: name one, e.g. demo")
        space = PAPER
    else:
        space = load_space(name, overrides)
    if codec is None:
        return space
    chosen = tuple(spec for spec in space.codecs if spec.label == codec)
    if not chosen:
        names = ", ".join(spec.label for spec in space.codecs)
        raise ValueError(f"--codec {codec}: {space.name} has {names}")
    return space.model_copy(update={"codecs": chosen})


def _table(space: Space, parts: Sequence[Part], sums: Sequence[Total]) -> str:
    side, block = space.data.size, space.teacher.block
    names = [_with_variant(p.part, p) for p in parts]
    names += [_with_variant(t.scenario, t) for t in sums]
    wide = max(15, *map(len, names)) + 2
    lines = [
        f"{space.name}: images of {side} x {side}, {space.teacher.model}, k = {block}",
        "",
        f"{'codec':<22}{'part':<{wide}}{'side':<10}{'parameters':>13}{'kMAC/pixel':>12}  meaning",
    ]
    lines += [
        f"{p.codec:<22}{_with_variant(p.part, p):<{wide}}{p.side:<10}{p.parameters:>13,}"
        f"{p.kmac_per_pixel:>12.3f}  {MEANING[p.part]}"
        for p in parts
    ]
    lines += [
        "",
        "kMAC/pixel in all; own: without what every receiver of compressed images runs, "
        f"{' and '.join(COMMON)}",
        f"{'codec':<22}{'scenario':<{wide}}{'sender':>10}{'receiver':>10}{'own':>10}"
        f"{'own parameters':>16}{'saved against post_processing':>31}",
    ]
    lines += [
        f"{t.codec:<22}{_with_variant(t.scenario, t):<{wide}}{t.sender:>10.2f}{t.receiver:>10.2f}"
        f"{t.own:>10.2f}{t.own_parameters:>16,}{t.saving:>30.1%}"
        for t in sums
    ]
    return "\n".join(lines)


def _with_variant(name: str, row: Part | Total) -> str:
    return f"{name} {row.variant}".strip()


def _part(codec: str, name: str, size: int, parameters: int, macs: int) -> Part:
    side = _SIDE.get(name, "receiver")
    return Part(codec, name, side, parameters, macs, macs / size**2 / 1000)


def _parameters(modules: Iterable[nn.Module]) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def _meta(*shape: int) -> Tensor:
    return torch.empty(1, *shape, device="meta")


if __name__ == "__main__":
    sys.exit(main())

"""Complexity: counts against closed forms and an independent count by hooks."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from compressai.layers import GDN
from torch import nn

from search_spaces import CodecSpec, Space, load_space
from search_spaces.specs.data import DataSpec
from tests.trainables import small
from trainables.codecs import build_codec
from trainables.commands.complexity import PAPER, against_paper, main
from trainables.commands.costs import complexity, encoder_parts, scenario_parts
from trainables.commands.paper_figures import REPLACED, SAVING, TOTAL
from trainables.encoders.load import load_tower, meta_tower
from trainables.points.counting import Counting, codec_parts, codecs_of, count_macs
from trainables.scenarios.post_processing import build_unet


def convolution_macs(run: Any, *modules: nn.Module) -> int:
    """By hooks on the layers of a real pass: what one output (or input) position takes, times."""
    total = 0

    def add(layer: Any, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        per_position = (layer.gamma if isinstance(layer, GDN) else layer.weight)[0].numel()
        places = arguments[0] if isinstance(layer, nn.ConvTranspose2d) else output
        total += places.numel() * per_position

    layers = [m for module in modules for m in module.modules()]
    handles = [
        layer.register_forward_hook(add)
        for layer in layers
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | GDN)
    ]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return total


def counting_of(space: Space) -> Counting:
    return Counting(space, meta_tower(space.teacher.model))


def test_convolutions_have_their_closed_form() -> None:
    x = torch.empty(2, 6, 16, 16, device="meta")
    with torch.device("meta"):
        down = nn.Conv2d(6, 10, 5, stride=2, padding=2, groups=2)
        up = nn.ConvTranspose2d(10, 4, 2, stride=2)
    counted = count_macs(lambda: up(down(x)), down, up)
    expected = [2 * 8 * 8 * 10 * (6 // 2) * 25, 2 * 8 * 8 * 10 * 4 * 4]
    assert counted == [sum(expected), *expected]


def test_at_the_paper_s_sizes_the_counts_are_closed_forms_and_agree_with_its_table() -> None:
    parts, totals = complexity(PAPER)
    part_of = {part.part: part for part in parts}
    L, T, M, D = 256, 257, 320, 1024
    block = 12 * D * D * T + 2 * T * T * D
    assert part_of["neck"].macs == L * M * D + block
    assert part_of["encoder_skipped"].macs == L * 3 * 14 * 14 * D + 2 * block
    # The MLLM reads the input of the last block.
    assert part_of["encoder_run"].macs == 21 * block
    # The pooled feature needs the class token alone of the last block, its patches as keys, values.
    last = 2 * T * D * D + 10 * D * D + 2 * T * D
    assert part_of["teacher"].macs == L * 3 * 14 * 14 * D + 23 * block + last + D * 768
    convolutions = 9 * (3 * 64 + 64 * 64) + 4 * 9 * (2 + 4) * 64 * 64 / 4
    convolutions += 4 * (2 * 64 * 64 + 9 * (2 * 64 * 64 + 64 * 64)) + 64 * 3
    assert part_of["unet"].macs == 256 * 256 * convolutions

    (rows,) = against_paper(PAPER, parts).values()
    paper = {row.name: row for row in rows}
    for name in ("neck", "unet", TOTAL):
        assert paper[name].here_million == pytest.approx(paper[name].paper_million, rel=0.02)
    # What the reasons say: the transposed convolutions three times more, and the encoder's patch
    # embedding with one block at the pixels of its own image.
    assert paper["neck"].here == part_of["neck"].kmac_per_pixel == pytest.approx(52.795, rel=0.003)
    transposed = 4 * 2 * 64 * 64 / 1000
    assert transposed == pytest.approx(32.8, abs=0.05)
    assert paper["unet"].paper == pytest.approx(paper["unet"].here + 3 * transposed, rel=0.003)
    one_block = (L * 3 * 14 * 14 * D + block) / 224**2 / 1000
    assert one_block == pytest.approx(paper["encoder_skipped"].paper, rel=0.001)
    assert sum(paper[name].paper for name in REPLACED) == pytest.approx(1017.96)
    assert paper["synthesis"].here / paper["synthesis"].paper == pytest.approx(2.3, abs=0.05)
    replaced = [part_of[name] for name in REPLACED]
    assert paper[TOTAL].here == pytest.approx(sum(part.kmac_per_pixel for part in replaced))
    differences = [paper[name].here - paper[name].paper for name in REPLACED]
    assert differences == pytest.approx([143.0, -100.6, 34.9], abs=0.05)
    assert paper[SAVING].paper == pytest.approx(0.948, abs=5e-4)
    assert paper[SAVING].here == pytest.approx(0.952, abs=5e-4)

    by_scenario = {total.scenario: total for total in totals}
    assert by_scenario["d1"].saving == pytest.approx(0.95, abs=0.005)
    for total in totals:
        common = part_of["encoder_run"].kmac_per_pixel
        if total.scenario != "uncompressed":
            common += part_of["entropy"].kmac_per_pixel
        assert total.receiver == pytest.approx(common + total.own)


@pytest.mark.parametrize("arch", ["elic2022-chandelier", "cheng2020-attn"])
def test_a_codec_s_parts_are_what_its_layers_do_in_a_real_pass(arch: str) -> None:
    if arch == "cheng2020-attn":
        spec = CodecSpec.model_validate({"arch": arch, "N": 12, "M": 12})
    else:
        sizes = {"N": 16, "M": 24, "groups": (4, 8, 12), "context_width": 0.1}
        spec = CodecSpec.model_validate({"arch": arch, **sizes})
    small_images = PAPER.model_copy(update={"data": DataSpec(size=64)})
    parts = {part.part: part for part in codec_parts(counting_of(small_images), arch, spec)}
    codec = build_codec(spec).eval()
    image = torch.rand(1, 3, 64, 64)
    net = codec.net
    hyper = net.h_a if hasattr(net, "h_a") else net.latent_codec.hyper.h_a
    y_hat = codec.latents(image)
    assert parts["analysis"].macs == convolution_macs(lambda: net.g_a(image), net.g_a)
    assert parts["synthesis"].macs == convolution_macs(lambda: net.g_s(y_hat), net.g_s)
    assert parts["hyper_analysis"].macs == convolution_macs(lambda: codec.latents(image), hyper)
    whole = convolution_macs(lambda: codec.latents(image), codec)
    if arch == "cheng2020-attn":
        # The masked context is not run as a layer but position by position.
        whole += 4 * 4 * 25 * 12 * 24
    encoding = ("analysis", "hyper_analysis", "entropy")
    assert sum(parts[name].macs for name in encoding) == whole
    assert sum(part.parameters for part in parts.values()) == sum(
        p.numel() for p in codec.parameters()
    )


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("google/siglip2-base-patch16-256", 12), ("openai/clip-vit-large-patch14-336", 24)],
)
def test_other_encoders_have_their_closed_forms(name: str, blocks: int) -> None:
    teacher = PAPER.teacher.model_copy(update={"model": name})
    counting = counting_of(PAPER.model_copy(update={"teacher": teacher}))
    parts = {p.part: p for p in (*scenario_parts(counting), *encoder_parts(counting))}
    siglip = "siglip" in name
    D, M, L, patch = (768, 320, 256, 16) if siglip else (1024, 320, 576, 14)
    T = L + (not siglip)
    block = 12 * D * D * T + 2 * T * T * D
    # Where the latents' 16 x 16 are resampled to 24 x 24, the neck works on these.
    assert parts["neck"].macs == L * M * D + block
    assert parts["encoder_skipped"].macs == L * 3 * patch**2 * D + 2 * block
    assert parts["encoder_run"].macs == (blocks - 3) * block
    if siglip:
        head = 2 * L * D * D + 10 * D * D + 2 * L * D
        assert parts["teacher"].macs == L * 3 * patch**2 * D + blocks * block + head


def test_a_codec_whose_widths_depend_on_the_quality_is_counted_at_each() -> None:
    spec = CodecSpec.model_validate({"arch": "mbt2018-mean", "qualities": [1, 4, 5]})
    codecs = codecs_of(PAPER.model_copy(update={"codecs": (spec,)}))
    assert {(label, at_rate.N, at_rate.M) for label, at_rate in codecs.items()} == {
        ("mbt2018-mean 128/192", 128, 192),
        ("mbt2018-mean 192/320", 192, 320),
    }


def test_the_command_prints_the_table_and_writes_its_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = small.make_space(small.save_teacher(tmp_path / "teacher"))
    file, out = tmp_path / "space.yaml", tmp_path / "made" / "complexity.json"
    file.write_text(space.model_dump_json())  # JSON is YAML
    assert main([str(file), "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    data = json.loads(out.read_text())
    assert {row["part"] for row in data["parts"]} >= {"neck", "unet", "encoder_run", "synthesis"}
    assert {row["scenario"] for row in data["totals"]} == {*space.scenarios, *space.baselines}
    for row in data["parts"]:
        assert f"{row['parameters']:,}" in printed
        assert row["kmac_per_pixel"] == pytest.approx(row["macs"] / space.data.size**2 / 1000)


def test_only_the_paper_s_sizes_are_compared_with_the_paper() -> None:
    spec = PAPER.codecs[0]
    narrow = spec.model_copy(update={"N": 128, "name": "narrow"})
    both = PAPER.model_copy(update={"codecs": (spec, narrow)})
    parts, _ = complexity(both)
    assert set(against_paper(both, parts)) == {"elic2022-chandelier"}
    # Longer training and other data of the same size change nothing.
    space = load_space("paper", ["d1.steps=5", "data.val=7"])
    named = [replace(part, codec=part.codec and "elic") for part in parts]
    assert set(against_paper(space, named)) == {"elic"}
    for setting in ("teacher.block=3", "data.size=320", "neck.layers=2"):
        assert against_paper(load_space("paper", [setting]), named) == {}


def test_the_command_says_where_the_paper_s_own_space_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["paper", "--json", str(tmp_path / "numbers.json")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    rows = json.loads((tmp_path / "numbers.json").read_text())["paper"]["elic"]
    assert len(rows) == 6
    for row in rows:
        assert row["reason"] in printed
        assert f"{row['paper']:.2f}" in printed or row["name"] == SAVING


def test_a_sweep_costs_what_its_space_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = ["--set", "post_processing.channels=12", "--set", "name=mine"]
    assert main(["smoke", *changed]) == 0
    of_space = capsys.readouterr().out
    space = load_space("smoke", changed[1::2]).model_dump(mode="json")
    manifest = {"space": space, "expected": [], "points": {}}
    (tmp_path / "sweep.json").write_text(json.dumps(manifest))
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == of_space
    assert main([str(tmp_path), *changed]) == 2
    assert "--set changes a space" in capsys.readouterr().err
    for damaged in ("{", "[]", "{}", "[" * 100_000):
        (tmp_path / "sweep.json").write_text(damaged)
        assert main([str(tmp_path)]) == 2
        assert "sweep.json is damaged" in capsys.readouterr().err
    assert main([str(tmp_path / "..")]) == 2
    assert "holds no sweep.json" in capsys.readouterr().err


def test_mistakes_are_told_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--codec", "elic"]) == 2
    assert "elic2022-chandelier" in capsys.readouterr().err
    assert main(["demoo"]) == 2
    assert "did you mean 'demo'" in capsys.readouterr().err
    assert main(["demo", "--set", "teacher.model=shipped:none"]) == 2
    assert "shipped:clip-scenes" in capsys.readouterr().err


def test_both_ends_of_feature_coding_have_their_closed_forms() -> None:
    space = PAPER.model_copy(update={"baselines": ("post_processing", "feature_coding")})
    parts, totals = complexity(space)
    part_of = {part.part: part for part in parts}
    L, T, C, D = 256, 257, 64, 1024
    block = 12 * D * D * T + 2 * T * T * D
    assert part_of["token_analysis"].macs == block + L * D * C
    assert part_of["token_neck"].macs == L * C * D + block
    weights = 12 * D * D + 13 * D  # two LayerNorms, biases of 3 D, D, 4 D and D
    assert part_of["token_analysis"].parameters == weights + L * D + D * C + C
    assert part_of["token_neck"].parameters == weights + C * D + D + D + T * D
    (total,) = [row for row in totals if row.scenario == "feature_coding"]
    assert (total.codec, total.own_parameters) == ("tokens", part_of["token_neck"].parameters)
    # The sender runs the blocks that the receiver of latents skips.
    sender = part_of["encoder_skipped"].kmac_per_pixel + part_of["token_analysis"].kmac_per_pixel
    assert total.sender == pytest.approx(sender)


def test_variants_that_cost_something_else_are_told_apart() -> None:
    space = load_space("demo-competitors")
    parts, totals = complexity(space)
    unet = {part.variant: part for part in parts if part.part == "unet"}
    assert set(unet) == {"unet-neck", "unet-paper"}
    tower = load_tower(space.teacher.model)
    codec = space.codecs[0].at(space.codecs[0].lambdas[0])
    for variant, part in unet.items():
        real = build_unet(space.of(variant), codec, tower)
        assert part.parameters == sum(p.numel() for p in real.parameters())
        image = torch.zeros(1, 3, space.data.size, space.data.size)
        assert part.macs == convolution_macs(partial(real, image), real)
    assert {part.variant for part in parts if part.part != "unet"} == {""}
    cleaned = {t.variant: t for t in totals if t.scenario == "post_processing" and t.codec == "vbr"}
    difference = cleaned["unet-paper"].own - cleaned["unet-neck"].own
    kmac = unet["unet-paper"].kmac_per_pixel - unet["unet-neck"].kmac_per_pixel
    assert difference == pytest.approx(kmac)
    assert cleaned["unet-neck"].saving == 0  # the cheapest is what others are measured against
    assert {t.variant for t in totals if t.scenario != "post_processing"} == {""}
    with_own_sizes = complexity(space.of("unet-paper"))[0]
    assert [p for p in with_own_sizes if p.part == "unet"] == [
        replace(unet["unet-paper"], variant="")
    ]

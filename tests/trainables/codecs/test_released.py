"""Weights files from elsewhere: told apart by their keys, loaded whole or not at all."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from search_spaces import CodecSpec, OperatingPoint, Space, operating_points
from search_spaces.codecs.hyperprior import HyperpriorCodec
from tests.trainables import small
from trainables.codecs import build_codec, load_codec, load_weights, start_codec
from trainables.codecs.released import read_weights
from trainables.commands.released import main
from trainables.encoders.partial_encoder import PartialEncoder
from trainables.encoders.tower import Tower
from trainables.networks.neck import TransformNeck
from trainables.points.contract import load_point
from trainables.points.inputs import Inputs
from trainables.points.models import BridgedPoint
from trainables.training.context import LocalContext
from trainables.training.train import train_codec, train_point

ELIC = CodecSpec.model_validate(
    {"arch": "elic2022-chandelier", "N": 8, "M": 12, "groups": (4, 4, 4), "context_width": 0.1}
)
TIC = CodecSpec.model_validate({"arch": "tic", "N": 16, "M": 16, "depths": (1, 2, 1, 1, 2)})


def net_state(spec: CodecSpec, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    codec = build_codec(spec)
    with torch.no_grad():
        for parameter in codec.main_parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    codec.net.update(force=True)  # files hold tables, too
    return {name: value.detach().clone() for name, value in codec.net.state_dict().items()}


def older(name: str, form: str) -> str:
    """The names of a bottleneck's parameters in older releases: `_matrix0`, or `_matrices.0`."""
    short = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}
    match = re.match(r"(.*entropy_bottleneck)\.(matrices|biases|factors)\.(\d)$", name)
    if not match:
        return name
    there = short[match[2]] if form == "_matrix0" else f"_{match[2]}."
    return f"{match[1]}.{there}{match[3]}"


def elic_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """CompressAI's names of ELIC to those of the re-implementation, written down apart."""
    found = {"gaussian_conditional.scale_table": torch.ones(64)}
    for name, value in state.items():
        if "gaussian_conditional" in name:
            continue  # tables of each group here, one for all there
        name = re.sub(r"^latent_codec\.hyper\.", "", name)
        if match := re.match(r"latent_codec\.y\.channel_context\.y(\d)\.(.*)", name):
            name = f"cc_transforms.{int(match[1]) - 1}.{match[2]}"
        elif match := re.match(r"latent_codec\.y\.latent_codec\.y(\d)\.(\w+)\.(.*)", name):
            there = {"entropy_parameters": "ParamAggregation"}.get(match[2], match[2])
            name = f"{there}.{match[1]}.{match[3]}"
        found[older(name, "_matrix0")] = value
    return found


def tic_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {"g_a1.residual_group.blocks.1.attn_mask": torch.zeros(4)}
    for name, value in state.items():
        name = re.sub(r"^([gh]_[as])\.(\d)\.", r"\1\2.", name)
        name = name.replace(".blocks.", ".residual_group.blocks.")
        name = re.sub(r"\.mlp\.0\.", ".mlp.fc1.", name)
        name = re.sub(r"\.mlp\.[23]\.", ".mlp.fc2.", name)
        found[older(name, "_matrix0")] = value
    return found


class Block(nn.Module):
    """CLIP's residual attention block under the names that the released files use."""

    def __init__(self, width: int, heads: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or 4 * width
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.ln_1(x)
        x = x + self.attn(seen, seen, seen, need_weights=False)[0]
        hidden = self.mlp.c_fc(self.ln_2(x))
        return x + self.mlp.c_proj(hidden * torch.sigmoid(1.702 * hidden))


class Adapter(nn.Module):
    """The neck as the released files name its parts."""

    def __init__(self, M: int, width: int, heads: int, patches: int) -> None:
        super().__init__()
        self.trans_latent_dim = nn.Linear(M, width)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(0.3 * torch.randn(patches + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList([Block(width, heads)])

    def forward(self, y_hat: Tensor) -> Tensor:
        tokens = self.trans_latent_dim(y_hat.permute(0, 2, 3, 1).flatten(1, 2))
        front = self.class_embedding.repeat(len(tokens), 1, 1)
        return self.transformer.resblocks[0](
            self.ln_pre(torch.cat((front, tokens), 1) + self.positional_embedding)
        )


def partial_encoder_by_hand(clip: CLIPModel, hidden: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Pooled feature and the input of the last block, with torch's own attention."""
    vision, config = clip.vision_model, clip.config.vision_config
    last = None
    for layer in list(vision.encoder.layers)[block:]:
        attention = layer.self_attn
        three = (attention.q_proj, attention.k_proj, attention.v_proj)
        own = Block(config.hidden_size, config.num_attention_heads, config.intermediate_size)
        own.load_state_dict(
            {
                "attn.in_proj_weight": torch.cat([p.weight for p in three]),
                "attn.in_proj_bias": torch.cat([p.bias for p in three]),
                **{f"attn.out_proj.{n}": v for n, v in attention.out_proj.state_dict().items()},
                **{f"ln_1.{n}": v for n, v in layer.layer_norm1.state_dict().items()},
                **{f"ln_2.{n}": v for n, v in layer.layer_norm2.state_dict().items()},
                **{f"mlp.c_fc.{n}": v for n, v in layer.mlp.fc1.state_dict().items()},
                **{f"mlp.c_proj.{n}": v for n, v in layer.mlp.fc2.state_dict().items()},
            }
        )
        last, hidden = hidden, own(hidden)
    assert last is not None
    post, weight = vision.post_layernorm, clip.visual_projection.weight
    normed = hidden[:, 0]
    for _ in range(2):  # as the authors' CLIP does, with which the released necks were trained
        normed = F.layer_norm(normed, post.normalized_shape, post.weight, post.bias, post.eps)
    return normed @ weight.T, last


def write_released(
    file: Path, spec: CodecSpec, adapter: Adapter, seed: int = 0
) -> dict[str, Tensor]:
    """A file as the paper's authors release them, of random weights; returns CompressAI's names."""
    state = net_state(spec, seed)
    there = elic_names(state) if spec.arch == "elic2022-chandelier" else state
    names = {f"module.base_coder.{name}": value for name, value in there.items()}
    torch.save({"state_dict": names, "adapter": adapter.state_dict(), "epoch": 3}, file)
    return state


@pytest.mark.parametrize(
    ("spec", "rename", "origin"),
    [
        (ELIC, elic_names, "ELIC re-implementation"),
        (ELIC, dict, "CompressAI"),
        (TIC, tic_names, "TIC's implementation"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_loads_whatever_it_calls_its_tensors(
    spec: CodecSpec, rename: Callable[[Any], Any], origin: str, prefix: str, tmp_path: Path
) -> None:
    state = net_state(spec)
    given = {prefix + name: value for name, value in rename(state).items()}
    if prefix:
        torch.save({"state_dict": given, "optimizer": {"lr": 1e-4}}, tmp_path / "w.pth.tar")
    else:
        save_file(given, tmp_path / "w.safetensors")
    codec = build_codec(spec)
    found = load_weights(codec, next(tmp_path.iterdir()))
    assert found.origin == origin
    assert rename is dict or any(name.endswith("._matrix0") for name in given)
    for name, parameter in codec.net.named_parameters():
        assert torch.equal(parameter, state[name]), name


def test_every_misfit_is_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    given = elic_names(net_state(ELIC))
    del given["ParamAggregation.1.0.bias"]
    given["cc_transforms.0.4.bias"] = torch.zeros(3)
    given["h_a.0.gain"] = torch.zeros(1)
    torch.save(given, tmp_path / "w.pth")
    codec = build_codec(ELIC)
    before = {name: value.clone() for name, value in codec.net.named_parameters()}
    with pytest.raises(ValueError, match=r"w\.pth.* elic") as error:
        start_codec(codec, str(tmp_path / "w.pth"))
    lines = str(error.value).splitlines()[1:]
    assert [line.strip() for line in lines] == [
        "latent_codec.y.latent_codec.y1.entropy_parameters.0.bias is missing",
        "latent_codec.hyper.h_a.0.gain is unknown",
        "latent_codec.y.channel_context.y1.4.bias is (3,), not (8,)",
    ]
    assert all(torch.equal(before[n], p) for n, p in codec.net.named_parameters())


def test_a_file_that_could_execute_something_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"g_a.weight": torch.ones(1)}, "args": Path("x")}, tmp_path / "w.pth")
    (tmp_path / "text.safetensors").write_text("no tensors")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, kind in (("w.pth", ""), ("text.safetensors", ""), ("list.pth", ".* list")):
        with pytest.raises(ValueError, match=name + kind):
            read_weights(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello world, this is text",
        b"<!DOCTYPE html>",
        b'{"a": 1}',
        b"1234",
        b"PK\x03\x04 and no more",
        b"\x80\x02}q\x00.",
        b"\x80\x02" + b"(" * 10_000,
        bytes(range(256)),
    ],
)
@pytest.mark.parametrize("ending", ["pth", "pth.tar", "safetensors"])
def test_any_other_file_is_refused_in_one_line(content: bytes, ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"w.{ending}"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="no weights file") as error:
        read_weights(file)
    (line,) = str(error.value).splitlines()
    assert str(file) in line


def test_a_refusal_gives_no_advice_to_run_a_file(tmp_path: Path) -> None:
    torch.save({"g_a.weight": torch.ones(1), "args": Path("x")}, tmp_path / "w.pth")
    (tmp_path / "t.pth").write_text("<html>")
    for name in ("w.pth", "t.pth"):
        with pytest.raises(ValueError, match="plain data") as error:
            read_weights(tmp_path / name)
        assert "weights_only" not in str(error.value)
        assert "\x1b" not in str(error.value)
        assert ("pathlib.PosixPath" in str(error.value)) == (name == "w.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({1: torch.ones(2)}, "keys that are no names: 1"),
        ({"state_dict": {(1, 2): torch.ones(2)}}, r"keys that are no names: \(1, 2\)"),
        ({"state_dict": {"a": torch.ones(2)}, "adapter": {3: torch.ones(2)}}, "no names: 3"),
        ({"a": torch.ones(2).to_sparse()}, "dense real tensors: a"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "dense real tensors: a"),
        ({"a": torch.ones(2, device="meta")}, "dense real tensors: a"),
    ],
)
def test_what_is_no_state_dict_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, tmp_path: Path) -> None:
    state = net_state(ELIC)
    name = next(iter(state))
    state[name].view(-1)[0] = value
    save_file(state, tmp_path / "w.safetensors")
    codec = build_codec(ELIC)
    before = {name: value.clone() for name, value in codec.net.named_parameters()}
    with pytest.raises(ValueError, match=rf"{name} is not finite"):
        load_weights(codec, tmp_path / "w.safetensors")
    assert all(torch.equal(before[n], p) for n, p in codec.net.named_parameters())


def test_a_device_is_no_weights_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/dev/zero"]) == 2
    assert "no regular file" in capsys.readouterr().err


def test_the_command_says_what_a_file_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_released(tmp_path / "d1_1.pth.tar", ELIC, Adapter(12, 32, 4, 4))
    assert main([str(tmp_path / "d1_1.pth.tar")]) == 0
    said = capsys.readouterr().out
    assert "the paper's released file (ELIC re-implementation)" in said
    assert "N = 8" in said
    assert "neck of" in said
    assert "from M = 12 to width 32" in said
    assert main([str(tmp_path / "missing.pth")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def released_space(tmp_path: Path) -> tuple[Space, dict[str, Tensor], dict[str, Adapter]]:
    """A space whose points are all taken from files; the codec of d2's and the adapters."""
    torch.manual_seed(5)
    clip = small.make_clip()
    vision = clip.config.vision_config
    sizes = (ELIC.M, vision.hidden_size, vision.num_attention_heads, small.PATCHES)
    adapters = {name: Adapter(*sizes).eval() for name in ("d1", "d2", "d3")}
    base = write_released(tmp_path / "d1.pth.tar", ELIC, adapters["d1"])
    updated = write_released(tmp_path / "d2.pth.tar", ELIC, adapters["d2"], 1)
    write_released(tmp_path / "d3.pth.tar", ELIC, adapters["d3"], 2)
    assert not torch.equal(base["g_a.0.weight"], updated["g_a.0.weight"])
    codec = {
        **ELIC.model_dump(),
        "lambdas": [0.01],
        "weights": [str(tmp_path / "d1.pth.tar")],
        "train": {"steps": 0},
        "released": {name: [str(tmp_path / f"{name}.pth.tar")] for name in adapters},
    }
    space = small.make_space(
        small.save_teacher(tmp_path / "teacher"), codecs=[codec], seeds=[0, 1], baselines=[]
    )
    return space, updated, adapters


def test_released_files_are_used_as_operating_points(tmp_path: Path) -> None:
    """Neck and partial encoder against torch's own attention blocks under the released names."""
    space, updated, adapters = released_space(tmp_path)
    points = operating_points(space)
    assert [(p.scenario, p.seed) for p in points] == [("d1", 0), ("d2", 0), ("d3", 0)]
    train_codec(space.codecs[0], 0.01, Inputs(tmp_path), tmp_path / "codec", LocalContext(tmp_path))
    info = json.loads((tmp_path / "codec" / "info.json").read_text())
    assert info["steps"] == 0
    assert info["weights"] == "the paper's released file (ELIC re-implementation)"
    base = load_codec(ELIC, tmp_path / "codec")
    clip = small.make_clip()
    x = torch.rand(1, 3, small.SIDE, small.SIDE)
    for point in points:
        out = tmp_path / point.scenario
        train_point(space, point, Inputs(tmp_path, tmp_path / "codec"), out, LocalContext(out))
        assert json.loads((out / "info.json").read_text())["weights"] == info["weights"]
        model = load_point(space, point, tmp_path / "codec", out)
        assert isinstance(model, BridgedPoint)
        y_hat = model.codec.decode(model.codec.encode(x))
        assert torch.equal(y_hat, base.decode(base.encode(x))) == (point.scenario == "d1")
        if point.scenario == "d2":
            assert torch.equal(model.codec.net.g_s[1].weight, updated["g_s.1.weight"])
        features = model.encoder(model.neck(y_hat), pooled=True, tokens=True)
        with torch.no_grad():
            tokens = adapters[point.scenario](y_hat)
            pooled, last = partial_encoder_by_hand(clip, tokens, space.teacher.block)
        torch.testing.assert_close(features.tokens, last, atol=1e-4, rtol=0)
        torch.testing.assert_close(features.pooled, pooled, atol=1e-4, rtol=0)


def test_a_released_point_of_another_size_is_refused(tmp_path: Path) -> None:
    space, _, _ = released_space(tmp_path)
    wide = Adapter(16, small.WIDTH, 2, small.PATCHES)
    write_released(tmp_path / "d1.pth.tar", ELIC, wide)
    point = OperatingPoint(space.codecs[0].at(0.01), 0.01, "d1", 0)
    with pytest.raises(ValueError, match=r"neck\.linear\.weight is \(16, 16\), not"):
        train_point(space, point, Inputs(tmp_path), tmp_path / "d1", LocalContext(tmp_path))


@pytest.mark.parametrize("scenario", ["d1", "d2"])
def test_every_misfit_of_a_released_neck_is_listed_and_nothing_is_kept(
    tmp_path: Path, scenario: str
) -> None:
    space, _, adapters = released_space(tmp_path)
    file = tmp_path / f"{scenario}.pth.tar"
    content = torch.load(file, weights_only=True)
    given = adapters[scenario].state_dict()
    del given["ln_pre.bias"]
    given["transformer.resblocks.0.ln_3.bias"] = torch.zeros(2)
    given["class_embedding"] = torch.zeros(5)
    torch.save({**content, "adapter": given}, file)
    point = OperatingPoint(space.codecs[0].at(0.01), 0.01, scenario, 0)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=rf"{scenario}\.pth\.tar") as error:
        train_point(space, point, Inputs(tmp_path), out, LocalContext(tmp_path))
    assert [line.strip() for line in str(error.value).splitlines()[1:]] == [
        "neck.norm.bias is missing",
        "neck.blocks.0.ln_3.bias is unknown",
        "neck.class_token is (5,), not (16,)",
    ]
    assert not out.exists()


@pytest.mark.slow
def test_a_released_file_at_full_size(tmp_path: Path) -> None:
    """ELIC 192/320, the neck and ViT-L/14 from block 2, random weights: below 1e-4 in fp32."""
    torch.manual_seed(0)
    spec = CodecSpec.model_validate({"arch": "elic2022-chandelier"})
    adapter = Adapter(320, 1024, 16, 256).eval()
    state = write_released(tmp_path / "d1_1.pth.tar", spec, adapter)
    codec = build_codec(spec)
    found = load_weights(codec, tmp_path / "d1_1.pth.tar")
    assert all(torch.equal(p, state[n]) for n, p in codec.net.named_parameters())
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
    vision |= {"num_hidden_layers": 6, "image_size": 224, "patch_size": 14}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=768)
    clip = CLIPModel(config).eval()
    neck = TransformNeck(320, Tower(clip).sizes)
    neck.load_state_dict(found.neck)
    y_hat = 4 * torch.randn(1, 320, 16, 16).round()
    with torch.no_grad():
        pooled, last = partial_encoder_by_hand(clip, adapter(y_hat), 2)
        features = PartialEncoder(Tower(clip), 2)(neck(y_hat))
    torch.testing.assert_close(features.pooled, pooled, atol=1e-4, rtol=0)
    torch.testing.assert_close(features.tokens, last, atol=1e-4, rtol=0)


def test_compressai_s_pretrained_models_load_from_its_own_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real download code, which looks first where torch.hub keeps what it has downloaded."""
    spec = HyperpriorCodec(arch="mbt2018-mean", qualities=(1, 5), weights="compressai:mse")
    low = spec.at(0.0018)
    assert (low.N, low.M, low.weights, low.train.steps) == (128, 192, "compressai:mse:1", 0)
    state = net_state(low)
    old = {older(name, "_matrices.0"): value for name, value in state.items()}
    assert sum(name.startswith("entropy_bottleneck._matrices.") for name in old) == 5
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(old, cache / "mbt2018-mean-1-e522738d.pth.tar")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    train_codec(spec, 0.0018, Inputs(tmp_path), tmp_path / "codec", LocalContext(tmp_path))
    info = json.loads((tmp_path / "codec" / "info.json").read_text())
    assert info["weights"] == "CompressAI's pretrained mbt2018-mean, compressai:mse:1"
    loaded = load_codec(low, tmp_path / "codec")
    for name, parameter in loaded.net.named_parameters():
        assert torch.equal(parameter, state[name]), name
    with pytest.raises(ValueError, match="mbt2018-mean"):
        start_codec(build_codec(low), "compressai:mse:9")

"""Codecs: one contract for all architectures, values against CompressAI's own methods."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, EntropyBottleneckVbr, GaussianConditional
from compressai.models import Elic2022Chandelier
from compressai.zoo import image as zoo
from compressai.zoo import image_vbr as vbr_zoo
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from search_spaces import CodecSpec
from search_spaces.codecs.elic import ElicCodec
from search_spaces.facts.compressai_zoo import LAMBDAS, WIDTHS, metrics
from tests.trainables.simulated_devices import Placed, simulated_devices, to_simulated
from trainables.codecs import (
    Codec,
    bits_estimated,
    build_codec,
    load_codec,
    load_weights,
    save_codec,
)
from trainables.codecs.entropy.bitstream import BitstreamError, overhead_bytes, pack, unpack
from trainables.codecs.entropy.tables import (
    bottleneck_tables,
    gaussian_tables,
    scale_rows,
    scale_table,
)
from trainables.datasets.rows import Batch
from trainables.scenarios.base_codec import CodecLearner

OWN = ("tic",)
"""Not CompressAI's."""
VBR = ("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr", "mbt2018-vbr")
COMPRESSAI = (
    "bmshj2018-factorized",
    "bmshj2018-factorized-relu",
    "bmshj2018-hyperprior",
    "mbt2018-mean",
    "mbt2018",
    "cheng2020-anchor",
    "cheng2020-attn",
    "elic2022-chandelier",
)
ARCHS = (*COMPRESSAI, *VBR, *OWN)


def small(arch: str) -> CodecSpec:
    if arch == "elic2022-chandelier":
        return CodecSpec.model_validate(
            {"arch": arch, "N": 16, "M": 24, "groups": (4, 8, 12), "context_width": 0.1}
        )
    if arch == "tic":
        return CodecSpec.model_validate({"arch": arch, "N": 16, "M": 16, "depths": (1, 2, 1, 1, 2)})
    if arch in VBR:
        return CodecSpec.model_validate({"arch": arch, "N": 12, "M": 12, "qualities": (3,)})
    return CodecSpec.model_validate({"arch": arch, "N": 12, "M": 12})


def lively(arch: str, seed: int = 0) -> Codec:
    """Fresh weights, but with outputs so large that many different symbols and scales occur."""
    torch.manual_seed(seed)
    codec = build_codec(small(arch))
    # Gain and offset of outputs; the offset keeps most scales away from their lower bound.
    wanted = {"g_a": (40, 0), "h_a": (40, 0), "h_s": (8, 1), "entropy_parameters": (20, 2)}
    for name, module in codec.net.named_modules():
        last = name.rpartition(".")[2]
        if last in wanted and list(module.parameters()):
            module.register_forward_hook(_affine(*wanted[last]))
    codec.eval()
    codec.update()
    return codec


def _affine(gain: float, offset: float) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    return lambda module, args, output: output * gain + offset


def images(n: int, size: tuple[int, int] = (64, 128), seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, size[0] // 4 + 1, size[1] // 4 + 1, generator=generator)
    return nn.functional.interpolate(coarse, size, mode="bilinear").clamp(0, 1)


def forbid_synthesis(codec: Codec) -> None:
    def fail(module: nn.Module, args: Any) -> None:
        raise AssertionError("g_s was executed")

    codec.net.g_s.register_forward_pre_hook(fail)


@pytest.mark.parametrize("arch", [*COMPRESSAI, *VBR])
def test_the_latents_are_those_of_compressai_s_own_bitstream(arch: str) -> None:
    """Tolerance 1e-4: the same symbols (steps are 1) around means of another order of sums."""
    codec, x = lively(arch), images(1)
    y_hat = codec.decode(codec.encode(x))
    assert y_hat.std() > 0.8, "the test's weights give too few different symbols"

    theirs: list[Tensor] = []
    codec.net.g_s.register_forward_pre_hook(lambda module, args: theirs.append(args[0].clone()))
    rate = {"s": codec.rate} if arch in VBR else {}
    gain = {"scale": codec.net.Gain[codec.rate]} if arch in VBR else {}
    with torch.no_grad():
        codec.net.update(force=True, **gain)
        out = codec.net.compress(x, **rate)
        codec.net.decompress(out["strings"], out["shape"], **rate)
    torch.testing.assert_close(y_hat, theirs[0], atol=1e-4, rtol=0)
    # And no more bytes than theirs: the same symbols, with one coder state instead of several.
    their_bytes = sum(len(strings[0]) for strings in out["strings"])
    stream = codec.encode(x)[0]
    assert len(stream) - overhead_bytes(stream) <= their_bytes


@pytest.mark.parametrize("arch", ARCHS)
def test_the_decoder_gets_the_encoder_s_latents_and_the_batch_does_not_matter(arch: str) -> None:
    codec, x = lively(arch), images(8)
    together = codec.encode(x)
    assert together == [codec.encode(image)[0] for image in x.split(1)]
    decoded = codec.decode(together)
    assert torch.equal(decoded, torch.cat([codec.decode([stream]) for stream in together]))
    # Image by image the arithmetic is the encoder's: equal to the bit.
    assert torch.equal(decoded, torch.cat([codec.latents(image) for image in x.split(1)]))
    # In a batch the sums may be ordered differently: ties may fall the other way.
    assert ((codec.latents(x) - decoded).abs() > 1e-3).float().mean() < 1e-3


def _noted(fetch: Callable[[Tensor], Any], shapes: list[torch.Size]) -> Callable[[Tensor], Any]:
    def noting(tensor: Tensor) -> Any:
        shapes.append(tensor.shape)
        return fetch(tensor)

    return noting


@pytest.mark.parametrize("arch", ARCHS)
def test_writing_fetches_symbols_from_a_gpu_once_however_many_positions_there_are(
    arch: str,
) -> None:
    """An autoregressive model would else wait for the GPU at each position. The bytes are the same.

    Symbols and rows of the hyper-latents and of the latents: four transfers at most.
    """
    codec, x = lively(arch), images(1)
    expected = codec.encode(x)
    with simulated_devices(), pytest.MonkeyPatch.context() as patch:
        to_simulated(codec, {"net": 0})
        fetched: list[torch.Size] = []
        for name in ("tolist", "cpu"):
            patch.setattr(Placed, name, _noted(getattr(Placed, name), fetched))
        assert codec.encode(x.to("cuda:0")) == expected
    assert len(fetched) <= 4, fetched


@pytest.mark.parametrize("arch", ARCHS)
def test_the_memory_format_of_an_image_does_not_matter(arch: str) -> None:
    codec, x = lively(arch), images(2)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    streams = codec.encode(channels_last)
    assert streams == codec.encode(x)
    assert codec.decode(streams).shape[0] == len(x)  # refused if the arithmetic differed


@pytest.mark.parametrize("arch", ARCHS)
def test_eval_forward_gives_the_decoder_s_latents_and_the_stream_s_size(arch: str) -> None:
    codec, x = lively(arch), images(2)
    with torch.no_grad():
        out = codec(x)
    streams = codec.encode(x)
    assert ((out.y_hat - codec.decode(streams)).abs() > 1e-3).float().mean() < 1e-3
    assert out.x_hat.shape == x.shape
    for stream, bits in zip(streams, bits_estimated(out.likelihoods), strict=True):
        payload = len(stream) - overhead_bytes(stream)
        # The coder's last state takes 8 bytes. With these weights some values lie so far out that
        # their likelihood is at its bound of 1e-9, 30 bits; written as escapes they take fewer.
        assert 0.75 * bits / 8 < payload < 1.02 * bits / 8 + 8


@pytest.mark.parametrize("arch", ARCHS)
def test_without_synthesis_g_s_is_never_run(arch: str) -> None:
    codec, x = lively(arch), images(1)
    forbid_synthesis(codec)
    codec.decode(codec.encode(x))
    codec.latents(x)
    assert codec(x, synthesis=False).x_hat is None
    codec.train()
    assert codec(x, synthesis=False).x_hat is None
    with pytest.raises(AssertionError, match="g_s"):
        codec(x)


@pytest.mark.parametrize("arch", ARCHS)
def test_training_gives_rounded_latents_and_gradients_to_every_parameter(arch: str) -> None:
    codec, x = lively(arch).train(), images(2)
    for module in codec.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0  # leaves blocks of TIC out by chance
    out = codec(x)
    assert out.y_hat.shape == (2, codec.M, 4, 8)
    assert out.x_hat.shape == x.shape
    loss = bits_estimated(out.likelihoods).sum() + (out.x_hat - x).square().sum()
    (loss + out.y_hat.square().sum()).backward()
    for name, parameter in codec.named_parameters():
        if not name.endswith("quantiles"):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    codec.aux_loss().backward()
    assert all(p.grad is not None for p in codec.aux_parameters())
    assert len(codec.aux_parameters()) == 1
    assert len(codec.main_parameters()) == len(list(codec.parameters())) - 1


def test_the_training_pass_rounds_around_the_means() -> None:
    """y_hat of the mean-scale hyperprior in training mode is y_hat in eval mode: no noise in it."""
    codec, x = lively("mbt2018-mean"), images(2)
    with torch.no_grad():
        expected = codec(x).y_hat
        torch.testing.assert_close(codec.train()(x).y_hat, expected, atol=1e-4, rtol=0)


def test_a_variable_rate_stream_says_its_rate_and_the_decoder_obeys() -> None:
    codec, x = lively("mbt2018-mean-vbr"), images(1)
    streams, latents = [], []
    for rate in (7, 0, 4):
        codec.rate = rate
        streams += codec.encode(x)
        latents.append(codec.latents(x))
        assert unpack(streams[-1]).rate == rate
        assert overhead_bytes(streams[-1]) == 7
    assert len(streams[0]) > len(streams[2]) > len(streams[1])
    assert torch.equal(codec.decode(streams), torch.cat(latents))
    fixed = unpack(streams[0])
    for other, message in ((None, "carries no rate"), (8, "0 to 7")):
        with pytest.raises(BitstreamError, match=message):
            codec.decode([pack(dataclasses.replace(fixed, rate=other))])


@pytest.mark.parametrize("arch", ["bmshj2018-factorized", "mbt2018-mean", "tic"])
def test_any_image_size_is_padded_and_cut_again(arch: str) -> None:
    codec, x = lively(arch), images(2, (37, 70))
    streams = codec.encode(x)
    y_hat = codec.decode(streams)
    assert torch.equal(y_hat[:1], codec.latents(x[:1]))
    assert codec.synthesis(y_hat, (37, 70)).shape == x.shape
    assert codec(x).x_hat.shape == x.shape
    image = codec.synthesis(y_hat)
    assert image.min() >= 0
    assert image.max() <= 1


@pytest.mark.parametrize("arch", ARCHS)
def test_a_damaged_stream_is_refused_whatever_its_checksum_says(arch: str) -> None:
    """Cut, lengthened and flipped payloads under a header and a checksum that are right.

    A bit of an escaped value is written as it is: with another one, and another checksum, it is a
    stream of another image, one symbol of which differs. Every other flip breaks the coder's state.
    """
    codec = lively(arch)
    container = unpack(codec.encode(images(1))[0])
    payload, generator = container.payload, torch.Generator().manual_seed(0)
    stream = pack(container)
    whole = codec.decode([stream])
    for other in (payload[:-4], payload[: len(payload) // 8 * 4], payload + bytes(4), bytes(8)):
        with pytest.raises(BitstreamError):
            codec.decode([pack(dataclasses.replace(container, payload=other))])
    refused, flips = 0, torch.randint(8 * len(payload), (16,), generator=generator).tolist()
    for place in flips:
        flipped = bytearray(payload)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(BitstreamError, match="checksum"):
            codec.decode([stream[: -len(payload) - 2] + bytes(flipped) + stream[-2:]])
        try:
            found = codec.decode([pack(dataclasses.replace(container, payload=bytes(flipped)))])
        except BitstreamError:
            refused += 1
        else:
            assert ((found - whole).abs() > 0.5).sum() == 1
    assert refused >= 14


def test_a_forged_size_is_refused_before_room_is_made_for_it() -> None:
    codec = lively("bmshj2018-factorized")
    container = unpack(codec.encode(images(1))[0])
    forged = pack(dataclasses.replace(container, height=65536, width=65536))
    with pytest.raises(BitstreamError, match="65536 x 65536 pixels"):
        codec.decode([forged])
    with pytest.raises(BitstreamError, match="64 x 128 pixels"):
        codec.decode([pack(container)], max_pixels=64 * 128 - 1)
    assert codec.decode([pack(container)], max_pixels=64 * 128).shape[-2:] == (4, 8)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, ValueError])
def test_a_failure_that_is_not_the_stream_s_is_not_called_its_damage(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = lively("mbt2018-mean")
    streams = codec.encode(images(1))

    def fail(z_hat: Tensor) -> Tensor:
        raise error("no memory")

    monkeypatch.setattr(codec.net.h_s, "forward", fail)
    with pytest.raises(error, match="no memory") as raised:
        codec.decode(streams)
    assert not isinstance(raised.value, BitstreamError)


@pytest.mark.parametrize("arch", ["mbt2018-mean", "elic2022-chandelier", "tic", "mbt2018-vbr"])
def test_under_autocast_what_makes_the_rate_stays_in_fp32(arch: str) -> None:
    codec, x = lively(arch).train(), images(2)
    seen: dict[str, torch.dtype] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            seen[name] = output.dtype

        return hook

    for name, module in codec.net.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note(name))
    with torch.autocast("cpu", torch.bfloat16):
        out = codec(x)
    assert {p.dtype for p in out.likelihoods.values()} == {torch.float32}
    assert out.y_hat.dtype == out.x_hat.dtype == torch.float32
    transforms = {dtype for name, dtype in seen.items() if name.startswith(("g_a", "g_s"))}
    rate = {dtype for name, dtype in seen.items() if not name.startswith(("g_a", "g_s"))}
    assert transforms == {torch.bfloat16}
    assert rate == {torch.float32}


@pytest.mark.parametrize("arch", ["mbt2018-mean", "tic"])
def test_under_autocast_a_frozen_codec_gives_what_a_decoder_gives(arch: str) -> None:
    codec, x = lively(arch), images(2)
    y_hat = codec.decode(codec.encode(x))
    x_hat = codec.synthesis(y_hat)
    with torch.autocast("cpu", torch.bfloat16):
        latents, decoded = codec.latents(x), codec.synthesis(y_hat)
    # The walk over a batch rounds otherwise than over each stream, by far less than bfloat16 does.
    torch.testing.assert_close(latents, y_hat, atol=1e-3, rtol=0)
    assert torch.equal(decoded, x_hat)


def test_streams_of_different_sizes_are_not_decoded_together() -> None:
    codec = lively("mbt2018-mean")
    streams = codec.encode(images(1, (64, 64))) + codec.encode(images(1, (64, 128)))
    with pytest.raises(ValueError, match="one size"):
        codec.decode(streams)


def test_streams_of_other_weights_are_refused_even_with_the_same_id() -> None:
    one, other = lively("mbt2018-mean", 0), lively("mbt2018-mean", 1)
    streams = one.encode(images(1))
    with pytest.raises(BitstreamError, match=rf"id {one._id}\D.* {other._id}"):
        other.decode(streams)
    other._id = one._id
    with pytest.raises(BitstreamError):
        other.decode(streams)


@pytest.mark.parametrize("arch", ARCHS)
def test_on_photographs_the_bytes_give_the_encoder_s_latents(arch: str, kodak: list[Path]) -> None:
    """Whole Kodak images, landscape and portrait; see `conftest.py` for where they are."""
    codec = lively(arch)
    for file in (kodak[0], kodak[3]):
        with Image.open(file) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB")))
        x = pixels.permute(2, 0, 1)[None].float() / 255
        streams = codec.encode(x)
        assert torch.equal(codec.decode(streams), codec.latents(x))
        container = unpack(streams[0])
        assert (container.height, container.width) == x.shape[-2:]
        assert overhead_bytes(streams[0]) <= 9


def test_one_base_codec_of_a_variable_rate_model_learns_all_rates(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = small("mbt2018-mean-vbr")
    learner = CodecLearner(build_codec(spec), dict(enumerate(spec.rate_table)), lr=1e-4)
    assert learner.codec.rate == 2
    before = learner.codec.net.Gain.detach().clone()
    image = Batch(ids=["a", "b"], image=images(2))
    optimiser = torch.optim.SGD(learner.codec.main_parameters(), lr=1e-4)
    rates = set()
    for step in range(40):
        optimiser.zero_grad()
        terms = learner(image, step)
        weight = LAMBDAS["mse"][learner.codec.rate] * 255**2
        expected = terms["bpp_estimated"] + weight * terms["mse"]
        torch.testing.assert_close(terms["loss"], expected)
        terms["loss"].backward()
        optimiser.step()
        rates.add(learner.codec.rate)
    assert rates == set(range(8))
    assert (learner.codec.net.Gain.detach() != before).all()
    learner.eval()
    with torch.no_grad():
        found, losses = learner.validate(image), []
        for rate in range(8):
            learner.codec.rate = rate
            losses.append(learner._terms(image.image)["loss"])
    torch.testing.assert_close(found["loss"], torch.stack(losses).mean())


def test_coding_needs_tables_and_eval_mode() -> None:
    codec = build_codec(small("mbt2018-mean"))
    with pytest.raises(RuntimeError, match="eval"):
        codec.encode(images(1))
    codec.eval()
    with pytest.raises(RuntimeError, match="update"):
        codec.encode(images(1))
    codec.update()
    codec.encode(images(1))
    codec.train().eval()
    with pytest.raises(RuntimeError, match="update"):
        codec.encode(images(1))


def test_elic_at_full_width_has_exactly_compressai_s_parameters() -> None:
    with torch.device("meta"):
        ours = build_codec(ElicCodec(arch="elic2022-chandelier")).net.state_dict()
        theirs = Elic2022Chandelier(192, 320).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_elic_s_context_networks_shrink_with_context_width() -> None:
    def context_parameters(width: float) -> int:
        spec = small("elic2022-chandelier").model_copy(update={"context_width": width})
        return sum(p.numel() for p in build_codec(spec).net.latent_codec.y.parameters())

    assert context_parameters(0.1) < 0.1 * context_parameters(1.0)


def test_scales_get_compressai_s_table_rows() -> None:
    prior = GaussianConditional(None)
    prior.update_scale_table(scale_table().tolist())
    scales = torch.cat((torch.linspace(-1, 300, 5000), scale_table(), torch.tensor([0.0, 1e9])))
    assert torch.equal(scale_rows(scales), prior.build_indexes(scales).long())
    assert gaussian_tables().lengths == tuple(prior.cdf_length.tolist())


@pytest.mark.parametrize("arch", ["mbt2018-mean", "elic2022-chandelier", *VBR, *OWN])
def test_a_saved_codec_is_loaded_frozen_and_gives_the_same_bytes(arch: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec, x = build_codec(small(arch)), images(1)
    save_codec(codec, tmp_path)
    loaded = load_codec(small(arch), tmp_path)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    codec.eval().update()
    assert loaded.encode(x) == codec.encode(x)
    # The state's shapes are the same with and without tables, so checkpoints load strictly.
    build_codec(small(arch)).load_state_dict(loaded.state_dict())


def test_weights_in_half_precision_leave_the_constants_alone(tmp_path: Path) -> None:
    """1e-9, the bound of likelihoods, is 0 in half precision: training then ends in NaN."""
    codec = build_codec(small("mbt2018-mean"))
    state = {k: v.half() for k, v in codec.net.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    loaded = load_codec(small("mbt2018-mean"), tmp_path)
    assert loaded.net.gaussian_conditional.likelihood_lower_bound.bound.item() == pytest.approx(
        1e-9
    )
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    for name, value in codec.net.named_parameters():
        assert torch.equal(loaded.net.get_parameter(name), value.half().float()), name


def test_weights_of_another_codec_are_refused_by_name(tmp_path: Path) -> None:
    save_codec(build_codec(small("mbt2018-mean")), tmp_path)
    with pytest.raises(ValueError, match=r"context_prediction\S+ is missing"):
        load_codec(small("mbt2018"), tmp_path)
    wide = small("mbt2018-mean").model_copy(update={"N": 16})
    with pytest.raises(ValueError, match="not \\(16"):
        load_weights(build_codec(wide), tmp_path / "model.safetensors")


def test_bits_are_summed_per_image_over_all_parts() -> None:
    likelihoods = {"y": torch.tensor([[[0.5, 0.25]], [[1.0, 1.0]]]), "z": torch.full((2, 3), 0.5)}
    assert bits_estimated(likelihoods).tolist() == [6.0, 3.0]


def test_qualities_are_compressai_s() -> None:
    for arch, widths in WIDTHS.items():
        if arch in VBR:
            assert set(widths) == {vbr_zoo.cfgs[arch]}
            assert build_codec(small(arch)).net.lmbda == list(LAMBDAS["mse"])
            there = set(vbr_zoo.model_urls[arch])
        else:
            theirs = [zoo.cfgs[arch][quality + 1] for quality in range(len(widths))]
            assert [(N, *rest) for N, *rest in theirs] == [
                pair[: len(given)] for pair, given in zip(widths, theirs, strict=True)
            ]
            there = set(zoo.model_urls.get(arch, ()))
        assert set(metrics(arch)) == there


def test_the_tables_of_a_variable_rate_bottleneck_reach_to_its_true_tails() -> None:
    """Of the same density and step 1: the tables of a plain bottleneck."""
    torch.manual_seed(0)
    plain, variable = EntropyBottleneck(5, init_scale=30), EntropyBottleneckVbr(5, init_scale=30)
    with torch.no_grad():
        theirs = dict(variable.named_parameters())
        for name, parameter in plain.named_parameters():
            kind, _, place = name.partition(".")
            short = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}.get(kind, kind)
            parameter.add_(0.1 * torch.randn_like(parameter) if place else 0)
            theirs[short + place].copy_(parameter)
        variable.quantiles[:, :, 0], variable.quantiles[:, :, 2] = -1, 1  # as if never trained
    expected = bottleneck_tables(plain)
    assert bottleneck_tables(variable, torch.tensor(1.0)) == expected
    coarse = bottleneck_tables(variable, torch.tensor(4.0))
    assert all(a < b for a, b in zip(coarse.lengths, expected.lengths, strict=True))

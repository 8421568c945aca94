"""How exact: the largest differences behind the tests of exactness, as numbers.

python -m tests.benchmarks.exactness [--full] [--images kodak/ -n 2]

released     a file of the released form, random weights: neck + partial encoder against torch's
             own MultiheadAttention blocks; --full: ELIC 192/320 and ViT-L/14 from block 2
entering     hidden state k of transformers into the partial encoder against the pixel path;
             --full: ViT-L/14 and SigLIP base
surrogate    the loss at epochs 0, 19, 20, 39, 40, 59 of 60 against NumPy, relative
codecs       encode -> bytes -> decode against the encoder's y_hat, on noise or, with --images, on
             the first n images of a folder, whole; and bpp against the bytes
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel, SiglipVisionConfig, SiglipVisionModel

from search_spaces import CodecSpec, load_space
from search_spaces.scenarios.d1 import NeckTraining
from tests.trainables import small
from tests.trainables.codecs import test_codecs, test_released
from trainables.codecs import build_codec, load_weights
from trainables.codecs.entropy.bitstream import overhead_bytes, unpack
from trainables.commands.rd_eval import read_folder
from trainables.encoders.partial_encoder import Features, PartialEncoder, Teacher
from trainables.encoders.tower import Tower
from trainables.networks.neck import TransformNeck
from trainables.networks.surrogate_loss import cross_entropy, distillation, phase_at

LARGE = {
    **{"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
    **{"num_hidden_layers": 24, "image_size": 224, "patch_size": 14},
}


def large_clip() -> CLIPModel:
    """CLIP ViT-L/14 with random weights and hardly a text tower."""
    torch.manual_seed(0)
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = CLIPConfig(vision_config=LARGE, text_config=text, projection_dim=768)
    return CLIPModel(config).eval()


@torch.no_grad()
def released(full: bool) -> None:
    """Largest absolute differences in fp32."""
    clip = large_clip() if full else small.make_clip()
    vision = clip.config.vision_config
    spec = CodecSpec.model_validate({"arch": "elic2022-chandelier"}) if full else test_released.ELIC
    rows, columns = Tower(clip).sizes.grid
    sizes = (spec.M, vision.hidden_size, vision.num_attention_heads, rows * columns)
    adapter = test_released.Adapter(*sizes).eval()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "d1_1.pth.tar"
        test_released.write_released(file, spec, adapter)
        weights = load_weights(build_codec(spec), file)
    neck = TransformNeck(spec.M, Tower(clip).sizes, mlp_ratio=4.0)
    neck.load_state_dict(dict(weights.neck))
    y_hat = 4 * torch.randn(1, spec.M, rows, columns).round()
    pooled, last = test_released.partial_encoder_by_hand(clip, adapter(y_hat), 2)
    ours = PartialEncoder(Tower(clip), 2)(neck(y_hat))
    assert ours.pooled is not None
    assert ours.tokens is not None
    for name, a, b in (("pooled", ours.pooled, pooled), ("tokens", ours.tokens, last)):
        print(f"released    {name:<28}{(a - b).abs().max():.1e} of {b.abs().max():.1f}")


@torch.no_grad()
def entering(full: bool) -> None:
    """Largest absolute differences in fp32, pooled feature and last tokens."""
    models = [small.make_clip(), small.make_siglip()]
    if full:
        models = [large_clip(), SiglipVisionModel(SiglipVisionConfig(patch_size=16)).eval()]
    for model in models:
        tower = Tower(model)
        vision = getattr(model, "vision_model", model)
        image = torch.rand(1, 3, 256, 256)
        pixels = tower.preprocess(image)
        states = vision(pixel_values=pixels, output_hidden_states=True).hidden_states
        whole = Teacher(tower, token_layer=-1)(image)
        for block in (0, 2, tower.sizes.blocks - 1, tower.sizes.blocks):
            ours = PartialEncoder(tower, block, token_layer=-1)(states[block])
            worst = max(
                (a - b).abs().max().item()
                for a, b in ((ours.pooled, whole.pooled), (ours.tokens, whole.tokens))
            )
            print(f"entering    {type(model).__name__:<20}k = {block:<4}{worst:.1e}")


def surrogate() -> None:
    """Largest relative difference of the loss of the paper's space."""
    space, rng = load_space("paper"), np.random.default_rng(0)
    training = space.settings_of("d1")
    assert isinstance(training, NeckTraining)
    steps = training.steps
    student, teacher = (rng.normal(size=(32, 768)).astype("f4") for _ in range(2))
    text = rng.normal(size=(768, 1000)).astype("f4")
    text /= np.linalg.norm(text, axis=0)
    labels = rng.integers(0, 1000, 32)
    target = torch.nn.functional.one_hot(torch.from_numpy(labels), 1000).float()
    a, b = torch.from_numpy(student), torch.from_numpy(teacher)
    ce = cross_entropy(a, torch.from_numpy(text), target).item()
    distill = distillation(space.surrogate, Features(a, None), Features(b, None))[0].item()
    logits = student.astype("f8") @ text.astype("f8")
    log_sum = np.log(np.exp(logits).sum(1))
    closed_ce = np.mean(log_sum - logits[np.arange(32), labels])
    closed_distill = np.mean((student.astype("f8") - teacher) ** 2)
    given = {0: (100, 0), 19: (100, 0), 20: (1, 100), 39: (1, 100), 40: (0, 100), 59: (0, 100)}
    for epoch, (alpha, beta) in given.items():
        phase = phase_at(space.surrogate, -(-epoch * steps // 60), steps)
        ours = phase.ce * ce + phase.distill * distill
        closed = alpha * closed_ce + beta * closed_distill
        label = f"epoch {epoch:<3} {phase.ce:g} CE + {phase.distill:g} L_dist"
        print(f"surrogate   {label:<33}{abs(ours / closed - 1):.1e} of {closed:.4f}")


def codecs(folder: Path | None, n: int) -> None:
    """Largest absolute difference of latents, and the bytes written."""

    def images() -> Iterator[torch.Tensor]:
        if folder is None:
            yield from test_codecs.images(n).split(1)
        else:
            yield from list(read_folder(folder)[0].values())[:n]

    for arch in test_codecs.ARCHS:
        codec = test_codecs.lively(arch)
        worst, container, written = 0.0, 0, 0
        for x in images():
            (stream,) = codec.encode(x)
            worst = max(worst, (codec.decode([stream]) - codec.latents(x)).abs().max().item())
            container = max(container, overhead_bytes(stream))
            seen = unpack(stream)
            assert (seen.height, seen.width) == x.shape[-2:]
            written += len(stream)
        print(
            f"codecs      {arch:<33}{worst:.1e}; {n} images, {written} bytes, "
            f"{container} of container at most",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="models of the paper's size")
    parser.add_argument("--images", type=Path, help="a folder; without it, noise of 64 x 128")
    parser.add_argument("-n", type=int, default=2, help="images per codec")
    options = parser.parse_args()
    torch.set_num_threads(1)
    released(options.full)
    entering(options.full)
    surrogate()
    codecs(options.images, options.n)


if __name__ == "__main__":
    main()

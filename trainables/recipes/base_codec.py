"""Train what the demo's base codecs start from, on scenes made on the fly.

    scene --render--> codec --> bpp + lambda * 255^2 * MSE

A base codec per lambda is then a short fine-tuning of it, as part of the sweep. Lambda is a middle
to high one here: bits are given up in fewer steps than details are learned. The variable-rate codec
is trained at all its rates, one drawn per step, and is used as it is.

Run `python -m trainables.recipes.base_codec NAME --work DIR`; it continues from DIR/NAME.pt when
that exists, and writes DIR/NAME: the weights in 8 bits and what they reach in `accuracy.json`.
Times on one core of two: about 10 minutes each, of the variable-rate codec 60.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from search_spaces import CodecSpec
from search_spaces.codecs.elic import ElicCodec
from search_spaces.codecs.hyperprior import HyperpriorCodec
from search_spaces.codecs.variable_rate import VariableRateCodec
from trainables.codecs import (
    RECORD_FILE,
    WEIGHTS_FILE,
    Codec,
    build_codec,
    load_codec,
)
from trainables.codecs.eight_bits import to_eight_bits
from trainables.datasets.images.files import write_json
from trainables.datasets.made import WORLDS
from trainables.datasets.rows import Batch
from trainables.datasets.tensors import psnr_of
from trainables.datasets.worlds.world import Split, scene_rng
from trainables.recipes.common import begin, recipe_parser
from trainables.recipes.steps import Schedule, StepLoss, run_steps
from trainables.scenarios.base_codec import CodecLearner
from trainables.training.history import BASE_CODEC

log = logging.getLogger("base_codec")
SIZE = 128
VALIDATION_SCENES = 128
SAVE_EVERY = 50
"""Steps between two checkpoints."""
VBR_LAMBDAS = (0.00002, 0.00006, 0.00018, 0.0005, 0.0015, 0.0045)
"""The demo's four, and two above them which keep details learnable."""


@dataclass(frozen=True)
class Recipe:
    """A shipped codec: what it is and how it is trained; `lambdas` of each of its rates."""

    spec: CodecSpec
    lambdas: tuple[float, ...]
    steps: int
    batch: int
    lr: float = 1e-3


RECIPES = {
    "mbt2018-mean-scenes": Recipe(
        HyperpriorCodec(arch="mbt2018-mean", N=32, M=64), lambdas=(0.006,), steps=1000, batch=16
    ),
    "elic-scenes": Recipe(
        ElicCodec(
            arch="elic2022-chandelier",
            N=24,
            M=48,
            groups=(4, 4, 8, 16, 16),
            context_width=0.2,
        ),
        lambdas=(0.006,),
        steps=900,
        batch=8,
    ),
    "mbt2018-mean-vbr-scenes": Recipe(
        VariableRateCodec(arch="mbt2018-mean-vbr", N=32, M=64, rate_lambdas=VBR_LAMBDAS),
        lambdas=VBR_LAMBDAS,
        steps=8000,
        batch=16,
    ),
}


def draw(world: str, split: Split, start: int, n: int) -> Tensor:
    """Scenes number start .. start + n - 1 of a world's split, (n, 3, SIZE, SIZE) in [0, 1]."""
    made = WORLDS[world]
    scenes = [made.sample(scene_rng(0, split, i), split) for i in range(start, start + n)]
    return made.render(scenes, SIZE)[0]


@torch.no_grad()
def measure(codec: Codec, lmbda: float, world: str) -> dict[str, float]:
    """On validation scenes: `bpp` of written streams, `bpp_estimated`, `psnr` in dB, `loss`."""
    images = draw(world, "val", 0, VALIDATION_SCENES)
    real = estimated = psnr = mse = 0.0
    for batch in torch.split(images, 16):
        streams, bits = codec.encode_and_estimate(batch)
        decoded = codec.synthesis(codec.decode(streams))
        real += 8.0 * sum(map(len, streams))
        estimated += bits.sum().item()
        psnr += psnr_of(decoded, batch).sum().item()
        mse += (decoded - batch).square().mean().item() * len(batch)
    pixels, n = len(images) * SIZE**2, len(images)
    return {
        "bpp": real / pixels,
        "bpp_estimated": estimated / pixels,
        "psnr": psnr / n,
        "loss": estimated / pixels + lmbda * 255**2 * mse / n,
    }


def train(recipe: Recipe, checkpoint: Path, seed: int = 0) -> Codec:
    """Train to the end, continuing from the checkpoint when it exists."""
    torch.manual_seed(seed)
    codec = build_codec(recipe.spec)
    learner = CodecLearner(codec, dict(enumerate(recipe.lambdas)), recipe.lr)
    main, quantiles = learner.groups()
    groups: list[dict[str, Any]] = [
        {"params": main.parameters},
        {"params": quantiles.parameters, "lr": quantiles.lr, "constant": True},
    ]

    def step_loss(step: int) -> StepLoss:
        torch.manual_seed(seed * 1_000_003 + step)
        images = draw("scenes", "train", step * recipe.batch, recipe.batch)
        terms = learner(Batch((), image=images), step)
        return terms["loss"] + terms["aux"], {name: term.item() for name, term in terms.items()}

    run_steps(
        {"codec": codec},
        main.parameters,
        [torch.optim.Adam(groups, lr=recipe.lr)],
        Schedule(recipe.steps, recipe.lr, warmup=50, save_every=SAVE_EVERY),
        checkpoint,
        step_loss,
    )
    return codec


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one shipped codec; see the module."""
    parser = recipe_parser(__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    options = begin(parser, arguments)
    recipe = RECIPES[options.name]
    codec = train(recipe, options.work / f"{options.name}.pt")
    training = {
        "of": BASE_CODEC,
        "steps": recipe.steps,
        "images": recipe.steps * recipe.batch,
        "seconds": None,
        "until": "steps",
        "fall_of_last_quarter": None,
    }
    finish(codec, recipe.lambdas, [training], "scenes", options.work / options.name)


def finish(
    codec: Codec,
    lambdas: Sequence[float],
    trainings: Sequence[Mapping[str, Any]],
    world: str,
    out: Path,
) -> None:
    """Write a codec as it ships: weights in 8 bits, what they are and what they reach.

    Args:
        lambdas: of each of its rates.
        trainings: how it was trained, the earliest first; entries as in a stage's info.json.
        world: the made world that it was trained on.
        out: a directory of the codec's name.
    """
    out.mkdir(parents=True, exist_ok=True)
    parameters = {name: value.detach() for name, value in codec.net.named_parameters()}
    save_file(to_eight_bits(parameters), out / WEIGHTS_FILE)
    # Measured after rounding.
    codec, measured = load_codec(codec.spec, out), []
    for rate, lmbda in enumerate(lambdas):
        codec.rate = rate
        reached = measure(codec, lmbda, world)
        rounded = {name: round(value, 4) for name, value in reached.items()}
        measured.append({"lmbda": lmbda} | rounded)
    report = {"arch": codec.spec.arch, "validation": measured, "trainings": list(trainings)}
    write_json(out / RECORD_FILE, report, indent=2)
    write_json(out / "config.json", codec.spec.architecture, indent=2)
    log.info("%s: %s", out.name, report)


if __name__ == "__main__":
    main()

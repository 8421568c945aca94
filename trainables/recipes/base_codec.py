"""Train what the demo's base codecs start from, on scenes made on the fly.

    scene --render--> codec --> bpp + lambda * 255^2 * MSE

A base codec per lambda is then a short fine-tuning of it, as part of the sweep. Lambda is a middle
to high one here: bits are given up in fewer steps than details are learned. The variable-rate codec
is trained at all its rates, one drawn per step, and is used as it is.

A converged codec at one lambda, `mbt2018-mean-scenes-LAMBDA`, starts from the one of the next
higher lambda. It goes on at a low learning rate until its validation loss stands still.

Run `python -m trainables.recipes.base_codec NAME --work DIR`; it continues from DIR/NAME.pt when
that exists, and writes DIR/NAME: the weights in half precision and what they reach in
`accuracy.json`. Times on one core of two: about 10 minutes each, of the variable-rate codec 60.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
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
    save_codec,
    start_codec,
)
from trainables.datasets.images.files import write_json
from trainables.datasets.rows import Batch
from trainables.datasets.scenes.drawing import render
from trainables.datasets.scenes.sampling import sample_scene
from trainables.datasets.scenes.scene import Split, scene_rng
from trainables.datasets.tensors import psnr_of
from trainables.encoders.pretrained import PREFIX, resolve_pretrained
from trainables.recipes.common import begin, recipe_parser
from trainables.recipes.steps import Schedule, StepLoss, run_steps
from trainables.scenarios.base_codec import CodecLearner
from trainables.training.checkpoint import TrainingState
from trainables.training.history import BASE_CODEC, recorded_trainings
from trainables.training.plateau import fall_of_last_quarter, stands_still

log = logging.getLogger("base_codec")
SIZE = 128
VALIDATION_SCENES = 128
SAVE_EVERY = 50
"""Steps between two checkpoints."""
SETTLE_LR = 1e-4
SETTLE_STEPS = 800
"""The most steps at that rate; 100 between two validations."""
SETTLE_EVERY = 100
PATIENCE, LEAST_PROGRESS = 3, 0.01
VBR_LAMBDAS = (0.00002, 0.00006, 0.00018, 0.0005, 0.0015, 0.0045)
"""The demo's four, and two above them which keep details learnable."""


@dataclass(frozen=True)
class Recipe:
    """A shipped codec: what it is and how it is trained.

    Attributes:
        lambdas: of each of its rates.
        steps: of the schedule that ends at a low learning rate.
        start: name of the shipped codec whose weights it starts from; empty for a fresh one.
        settles: whether training then goes on until the validation loss stands still.
    """

    spec: CodecSpec
    lambdas: tuple[float, ...]
    steps: int
    batch: int
    lr: float = 1e-3
    start: str = ""
    settles: bool = False


HYPERPRIOR = HyperpriorCodec(arch="mbt2018-mean", N=32, M=64)
CONVERGED = {
    "mbt2018-mean-scenes-0.00018": "mbt2018-mean-scenes",
    "mbt2018-mean-scenes-0.00006": "mbt2018-mean-scenes-0.00018",
    "mbt2018-mean-scenes-0.00002": "mbt2018-mean-scenes-0.00006",
    "mbt2018-mean-scenes-0.000007": "mbt2018-mean-scenes-0.00002",
}
"""Converged codecs, each with the one that it starts from."""
RECIPES = {
    "mbt2018-mean-scenes": Recipe(HYPERPRIOR, lambdas=(0.006,), steps=1000, batch=16),
    **{
        name: Recipe(
            HYPERPRIOR,
            lambdas=(float(name.rpartition("-")[2]),),
            steps=1500,
            batch=16,
            start=start,
            settles=True,
        )
        for name, start in CONVERGED.items()
    },
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


def scenes(split: Split, start: int, n: int) -> Tensor:
    """Scenes number start .. start + n - 1 of a split, (n, 3, SIZE, SIZE) in [0, 1]."""
    drawn = [
        sample_scene(scene_rng(0, split, i), split, augment=split == "train")
        for i in range(start, start + n)
    ]
    return render(drawn, SIZE)[0]


@torch.no_grad()
def measure(codec: Codec, lmbda: float) -> dict[str, float]:
    """On validation scenes: `bpp` of written streams, `bpp_estimated`, `psnr` in dB, `loss`."""
    images = scenes("val", 0, VALIDATION_SCENES)
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
    """Train to the schedule's end, continuing from the checkpoint when it exists."""
    torch.manual_seed(seed)
    codec = build_codec(recipe.spec)
    if recipe.start:
        start_codec(codec, resolve_pretrained(f"{PREFIX}{recipe.start}"))
    learner = CodecLearner(codec, dict(enumerate(recipe.lambdas)), recipe.lr)
    main, quantiles = learner.groups()
    groups: list[dict[str, Any]] = [
        {"params": main.parameters},
        {"params": quantiles.parameters, "lr": quantiles.lr, "constant": True},
    ]

    def step_loss(step: int) -> StepLoss:
        terms = step_terms(learner, recipe, seed, step)
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


def step_terms(learner: CodecLearner, recipe: Recipe, seed: int, step: int) -> dict[str, Tensor]:
    """The loss terms of a step, on scenes of its own."""
    torch.manual_seed(seed * 1_000_003 + step)
    images = scenes("train", step * recipe.batch, recipe.batch)
    terms: dict[str, Tensor] = learner(Batch((), image=images), step)
    return terms


def settle(codec: Codec, recipe: Recipe, seed: int = 0) -> TrainingState:
    """Go on at a low learning rate until the loss on validation scenes stands still.

    Returns:
        The steps done, and the validations, of the whole training.
    """
    (lmbda,) = recipe.lambdas
    learner = CodecLearner(codec, {0: lmbda}, SETTLE_LR)
    main, quantiles = learner.groups()
    groups = [{"params": group.parameters, "lr": group.lr} for group in (main, quantiles)]
    optimiser = torch.optim.Adam(groups)
    state = TrainingState(step=recipe.steps)
    while True:
        codec.eval().update()
        state.validations.append((state.step, measure(codec, lmbda)["loss"]))
        codec.train()
        losses = [loss for _, loss in state.validations]
        state.stands_still = stands_still(losses, PATIENCE, LEAST_PROGRESS)
        log.info("settling, step %d: validation loss %.4f", *state.validations[-1])
        if state.stands_still or state.step >= recipe.steps + SETTLE_STEPS:
            return state
        for _ in range(SETTLE_EVERY):
            optimiser.zero_grad()
            terms = step_terms(learner, recipe, seed, state.step)
            (terms["loss"] + terms["aux"]).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(main.parameters, 1.0)
            optimiser.step()
            state.step += 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one shipped codec; see the module."""
    parser = recipe_parser(__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    options = begin(parser, arguments)
    recipe = RECIPES[options.name]
    codec = train(recipe, options.work / f"{options.name}.pt")
    state = settle(codec, recipe) if recipe.settles else TrainingState(step=recipe.steps)
    finish(codec, recipe, state, options.work / options.name)


def finish(codec: Codec, recipe: Recipe, state: TrainingState, out: Path) -> None:
    """Write the codec as it ships: weights in half precision, what they are and what they reach."""
    save_codec(codec, out)
    weights = {name: value.half() for name, value in load_file(out / WEIGHTS_FILE).items()}
    save_file(weights, out / WEIGHTS_FILE)
    # Measured after rounding to half precision.
    codec, measured = load_codec(recipe.spec, out), []
    for rate, lmbda in enumerate(recipe.lambdas):
        codec.rate = rate
        reached = measure(codec, lmbda)
        rounded = {name: round(value, 4) for name, value in reached.items()}
        measured.append({"lmbda": lmbda} | rounded)
    before = recorded_trainings(resolve_pretrained(PREFIX + recipe.start)) if recipe.start else []
    training = {
        "of": BASE_CODEC,
        "steps": state.step,
        "images": state.step * recipe.batch,
        "seconds": None,
        "until": "plateau" if state.stands_still else "steps",
        "fall_of_last_quarter": fall_of_last_quarter(state) if recipe.settles else None,
    }
    report = {
        "arch": recipe.spec.arch,
        "validation": measured,
        "trainings": [*before, training],
    }
    write_json(out / RECORD_FILE, report, indent=2)
    write_json(out / "config.json", recipe.spec.architecture, indent=2)
    log.info("%s: %s", out.name, report)


if __name__ == "__main__":
    main()

"""Training of base codecs and operating points, from a spec to weights on disk.

spec + inputs --> learner at its start (of the scenario) --> loop.py --> weights, info.json
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from search_spaces.scenarios import scenario_of
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from search_spaces.specs.training import Optimiser
from trainables.codecs import build_codec, save_codec, start_codec
from trainables.datasets.rows import Rows
from trainables.encoders.pretrained import resolve_pretrained
from trainables.points.contract import method_of
from trainables.points.inputs import Inputs
from trainables.points.learning import Learner
from trainables.points.weights import POINT_FILE, save_trained
from trainables.scenarios.base_codec import CodecLearner
from trainables.training.context import Context
from trainables.training.history import BASE_CODEC, recorded_trainings, trainings_before
from trainables.training.loop import fit, write_info

NOTHING_TRAINED: Final = {"steps": 0, "images": 0, "seconds": 0.0, "parameters": {"trained": 0}}
"""The `info.json` of a codec or point that is used without training."""


def train_codec(
    codec: CodecSpec, lmbda: float, inputs: Inputs, out: Path, context: Context, seed: int = 0
) -> None:
    """Train a base codec with `bpp + lambda * 255^2 * MSE`; write it to the directory `out`.

    With `codec.train.steps` 0, the given weights are written unchanged. A variable-rate codec is
    trained at all its rates, whatever `lmbda` is.

    Raises:
        Diverged: the loss is no longer finite.
        ValueError: the weights to start from do not fit the codec.
    """
    torch.manual_seed(seed)
    codec = codec.at(lmbda)
    net = build_codec(codec)
    about: dict[str, Any] = {"of": BASE_CODEC, "before": []}
    if codec.weights is not None:
        assert isinstance(codec.weights, str)
        weights = resolve_pretrained(codec.weights)
        about |= {"weights": start_codec(net, weights), "before": recorded_trainings(weights)}
    if codec.train.steps == 0:
        if context.rank == 0:
            save_codec(net, out)
            write_info(out, {**NOTHING_TRAINED, **about})
        return
    lambdas = dict(enumerate(codec.rate_table)) if net.rates > 1 else {0: lmbda}
    learner = CodecLearner(net, lambdas, codec.train.lr, augments=True)
    best = _train(learner, codec.train, inputs, out, context, seed, about)
    if context.rank == 0:
        learner.load_trained(best)
        save_codec(learner.codec, out)


def train_point(
    space: Space, point: OperatingPoint, inputs: Inputs, out: Path, context: Context
) -> None:
    """Train an operating point; write the trained weights and `info.json` to the directory `out`.

    A point that trains nothing gets `info.json` and the weights of the point that it starts from;
    a released point gets the weights of its file.

    Args:
        space: of the point's variant.

    Raises:
        Diverged: the loss is no longer finite.
        ValueError: the inputs do not fit together.
    """
    scenario, method = scenario_of(point.scenario), method_of(point.scenario)
    about: dict[str, Any] = {
        "of": scenario.name,
        "before": trainings_before(inputs.codec, inputs.start),
    }
    training = scenario.training(space, point)
    if training is None or point.released is not None:
        if context.rank != 0:
            return
        if point.released is None:
            write_info(out, {**NOTHING_TRAINED, **about})
            if scenario.start(space, point) is not None:
                assert inputs.start is not None
                shutil.copy(inputs.start / POINT_FILE, out / POINT_FILE)
            return
        state, origin = method.released(space, point, Path(point.released))
        write_info(out, {**NOTHING_TRAINED, **about, "weights": origin})
        save_trained(state, out)
        return
    torch.manual_seed(point.seed)
    learner = method.learner(space, point, inputs)
    best = _train(learner, training, inputs, out, context, point.seed, about)
    if context.rank == 0:
        save_trained(best, out)


def _train(
    learner: Learner,
    spec: Optimiser,
    inputs: Inputs,
    out: Path,
    context: Context,
    seed: int,
    about: Mapping[str, Any],
) -> Mapping[str, Tensor]:
    """`fit` on the training and validation images of the inputs, at each of their rates."""
    assert inputs.world is not None
    rows, validation = (
        [
            Rows(split, learner.columns, inputs.world, latents, inputs.features)
            for latents in inputs.rates or (inputs.latents,)
        ]
        for split in ("train", "val")
    )
    return fit(learner, spec, rows, validation, out, context, seed, about)

"""Training steps at the paper's size against the same steps as the method is naively run.

    python -m tests.benchmarks.paper_step [--scenarios d1 d2 d3] [--batch 2] [--rounds 5]
    python -m tests.benchmarks.paper_step --device cuda --precision bf16 --batch 32
    python -m tests.benchmarks.paper_step --compile

ELIC 192/320 and CLIP ViT-L/14 with random weights, images of 256 x 256, the distillation of the
pooled feature (d1 in the middle of its schedule: cross-entropy as well). Both read their batches
from the same Parquet files and take the same optimiser.

    here       the project's learners on stored features, d1 on stored latents as well
    reference  CompressAI's whole forward pass with synthesis, the teacher on every image, every
               token of every encoder block, the encoder's weights collecting gradients

With --compile both are the project's step: here with its transforms, neck and encoder through
torch.compile, as reference without.

Steps are taken in turn, so that a drift of the machine meets both; images/s are medians, on a CPU
by CPU time (with OMP_NUM_THREADS=1 those of one core). The limit is the ratio of the MACs that both
do, forward and backward, matrix products and convolutions.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.scenarios.d1 import NeckTraining
from search_spaces.scenarios.d2 import JointTraining
from tests.benchmarks.full_size import Made, macs, make
from trainables.codecs import load_codec
from trainables.datasets.batches import Batches
from trainables.datasets.rows import Batch, Rows
from trainables.encoders.load import load_tower
from trainables.encoders.tower import Tower
from trainables.points.building import build_neck, partial_encoder
from trainables.points.learning import Learner, SurrogateSetting
from trainables.points.neck_method import NeckLearner
from trainables.scenarios.d2 import JointLearner

Step = Callable[[int], float]


class Reference(nn.Module):
    """One scenario's loss, computed as the method's equations read."""

    def __init__(
        self, made: Made, scenario: str, tower: Tower, neck: nn.Module, text: Tensor
    ) -> None:
        super().__init__()
        space = made.space
        self.scenario, self.text = scenario, text
        self.clip = tower.model.requires_grad_(True)
        self.preprocess, self.block = tower.preprocess, space.teacher.block
        self.neck = neck
        self.net = load_codec(space.codecs[0], made.codec).net
        self.net.requires_grad_(scenario != "d1").train(scenario != "d1")
        self.spec, self.lmbda = space.settings_of(scenario), space.codecs[0].lambdas[0]
        self.y_hat: Tensor | None = None
        self.net.g_s.register_forward_pre_hook(self._keep)

    def _keep(self, module: nn.Module, arguments: tuple[Tensor]) -> None:
        self.y_hat = arguments[0]

    def _encode(self, hidden: Tensor, first: int) -> Tensor:
        vision = self.clip.vision_model
        for block in vision.encoder.layers[first:]:
            hidden = block(hidden, None)
        return self.clip.visual_projection(vision.post_layernorm(hidden[:, 0]))

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a step."""
        x = batch.image
        assert x is not None
        with torch.no_grad():
            embedded = self.clip.vision_model.embeddings(self.preprocess(x))
            target = self._encode(self.clip.vision_model.pre_layrnorm(embedded), 0)
        out = self.net(x)
        pooled = self._encode(self.neck(self.y_hat), self.block)
        distill = F.mse_loss(pooled, target)
        if isinstance(self.spec, NeckTraining):
            assert batch.classes is not None
            return F.cross_entropy(pooled @ self.text, batch.classes) + 100 * distill
        bits = sum(-likelihoods.float().log2().sum() for likelihoods in out["likelihoods"].values())
        assert isinstance(self.spec, JointTraining)
        distortion = self.spec.delta * distill
        if self.scenario == "d2":
            distortion = distortion + self.spec.gamma * F.mse_loss(out["x_hat"], x)
        rate = bits / (x.shape[0] * x.shape[-2] * x.shape[-1])
        return rate + self.lmbda * distortion + self.net.aux_loss()


def reference_step(model: Reference, batches: Batches, device: torch.device, bf16: bool) -> Step:
    """A step of the neck, and in d2 and d3 of the codec; the encoder's gradients go nowhere."""
    trained = [p for part in (model.neck, model.net) for p in part.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=1e-4, fused=True)
    return _step(model, lambda batch: model(batch), trained, optimiser, batches, device, bf16)


def learner_step(learner: Learner, batches: Batches, device: torch.device, bf16: bool) -> Step:
    """A step as the project's loop takes it."""
    groups = learner.groups()
    trained = [p for group in groups if group.main for p in group.parameters]
    optimiser = torch.optim.Adam(
        [{"params": group.parameters, "lr": group.lr} for group in groups], fused=True
    )

    def loss(batch: Batch) -> Tensor:
        terms = learner(batch, 100_000)  # d1: the middle of 200000 steps
        return terms["loss"] + terms.get("aux", 0.0)

    return _step(learner, loss, trained, optimiser, batches, device, bf16)


def _step(
    model: nn.Module,
    loss: Callable[[Batch], Tensor],
    trained: list[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    batches: Batches,
    device: torch.device,
    bf16: bool,
) -> Step:
    def step(number: int) -> float:
        torch.manual_seed(number)
        batch = batches.read(number).to(device)
        model.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
            objective = loss(batch)
        objective.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        return objective.item()

    return step


def compiled_step(
    learner: Learner, batches: Batches, device: torch.device, bf16: bool
) -> tuple[Step, Step]:
    """The project's step compiled and as it is, of the same weights and optimiser."""
    parts: list[nn.Module] = [learner.encoder, learner.neck]
    if isinstance(learner, JointLearner):
        parts += [learner.codec.net.g_a, learner.codec.net.g_s]
    for part in parts:
        part.compile(dynamic=False)
    step = learner_step(learner, batches, device, bf16)

    def eager(number: int) -> float:
        with torch.compiler.set_stance("force_eager"):
            return step(number)

    step(0)  # compiles
    return step, eager


def pair(
    made: Made, scenario: str, batch_size: int, device: torch.device, bf16: bool, compiled: bool
) -> tuple[Step, Step]:
    """The project's step and the reference's, from the same weights."""
    space, spec = made.space, made.space.codecs[0]
    torch.manual_seed(1)
    tower = load_tower(space.teacher.model)
    neck = build_neck(space, spec, tower)
    sources = (made.world, made.latents, made.features, space.data.shard_size)
    images = Batches(Rows("train", ("image", "classes"), *sources), batch_size, 0)
    classes = images.read(0).classes
    assert classes is not None
    text = F.normalize(torch.randn(tower.sizes.pooled, classes.shape[1]), dim=0)
    learner: Learner
    if scenario == "d1":
        neck_training = space.settings_of(scenario)
        assert isinstance(neck_training, NeckTraining)
        encoder = partial_encoder(space, tower)
        setting = SurrogateSetting(space, encoder, text, neck_training.steps)
        learner = NeckLearner(setting, neck, neck_training.lr, neck_training.linear_lr)
    else:
        codec = load_codec(spec, made.codec)
        training, synthesis = space.settings_of(scenario), scenario == "d2"
        assert isinstance(training, JointTraining)
        lmbda = spec.lambdas[0]
        learner = JointLearner(space, training, codec, neck, tower, lmbda, synthesis)
    batches = Batches(Rows("train", learner.columns, *sources), batch_size, 0)
    if compiled:
        return compiled_step(learner.to(device).train(), batches, device, bf16)
    naive = Reference(made, scenario, copy_of(tower), copy.deepcopy(neck), text.to(device))
    return (
        learner_step(learner.to(device).train(), batches, device, bf16),
        reference_step(naive.to(device), images, device, bf16),
    )


def copy_of(tower: Tower) -> Tower:
    """The same encoder with parameters of its own."""
    return Tower(copy.deepcopy(tower.model))


def first_step(step: Step, losses: list[float]) -> None:
    """Take a step's first one, and keep its loss."""
    losses.append(step(0))


def timed(step: Step, number: int, device: torch.device) -> float:
    """Seconds of a step; on a CPU those that it worked, whatever else the machine does."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    step(number)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", nargs="+", default=["d1", "d2", "d3"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    device, bf16 = torch.device(options.device), options.precision == "bf16"
    print(
        f"batch {options.batch}, {options.precision}, {device.type}, "
        f"{torch.get_num_threads()} threads; GMAC per image and images/s"
    )
    names = ("", "GMAC here", "reference", "limit", "im/s here", "reference", "ratio", "of limit")
    print("".join(f"{name:>11}" for name in names) + "   ratio by round; first losses", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        made = make(Path(directory), 2 * options.batch, options.device)
        for scenario in options.scenarios:
            here, reference = pair(made, scenario, options.batch, device, bf16, options.compile)
            losses: list[float] = []
            # Counting warms up, too; what is compiled cannot be looked into, but does the same.
            counted = (reference, reference) if options.compile else (here, reference)
            work = [macs(partial(first_step, step, losses)) for step in counted]
            times: list[tuple[float, float]] = []
            for number in range(options.rounds):
                order = (here, reference) if number % 2 else (reference, here)
                taken = {step: timed(step, number + 1, device) for step in order}
                times.append((taken[here], taken[reference]))
            ours, naive = (statistics.median(column) for column in zip(*times, strict=True))
            limit, ratio = work[1] / work[0], naive / ours
            rounds = " ".join(f"{b / a:.2f}" for a, b in times)
            gmac = [count / options.batch / 1e9 for count in work]
            print(
                f"{scenario:>11}{gmac[0]:>11.1f}{gmac[1]:>11.1f}{limit:>11.2f}"
                f"{options.batch / ours:>11.3f}{options.batch / naive:>11.3f}{ratio:>11.2f}"
                f"{ratio / limit:>11.0%}   {rounds}; {losses[0]:.4f} {losses[1]:.4f}",
                flush=True,
            )
            del here, reference


if __name__ == "__main__":
    main()

"""Peak GPU memory of a d2 or d3 step for ELIC 192/320 and CLIP ViT-L/14, computed without a GPU.

    python -m tests.benchmarks.peak_memory [--scenarios d2 d3] [--batch 32]

The project's learner takes two whole steps on fake tensors (sizes, no data), and after every
operation the storages that are alive are added up: weights, gradients, Adam's states, what is saved
for the backward pass, temporaries. Attention saves its inputs, its output and a number per row, as
fused kernels do. Not counted: convolution workspaces, fragmentation and the CUDA context; leave
2 GiB for them.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from compressai.entropy_models import EntropyBottleneck
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, CLIPVisionModelWithProjection

from search_spaces.facts.encoders import released_config
from search_spaces.plugins import implementation
from search_spaces.scenarios.d2 import JointTraining
from trainables.commands.complexity import PAPER
from trainables.datasets.rows import Batch
from trainables.encoders.tower import Tower
from trainables.points.building import build_neck
from trainables.scenarios.d2 import JointLearner

SETTINGS = [
    # precision, slices, checkpointed blocks
    ("fp32", 1, False),
    ("fp32", 1, True),
    ("fp32", 2, True),
    ("fp32", 4, False),
    ("bf16", 1, False),
    ("bf16", 1, True),
    ("bf16", 2, False),
]


class Alive(TorchDispatchMode):
    """Bytes of all storages made while it is on, and the most that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf.untyped_storage())
        self.peak = max(self.peak, self.now)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._seen:
            size = storage.nbytes()
            self._seen.add(key)
            self.now += size
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def peak_gib(scenario: str, batch: int, precision: str, slices: int, checkpoint: bool) -> float:
    """GiB alive at the worst moment of the second step."""
    resources = PAPER.resources.model_copy(update={"checkpoint_blocks": checkpoint})
    space = PAPER.model_copy(update={"resources": resources})
    spec = space.codecs[0]
    known = released_config(space.teacher.model)
    assert known is not None
    config = AutoConfig.for_model(**known)
    config.vision_config.projection_dim = config.projection_dim
    with FakeTensorMode(), Alive() as alive:
        tower = Tower(CLIPVisionModelWithProjection(config.vision_config))
        tower.model.requires_grad_(False)
        # Without the check of `build_codec`, whose meta tensors do not mix with fake ones.
        codec, neck = implementation(spec.implementation)(spec), build_neck(space, spec, tower)
        for module in codec.net.modules():
            if isinstance(module, EntropyBottleneck):
                # It looks at values to order axes; the hyper-latents are a thousandth of the rest.
                module.forward = lambda z: (z + 0.5, torch.sigmoid(z))
        training = space.settings_of(scenario)
        assert isinstance(training, JointTraining)
        learner = JointLearner(
            space, training, codec, neck, tower, spec.lambdas[0], synthesis=scenario == "d2"
        ).train()
        optimiser = torch.optim.Adam([p for g in learner.groups() for p in g.parameters])
        ids = tuple(map(str, range(batch)))
        data = Batch(ids, image=torch.rand(batch, 3, 256, 256), pooled=torch.rand(batch, 768))
        alive.peak = 0  # what making the models took does not count
        for step in range(2):
            optimiser.zero_grad(set_to_none=True)
            for part in data.split(slices):
                with torch.autocast("cpu", torch.bfloat16, precision == "bf16"):
                    terms = learner(part, step)
                    objective = terms["loss"] + terms["aux"]
                objective.backward()
                del terms, objective
            optimiser.step()
    return alive.peak / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", nargs="+", default=["d2", "d3"])
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    print(f"batch {options.batch}; GiB at the peak")
    print(f"{'precision':<11}{'accumulate':<12}{'checkpoint_blocks':<19}", *options.scenarios)
    for precision, slices, checkpoint in SETTINGS:
        peaks = [
            peak_gib(scenario, options.batch, precision, slices, checkpoint)
            for scenario in options.scenarios
        ]
        row = "".join(f"{gib:>7.1f}" for gib in peaks)
        print(f"{precision:<11}{slices:<12}{checkpoint!s:<19}{row}", flush=True)


if __name__ == "__main__":
    main()

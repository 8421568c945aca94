"""What gamma : delta do to the image, at small size: the paper's proportions and its figure.

    python -m tests.benchmarks.proportions [--steps 200] [--lmbda 0.0005]

The demo's scenes, teacher and codec, the paper's distillation (pooled). From one d1, on test
scenes: bits that were written, PSNR of the decoded image and the distillation loss. The paper
(figure on Kodak) has d2's image close to d1's, which is the base codec's, and no usable image of
d3. Its 60 : 1 is a ratio: the last row takes it as it stands, on images in [0, 1].

The control is d2 without the MLLM: the base codec, trained on for as many steps. Of d3, whose
synthesis transform is not trained, the base codec's decodes the image.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from search_spaces import OperatingPoint, Space, load_space
from search_spaces.scenarios.d2 import IMAGE_WEIGHT
from tests.trainables.shards import write_shards
from trainables.codecs import Codec, load_codec
from trainables.datasets.rows import Rows
from trainables.datasets.tensors import psnr_of
from trainables.datasets.worlds.write import write_world
from trainables.encoders.load import load_tower
from trainables.networks.surrogate_loss import distillation
from trainables.points.building import complete_encoder
from trainables.points.contract import load_point
from trainables.points.inputs import Inputs
from trainables.points.models import BridgedPoint
from trainables.tasks import scene_tasks
from trainables.training.context import LocalContext
from trainables.training.precompute import CodecLatents, TeacherFeatures
from trainables.training.train import train_codec, train_point

DELTA = IMAGE_WEIGHT / 60
ROWS: tuple[tuple[str, str, float, float], ...] = (
    ("base codec, trained on", "d2", IMAGE_WEIGHT, 0.0),
    ("d2, 65025 : 1083.75", "d2", IMAGE_WEIGHT, DELTA),
    ("d3, 1083.75", "d3", 0.0, DELTA),
    ("d2, 60 : 1", "d2", 60.0, 1.0),
)
IMAGES, TESTED = 768, 96


def space_of(steps: int, lmbda: float, gamma: float = 0.0, delta: float = 0.0) -> Space:
    """The demo at one rate, with the paper's distillation and these weights in d2 and d3."""
    codec = load_space("demo").codecs[0].model_dump(mode="json") | {"lambdas": [lmbda]}
    codec["train"] |= {"steps": 160}
    joint = {"steps": steps, "batch_size": 8, "lr": 3e-4, "codec_lr": 3e-4, "delta": delta}
    return Space.model_validate(
        load_space("demo").model_dump(mode="json")
        | {
            "codecs": [codec],
            "surrogate": {"phases": [{"until": 1, "ce": 0, "distill": 1}], "templates": "data"},
            "d2": joint | {"gamma": gamma},
            "d3": joint,
        }
    )


def prepare(space: Space, lmbda: float, root: Path) -> Inputs:
    """Images, base codec, features, latents and d1."""
    world = root / "world"
    counts = {"n_train": IMAGES, "n_val": 64, "n_test": TESTED}
    write_world(world, scene_tasks(), size=128, seed=0, **counts)
    inputs = Inputs(world, root / "codec", root / "features", root / "latents", root / "d1")
    assert inputs.codec is not None
    train_codec(space.codecs[0], lmbda, inputs, inputs.codec, LocalContext(root / "codec-run"))
    write_shards(TeacherFeatures(space), world, root / "features", size=256)
    latents = CodecLatents(space.codecs[0], inputs.codec)
    write_shards(latents, world, root / "latents", size=256)
    point = OperatingPoint(space.codecs[0], lmbda, "d1", 0)
    train_point(space, point, inputs, root / "d1", LocalContext(root / "d1-run"))
    return inputs


@torch.no_grad()
def measured(space: Space, model: BridgedPoint, base: Codec, images: torch.Tensor) -> list[float]:
    """Bits per pixel, PSNR in dB and distillation loss over images."""
    streams = model.codec.encode(images)
    y_hat = model.codec.decode(streams)
    decoder = model.codec if model.has_image else base
    height, width = images.shape[-2:]
    x_hat = decoder.synthesis(y_hat, (height, width))
    teacher = complete_encoder(space, load_tower(space.teacher.model))
    target = teacher(images, pooled=True, tokens=False)
    student = model.encoder(model.neck(y_hat), pooled=True, tokens=False)
    total, _ = distillation(space.surrogate, student, target)
    bpp = 8 * sum(map(len, streams)) / images[:, 0].numel()
    return [bpp, psnr_of(x_hat, images).mean().item(), total.item()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--lmbda", type=float, default=5e-4)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        space = space_of(options.steps, options.lmbda)
        inputs = prepare(space, options.lmbda, root)
        assert inputs.codec is not None
        assert inputs.world is not None
        base = load_codec(space.codecs[0], inputs.codec)
        rows = Rows("test", ("image",), inputs.world, None, None)
        images = rows.batch([(0, row) for row in range(TESTED)]).to(torch.device("cpu")).image
        assert images is not None
        print(f"{'':<24}{'bpp':>8}{'PSNR':>8}{'distillation':>14}")
        for title, scenario, gamma, delta in (("d1 (base codec)", "d1", 0.0, 0.0), *ROWS):
            weighted = space_of(options.steps, options.lmbda, gamma, delta)
            point = OperatingPoint(weighted.codecs[0], options.lmbda, scenario, 0)
            out = root / title
            if scenario == "d1":
                out = root / "d1"
            else:
                train_point(weighted, point, inputs, out, LocalContext(root / f"{title}-run"))
            model = load_point(weighted, point, inputs.codec, out)
            assert isinstance(model, BridgedPoint)
            bpp, psnr, loss = measured(weighted, model, base, images)
            print(f"{title:<24}{bpp:>8.4f}{psnr:>8.2f}{loss:>14.4f}", flush=True)


if __name__ == "__main__":
    main()

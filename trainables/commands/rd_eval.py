"""PSNR and MS-SSIM over bits per pixel on a folder of whole images, by real bitstreams.

    image --encode--> OUT/streams/*.bin --read, decode--> y_hat --g_s--> decoded image
                        |                                                   |
                        +--> bpp = 8 x bytes of the file / pixels           +--> PSNR, MS-SSIM

    python -m trainables.commands.rd_eval STORAGE/SWEEP FOLDER    codecs of a finished sweep
    python -m trainables.commands.rd_eval SPACE FOLDER            codecs of a space's `weights`

The images keep their size (Kodak: 768 x 512): the codec pads them to what it needs and cuts the
padding off again. As in CompressAI's evaluation, both metrics are of images rounded to 8 bits, and
the means of metrics and bpp are over images. A codec that was updated
without its synthesis transform keeps the base codec's.

Output in OUT: `images.parquet`, a row per codec and image; `<codec>-<scenario>.json`, CompressAI's
results format, which `python -m compressai.utils.plot -f OUT/*.json` and
`python -m analysis.figures.rate_distortion OUT` read. Both have the times of encoding and decoding.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pytorch_msssim import ms_ssim
from torch import Tensor

from search_spaces.settings.paths import is_regular
from trainables.codecs import Codec
from trainables.commands.errors import refuse
from trainables.commands.rd_sources import BASE, RdError, Source, find_sources
from trainables.datasets.images.decode import UnreadableImageError, decode_rgb
from trainables.datasets.images.files import write_json
from trainables.datasets.tensors import psnr_of, to_tensor

PROGRAM = "python -m trainables.commands.rd_eval"
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff", ".webp", ".gif")
QUALITIES = ("psnr-rgb", "ms-ssim-rgb")
MS_SSIM_SIDE = 160
"""Images must be larger than this for MS-SSIM's five scales."""


@dataclass(frozen=True)
class Measured:
    """The rate and the quality of one image by one codec; a row of `images.parquet`.

    Attributes:
        bpp: bits of the written file per pixel.
        psnr: in dB.
        ms_ssim: 0 to 1; None for images that are too small for it.
        encode_s, decode_s: seconds from the image to its bytes, and from bytes to an image again,
            on this machine; a codec's first image warms up for the others.
    """

    codec: str
    scenario: str
    lmbda: float
    seed: int
    variant: str
    image: str
    height: int
    width: int
    n_bytes: int
    bpp: float
    psnr: float
    ms_ssim: float | None
    encode_s: float
    decode_s: float


def parser(prog: str = PROGRAM) -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Rate-distortion of codecs on a folder of images, by real bitstreams.",
    )
    parser.add_argument(
        "source",
        metavar="SWEEP_OR_SPACE",
        help="a sweep's directory (<storage>/<sweep>), or a named space or YAML file whose "
        "codecs are measured as their `weights` are",
    )
    parser.add_argument("folder", type=Path, help="a folder of images")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="FIELD=VALUE[,VALUE]",
        help="only these (repeatable), e.g. scenario=base; fields: codec, lmbda, scenario, seed",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default: rd-<sweep or space>-<folder> here"
    )
    parser.add_argument("--device", default="cpu", help="where codecs run (default: cpu)")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    """The command; returns its exit code: 0, or 2 for bad input."""
    options = parser(prog).parse_args(argv)
    name = Path(options.source).resolve().stem
    out = options.out or Path(f"rd-{name}-{options.folder.resolve().name}")
    try:
        device = torch.device(options.device)
        sources = find_sources(options.source, options.only)
    except Exception as error:  # also of what no check foresaw
        return refuse(error)
    try:
        measure(sources, options.folder, out, device, print)
    except (ValueError, OSError) as error:  # also of weights
        return refuse(error)
    print(f"results: {out}/*.json; draw them: python -m analysis.figures.rate_distortion {out}")
    return 0


@torch.no_grad()
def measure(
    sources: Sequence[Source],
    folder: Path,
    out: Path,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] = lambda text: None,
) -> list[Measured]:
    """Measure codecs on every image of a folder; write `images.parquet` and curves to `out`.

    Args:
        say: called with each line that is to be printed.

    Raises:
        RdError: the folder holds no readable image.
    """
    images, unreadable = read_folder(folder)
    for name, reason in unreadable.items():
        say(f"skipped {name}: {reason}")
    small = sum(min(x.shape[-2:]) <= MS_SSIM_SIDE for x in images.values())
    note = f"; {small} too small for MS-SSIM" if small else ""
    say(f"{len(images)} images, {len(unreadable)} unreadable{note}; {len(sources)} codecs")
    rows: list[Measured] = []
    for source in sources:
        codec = source.load().to(device)
        codec_rows = [_measure(source, codec, name, x, out) for name, x in images.items()]
        rows += codec_rows
        means = _means(pd.DataFrame(map(asdict, codec_rows)))
        quality = "".join(f", {k} {v:.4f}" for k, v in means.items() if k in QUALITIES)
        say(
            f"{source.point.label}: {means['bpp']:.4f} bpp{quality}; seconds an image: "
            f"{means['encoding_time']:.3f} to encode, {means['decoding_time']:.3f} to decode"
        )
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows]), out / "images.parquet")
    description = f"{folder.resolve().name}: {len(images)} images, {len(unreadable)} unreadable"
    for file, result in results(rows, description).items():
        write_json(out / f"{file}.json", result, indent=2)
    return rows


def results(rows: Sequence[Measured], description: str) -> dict[str, dict[str, Any]]:
    """File name -> one curve in CompressAI's results format, its rates rising.

    Beside that format's own entries, each says its `codec`, `seed`, and, where there is one, its
    `scenario` (none for the base codec's own images) and `variant`.
    """
    table = pd.DataFrame([asdict(row) for row in rows])
    results_by_file = {}
    identity = ["codec", "scenario", "variant", "seed"]
    for (codec, scenario, variant, seed), curve in table.groupby(identity, sort=False):
        several = table["seed"].nunique() > 1
        parts = [str(codec), str(scenario), str(variant), f"seed {seed}" if several else ""]
        points = [{**_means(point), "lmbda": lmbda} for lmbda, point in curve.groupby("lmbda")]
        means = pd.DataFrame(points).sort_values("bpp").dropna(axis=1)
        owner = {"codec": codec, "scenario": "" if scenario == BASE else scenario}
        owner |= {"variant": variant, "seed": int(curve["seed"].iloc[0])}
        results_by_file["-".join(filter(None, parts)).replace(" ", "")] = {
            "name": " ".join(filter(None, parts)),
            "description": description,
            **{name: value for name, value in owner.items() if value != ""},
            "results": {name: values.tolist() for name, values in means.items()},
        }
    return results_by_file


def read_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the images of a folder.

    Returns:
        Images by file name, (1, 3, H, W) in [0, 1] each; reasons by file name of unreadable ones.

    Raises:
        RdError: no such folder, or it holds no readable image.
    """
    if not folder.is_dir():
        raise RdError(f"{folder} is not a folder")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in ENDINGS)
    images: dict[str, Tensor] = {}
    unreadable: dict[str, str] = {}
    for file in files:
        try:
            if not is_regular(file):
                raise UnreadableImageError("no regular file")
            images[file.name] = to_tensor([np.asarray(decode_rgb(file.read_bytes())[0])])
        except UnreadableImageError as error:
            unreadable[file.name] = str(error)
    if not images:
        reasons = "".join(f"\n{name}: {reason}" for name, reason in unreadable.items())
        kinds = ", ".join(ENDINGS)
        raise RdError(f"{folder} holds no image that can be read ({kinds}){reasons}")
    return images, unreadable


def quality(x_hat: Tensor, x: Tensor) -> tuple[float, float | None]:
    """PSNR in dB and MS-SSIM of one decoded image, (1, 3, H, W) in [0, 1], rounded to 8 bits.

    Equal images have a PSNR of 100 dB; images of 160 pixels and less have no MS-SSIM.
    """
    ours, theirs = ((image.clamp(0, 1) * 255).round() for image in (x_hat, x))
    psnr = psnr_of(ours / 255, theirs / 255).item()
    if min(x.shape[-2:]) <= MS_SSIM_SIDE:
        return psnr, None
    return psnr, ms_ssim(ours, theirs, data_range=255.0).item()


def _measure(source: Source, codec: Codec, name: str, x: Tensor, out: Path) -> Measured:
    point = source.point
    names = [point.codec.label if point.codec else "", point.scenario, point.variant]
    directory = "-".join(filter(None, [*names, f"{point.lmbda:g}", f"seed{point.seed}"]))
    file = out / "streams" / directory / f"{name}.bin"
    file.parent.mkdir(parents=True, exist_ok=True)
    image, (height, width) = x.to(next(codec.parameters()).device), x.shape[-2:]
    began = time.monotonic()
    stream = codec.encode(image)[0]
    encode_s = time.monotonic() - began
    file.write_bytes(stream)
    stream = file.read_bytes()
    began = time.monotonic()
    y_hat = codec.decode([stream], max_pixels=height * width)
    x_hat = codec.synthesis(y_hat, (height, width)).cpu()
    decode_s = time.monotonic() - began
    n_bytes = file.stat().st_size
    assert point.codec is not None
    assert point.lmbda is not None
    return Measured(
        point.codec.label,
        point.scenario,
        point.lmbda,
        point.seed,
        point.variant,
        name,
        height,
        width,
        n_bytes,
        8 * n_bytes / (height * width),
        *quality(x_hat, x),
        encode_s,
        decode_s,
    )


def _means(rows: pd.DataFrame) -> dict[str, float]:
    """Means over images by CompressAI's names; `ms-ssim-rgb` only if an image is large enough."""
    names = {"bpp": "bpp", **dict(zip(("psnr", "ms_ssim"), QUALITIES, strict=True))}
    names |= {"encode_s": "encoding_time", "decode_s": "decoding_time"}
    means = rows[list(names)].astype(float).mean().dropna()
    return {names[str(name)]: float(value) for name, value in means.items()}


if __name__ == "__main__":
    sys.exit(main())

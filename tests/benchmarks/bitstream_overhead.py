"""Bits written against bits estimated, per codec architecture; how much of the gap is overhead.

    python -m tests.benchmarks.bitstream_overhead                    scenes of the demo, 128x128
    python -m tests.benchmarks.bitstream_overhead --images kodak/     a folder of images (PNG, JPEG)
    python -m tests.benchmarks.bitstream_overhead --images kodak/ --crop 256 --full  ELIC 192/320
    python -m tests.benchmarks.bitstream_overhead --codec CODEC_DIR --space demo     a trained codec

Columns, all means per image:
    bpp, estimated   of the written stream, and -log2 of its symbols' likelihoods, per pixel
    gap              bytes written more than estimated, = container + coder
    container        bytes of the header and checksum
    coder            bytes that entropy coding costs above the estimate: its last state, and
                     probabilities rounded to a table
    per string       bytes of CompressAI's own strings (one or two per slice) above our payload:
                     each has a coder state of its own; a container would add their lengths, too
    saved            that, less our container, and the share of it in a stream of 0.1 bpp

Without --codec the weights are random, and scaled so that symbols of several bits occur: good for
comparing overheads in bytes, which depend on the number of strings, not for the rates themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from search_spaces import CodecSpec, load_space
from trainables.codecs import Codec, build_codec, load_codec
from trainables.codecs.entropy.bitstream import overhead_bytes
from trainables.datasets.worlds.scenes.drawing import render
from trainables.datasets.worlds.scenes.sampling import sample_scene
from trainables.datasets.worlds.world import scene_rng

SPECS = [
    {"arch": "bmshj2018-factorized", "N": 32, "M": 64},
    {"arch": "bmshj2018-hyperprior", "N": 32, "M": 64},
    {"arch": "mbt2018-mean", "N": 32, "M": 64},
    {"arch": "mbt2018", "N": 32, "M": 64},
    {"arch": "cheng2020-anchor", "N": 48, "M": 48},
    {"arch": "cheng2020-attn", "N": 48, "M": 48},
    {
        "arch": "elic2022-chandelier",
        "N": 24,
        "M": 48,
        "groups": (4, 4, 8, 16, 16),
        "context_width": 0.2,
    },
]
FULL = [{"arch": "elic2022-chandelier", "N": 192, "M": 320}]


def random_codec(spec: CodecSpec) -> Codec:
    """Random weights whose latents are about 2 wide, and their scales 3."""
    torch.manual_seed(0)
    codec = build_codec(spec)

    def widen(module: torch.nn.Module, arguments: object, output: Tensor) -> Tensor:
        return output * (2 / output.std().clamp(min=1e-6)).round()

    def steady(module: torch.nn.Module, arguments: object, output: Tensor) -> Tensor:
        return output * 0.1 + 3

    parameters = "h_s" if spec.arch in ("bmshj2018-hyperprior", "mbt2018-mean") else ""
    for name, module in codec.net.named_modules():
        last = name.rpartition(".")[2]
        if last in ("g_a", "h_a"):
            module.register_forward_hook(widen)
        elif last in (parameters, "entropy_parameters") and list(module.parameters()):
            module.register_forward_hook(steady)
    return codec


def images(folder: Path | None, n: int, crop: int | None) -> Iterator[Tensor]:
    """(1, 3, H, W) each, in [0, 1]; of a folder's the middle of side `crop`, if it is given."""
    if folder is None:
        drawn = [sample_scene(scene_rng(0, "test", i), "test") for i in range(n)]
        yield from torch.split(render(drawn)[0], 1)
        return
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".png", ".jpg", ".jpeg"))
    for file in files[:n]:
        with Image.open(file) as opened:
            image: Image.Image = opened
            if crop is not None:
                left, top = (image.width - crop) // 2, (image.height - crop) // 2
                image = image.crop((left, top, left + crop, top + crop))
            pixels = np.array(image.convert("RGB"))
        yield torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@torch.no_grad()
def measure(codec: Codec, folder: Path | None, n: int, crop: int | None) -> dict[str, float]:
    codec.eval()
    codec.update()
    codec.net.update(force=True)
    rows = []
    for x in images(folder, n, crop):
        streams, bits = codec.encode_and_estimate(x)
        size, container = len(streams[0]), overhead_bytes(streams[0])
        padded = codec._pad(x)
        theirs = codec.net.compress(padded)["strings"]
        rows.append(
            {
                "pixels": x.shape[-2] * x.shape[-1],
                "bytes": size,
                "estimated": bits.item() / 8,
                "container": container,
                "strings": len(theirs),
                "theirs": sum(len(string[0]) for string in theirs) - (size - container),
            }
        )
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="a folder; without it, scenes of the demo")
    parser.add_argument("--crop", type=int, help="side of the middle of each image to take")
    parser.add_argument("--full", action="store_true", help="ELIC at full width alone")
    parser.add_argument("-n", type=int, default=16, help="images")
    parser.add_argument("--codec", type=Path, nargs="*", default=[], help="trained codecs")
    parser.add_argument("--space", default="demo", help="the space that they are of")
    parser.add_argument("--place", type=int, default=0, help="of their codec in the space")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.codec:
        spec = load_space(options.space).codecs[options.place]
        codecs = [(str(d), load_codec(spec, d)) for d in options.codec]
    else:
        specs = [CodecSpec.model_validate(data) for data in (FULL if options.full else SPECS)]
        codecs = [(spec.label, random_codec(spec)) for spec in specs]
        print("random weights: compare the columns in bytes, not the rates")
    header = (
        "codec",
        "bpp",
        "estimated",
        "gap",
        "container",
        "coder",
        "strings",
        "per string",
        "saved",
    )
    print(f"{header[0]:24}" + "".join(f"{name:>11}" for name in header[1:]))
    for name, codec in codecs:
        m = measure(codec, options.images, options.n, options.crop)
        gap = m["bytes"] - m["estimated"]
        saved = m["theirs"] - m["container"]
        numbers = (
            f"{8 * m['bytes'] / m['pixels']:.4f}",
            f"{8 * m['estimated'] / m['pixels']:.4f}",
            f"{gap:+.1f} B",
            f"{m['container']:.1f} B",
            f"{gap - m['container']:+.1f} B",
            f"{m['strings']:.0f}",
            f"{m['theirs']:+.1f} B",
            f"{saved:+.1f} B",
        )
        row = "".join(f"{number:>11}" for number in numbers)
        print(f"{name[-24:]:24}{row}{saved / (0.1 * m['pixels'] / 8):>8.1%}")


if __name__ == "__main__":
    main()

"""An operating point in use: as it was trained, ready to read an image and enter an encoder.

    scenario                            enters an encoder with
    d1, d2, d3, shared_neck, transfer,  y_hat -> neck -> encoder blocks k ..
    transfer_tuned, end_to_end_oracle
    feature_coding                      y_hat of tokens -> its own neck -> encoder blocks k ..
    post_processing                     y_hat -> g_s -> U-Net -> complete encoder
    reconstruction                      y_hat -> g_s -> complete encoder
    classical                           file of a standard's codec -> complete encoder
    uncompressed                        image -> complete encoder

Shapes: `B` images, `M` latent channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint
from search_spaces.specs.space import Space
from trainables.codecs import Codec, LatentCodec, build_codec, fill, load_codec, mismatches
from trainables.codecs.classical import ClassicalCodec
from trainables.codecs.released import read_weights
from trainables.encoders.bridge import Entry
from trainables.encoders.load import load_tower
from trainables.encoders.partial_encoder import PartialEncoder, Teacher
from trainables.encoders.tower import Tower
from trainables.networks.neck import TransformNeck
from trainables.networks.unet import UNet
from trainables.scenarios.building import (
    build_neck,
    build_token_codec,
    build_unet,
    complete_encoder,
    named,
    overlay,
    partial_encoder,
)

POINT_FILE = "model.safetensors"


class PointModel:
    """An operating point in use: how an image enters an encoder. Evaluation mode, no gradients.

    Attributes:
        codec: whose streams it reads, ready to encode and decode; None for `uncompressed` and
            `classical`.
        classical: whose files it reads, of `classical`.
        encoder: the teacher from where this point enters it: complete, or from block k on.
    """

    def __init__(
        self,
        scenario: str,
        encoder: PartialEncoder | Teacher,
        codec: LatentCodec | None = None,
        neck: TransformNeck | None = None,
        unet: UNet | None = None,
        classical: ClassicalCodec | None = None,
    ) -> None:
        self.scenario = scenario
        self.classical = classical
        self.encoder = encoder.eval()
        self.codec = codec.eval() if codec is not None else None
        self.neck = neck.eval() if neck is not None else None
        self.unet = unet.eval() if unet is not None else None

    def to(self, device: torch.device) -> PointModel:
        """Move all its parts."""
        for part in self._parts().values():
            part.to(device)
        return self

    @torch.no_grad()
    def enter(self, image: Tensor, y_hat: Tensor | None) -> tuple[Entry, Tensor | None]:
        """What of an image enters a visual encoder, and where.

        Args:
            image: (B, 3, H, W) in [0, 1], of `classical` as decoded; looked at by `uncompressed`
                and `classical` alone.
            y_hat: decoded latents (B, M, h, w); None for these two.

        Returns:
            The entry, and the decoded image where it needed one.
        """
        if self.codec is None:
            return Entry(image, None), None if self.classical is None else image
        assert y_hat is not None
        height, width = image.shape[-2:]
        if self.neck is not None:
            assert isinstance(self.encoder, PartialEncoder)
            if isinstance(self.codec, Codec):
                # Without the latents of what the image was padded with: the neck lays what it is
                # given over the encoder's whole grid.
                rows, columns = -(-height // self.codec.stride), -(-width // self.codec.stride)
                y_hat = y_hat[..., :rows, :columns]
            return Entry(self.neck(y_hat), self.encoder.first), None
        x_hat = self.codec.synthesis(y_hat)[..., :height, :width]
        return Entry(x_hat if self.unet is None else self.unet(x_hat), None), x_hat

    @torch.no_grad()
    def reconstruct(self, y_hat: Tensor) -> Tensor | None:
        """The decoded image, (B, 3, H, W) in [0, 1], as people see it (before any U-Net).

        None for `uncompressed`, for feature_coding, and for d3, whose latents the synthesis
        transform no longer knows.
        """
        if self.codec is None or self.scenario in ("d3", "feature_coding"):
            return None
        return self.codec.synthesis(y_hat)

    def parameters(self) -> dict[str, int]:
        """Number of parameters of each part; what two share counts as the first's."""
        seen: set[int] = set()
        counts = {}
        for name, part in self._parts().items():
            own = {id(p): p.numel() for p in part.parameters() if id(p) not in seen}
            seen |= own.keys()
            counts[name] = sum(own.values())
        return counts

    def _parts(self) -> dict[str, nn.Module]:
        parts = {"encoder": self.encoder, "codec": self.codec, "neck": self.neck, "unet": self.unet}
        return {name: part for name, part in parts.items() if part is not None}


def load_point(
    space: Space,
    point: OperatingPoint,
    codec_dir: Path | None,
    point_dir: Path,
    tower: Tower | None = None,
) -> PointModel:
    """An operating point as it was trained, ready to use.

    Args:
        codec_dir: the base codec's directory; None for `uncompressed`.
        point_dir: the operating point's own directory.
        tower: the space's teacher, where it is loaded already.

    Raises:
        ValueError: the stored weights are not exactly those that the scenario trains.
    """
    tower = tower or load_tower(space.teacher.model)
    if point.classical is not None:
        assert point.quality is not None
        files = ClassicalCodec(point.classical.format, point.quality)
        return PointModel(point.scenario, complete_encoder(space, tower), classical=files)
    if point.scenario == "feature_coding":
        return _load_feature_coding(space, point, tower, point_dir)
    if point.codec is None:
        return PointModel(point.scenario, complete_encoder(space, tower))
    assert codec_dir is not None
    codec = load_point_codec(point, codec_dir, point_dir)
    if point.scenario == "reconstruction":
        return PointModel(point.scenario, complete_encoder(space, tower), codec)
    state = load_file(point_dir / POINT_FILE)
    if point.scenario == "post_processing":
        unet = build_unet(space, point.codec, tower)
        overlay(named(unet=unet), state)
        return PointModel(point.scenario, complete_encoder(space, tower), codec, unet=unet)
    neck = build_neck(space, point.codec, tower)
    if point.scenario in ("d2", "d3"):
        state = {n: v for n, v in state.items() if not n.startswith("codec.")}
    overlay(named(neck=neck), state)
    return PointModel(point.scenario, partial_encoder(space, tower), codec, neck)


def _load_feature_coding(
    space: Space, point: OperatingPoint, tower: Tower, point_dir: Path
) -> PointModel:
    codec, neck = build_token_codec(space, tower)
    learned = {n: p for n, p in codec.named_parameters() if p.requires_grad}
    own = {f"codec.{name}": p.detach() for name, p in learned.items()} | named(neck=neck)
    overlay(own, load_file(point_dir / POINT_FILE))
    codec.eval().requires_grad_(False)
    codec.update()
    return PointModel(point.scenario, partial_encoder(space, tower), codec, neck)


def load_point_codec(point: OperatingPoint, codec_dir: Path, point_dir: Path) -> Codec:
    """An operating point's codec, frozen, ready to encode and decode: d2's and d3's own.

    Args:
        codec_dir, point_dir: as in `load_point`.

    Raises:
        ValueError: the stored weights are not exactly those that the scenario trains.
    """
    assert point.codec is not None
    codec = load_codec(point.codec, codec_dir)
    if point.scenario not in ("d2", "d3"):
        return codec
    state = load_file(point_dir / POINT_FILE)
    trained = _without_unused(point.scenario, named(codec=codec))
    overlay(trained, {n: v for n, v in state.items() if n.startswith("codec.")})
    codec.update()
    return codec


def save_trained(state: Mapping[str, Tensor], directory: Path) -> None:
    """Write what a scenario trained, as `load_point` reads it."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(tensors, directory / POINT_FILE)


def load_neck(space: Space, codec: CodecSpec, tower: Tower, trained: Path) -> TransformNeck:
    """The neck that a d1 point, or one neck for all rates, has trained."""
    neck = build_neck(space, codec, tower)
    overlay(named(neck=neck), load_file(trained / POINT_FILE))
    return neck


def released_point(
    space: Space, point: OperatingPoint, file: Path
) -> tuple[dict[str, Tensor], str]:
    """What a scenario would have trained, from a released file; and where that comes from.

    The codec that a file of d1 holds must be the base codec; only its neck is taken.

    Raises:
        ValueError: the file does not hold exactly what the scenario trains.
    """
    assert point.codec is not None
    found = read_weights(file)
    neck = build_neck(space, point.codec, load_tower(space.teacher.model))
    codec = build_codec(point.codec)
    fill(codec, found.codec, str(file))
    trained = named(neck=neck)
    problems = mismatches(trained, {f"neck.{name}": value for name, value in found.neck.items()})
    if problems:
        lines = "\n  ".join(problems)
        raise ValueError(f"{file} does not hold the neck of {point.label}:\n  {lines}")
    state = {name: found.neck[name.removeprefix("neck.")].float() for name in trained}
    if point.scenario != "d1":
        state |= named(codec=codec)
    return _without_unused(point.scenario, state), found.origin


def _without_unused(scenario: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what a scenario does not train: d3 leaves the synthesis transform alone."""
    unused = "codec.net.g_s." if scenario == "d3" else None
    return {n: v for n, v in state.items() if unused is None or not n.startswith(unused)}

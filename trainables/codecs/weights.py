"""Saving a codec, and loading it from its own directory or from weights of any origin."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from compressai.zoo import image, image_vbr
from safetensors.torch import save_file
from torch import Tensor
from torch.hub import load_state_dict_from_url

from search_spaces import CodecSpec
from search_spaces.facts.compressai_zoo import ZOO
from trainables.codecs.building import build_codec
from trainables.codecs.codec import Codec
from trainables.codecs.entropy.tables import current_bottleneck_name
from trainables.codecs.released import Weights, project_names, read_weights

log = logging.getLogger(__name__)
WEIGHTS_FILE = "model.safetensors"
RECORD_FILE = "accuracy.json"
"""Beside weights that the project ships: how they were trained, and what they reach."""


def save_codec(codec: Codec, directory: Path) -> None:
    """Write the parameters under CompressAI's names to `directory/model.safetensors`."""
    directory.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in codec.net.named_parameters()}
    save_file(state, directory / WEIGHTS_FILE)


def load_codec(spec: CodecSpec, directory: Path) -> Codec:
    """The codec saved in a directory, frozen, in eval mode, ready to encode and decode."""
    codec = build_codec(spec)
    load_weights(codec, directory / WEIGHTS_FILE)
    codec.eval().requires_grad_(False)
    codec.update()
    return codec


def start_codec(codec: Codec, weights: str) -> str:
    """Load weights by their name in a space; returns where they come from, in words.

    Args:
        codec: is given all its parameters.
        weights: a file, a directory with `model.safetensors`, or `compressai:METRIC:QUALITY`
            (`compressai:METRIC` for a variable-rate model): CompressAI's pretrained model,
            downloaded unless it is in `$TORCH_HOME/hub/checkpoints`.

    Raises:
        ValueError: these are not exactly the weights of this codec, or there are none of that name.
    """
    if weights.startswith(ZOO):
        start = _from_zoo(codec.spec.arch, weights)
        fill(codec, start.codec, weights)
    else:
        path = Path(weights).expanduser()
        start = load_weights(codec, path / WEIGHTS_FILE if path.is_dir() else path)
    log.info("%s starts from %s: %s", codec.spec.label, weights, start.origin)
    return start.origin


def load_weights(codec: Codec, file: Path) -> Weights:
    """Load a weights file of any origin (see `released`) and float type into a codec.

    Raises:
        ValueError: a tensor is missing, unknown, of another shape or not finite.
    """
    weights = read_weights(file)
    fill(codec, weights.codec, str(file))
    return weights


@torch.no_grad()
def fill(codec: Codec, tensors: Mapping[str, Tensor], name: str) -> None:
    """Set all parameters of a codec, or none.

    Raises:
        ValueError: these are not exactly the weights of a codec of this kind; the message lists
            all of `mismatches`.
    """
    # CompressAI's buffers are constants, some too small for half precision, and tables that are
    # computed from the parameters: none is taken from a file.
    buffers = {name for name, _ in codec.net.named_buffers()}
    parameters = {
        current_bottleneck_name(name): parameter for name, parameter in codec.net.named_parameters()
    }
    problems = mismatches(parameters, {k: v for k, v in tensors.items() if k not in buffers})
    if problems:
        sizes = ", ".join(f"{key}={value}" for key, value in codec.spec.architecture.items())
        raise ValueError(
            f"{name} does not hold weights of {codec.spec.label} ({sizes}):\n  "
            + "\n  ".join(problems)
        )
    for key, parameter in parameters.items():
        parameter.copy_(tensors[key])


def mismatches(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> list[str]:
    """Why given weights do not fit: each name that is missing, unknown, of another shape, or that
    has a value which is not finite."""
    problems = [f"{name} is missing" for name in expected if name not in actual]
    problems += [f"{name} is unknown" for name in actual if name not in expected]
    problems += [
        f"{name} is {tuple(actual[name].shape)}, not {tuple(value.shape)}"
        for name, value in expected.items()
        if name in actual and actual[name].shape != value.shape
    ]
    present = (name for name in expected if name in actual)
    return problems + [f"{n} is not finite" for n in present if not actual[n].isfinite().all()]


def _from_zoo(arch: str, name: str) -> Weights:
    metric, _, quality = name.removeprefix(ZOO).partition(":")
    models = {**image.model_urls, **image_vbr.model_urls}
    url = models.get(arch, {}).get(metric)
    if quality and url is not None:
        url = url.get(int(quality))
    if not isinstance(url, str):
        raise ValueError(f"CompressAI has no pretrained {arch} by the name {name!r}")
    state = load_state_dict_from_url(url, map_location="cpu", progress=False, weights_only=True)
    return Weights(f"CompressAI's pretrained {arch}, {name}", project_names(state)[0])

"""Weights files from elsewhere: what they are, and their tensors under this project's names.

    file --> tensors --> origin, by the keys --> codec (CompressAI's names), neck (where it has one)

| origin | its keys | neck |
|---|---|---|
| CompressAI | those of its classes, of older releases too | - |
| ELIC re-implementation | `cc_transforms.*`, `ParamAggregation.*`, ... | - |
| TIC's implementation | `g_a0.*`, `g_a1.residual_group.*`, ... | - |
| the paper's released files | `state_dict`: any of these; `adapter`: CLIP's names | yes |

Files are safetensors or PyTorch's, the latter read without executing anything. Tensors may stand in
a `state_dict` among other things, and under prefixes that training wrappers add.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from compressai.zoo import load_state_dict as current_names
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from search_spaces.settings.paths import is_regular, is_there
from trainables.codecs.eight_bits import from_eight_bits
from trainables.codecs.entropy.tables import current_bottleneck_name

PREFIXES = ("module.", "base_coder.")

# Patterns of keys, and what they are called here.
_ELIC = (
    (r"(h_a|h_s|entropy_bottleneck)\.", r"latent_codec.hyper.\1."),
    (r"cc_transforms\.(\d+)\.", lambda m: f"latent_codec.y.channel_context.y{int(m[1]) + 1}."),
    (r"context_prediction\.(\d+)\.", r"latent_codec.y.latent_codec.y\1.context_prediction."),
    (r"ParamAggregation\.(\d+)\.", r"latent_codec.y.latent_codec.y\1.entropy_parameters."),
)
_TIC = (
    (r"([gh]_[as])(\d)\.(residual_group\.)?", r"\1.\2."),
    (r"context_prediction\.mlp\.fc1\.", "context_prediction.mlp.0."),
    (r"context_prediction\.mlp\.fc2\.", "context_prediction.mlp.2."),
)
_NECK = (
    (r"trans_latent_dim\.", "linear."),
    (r"class_embedding$", "class_token"),
    (r"positional_embedding$", "position"),
    (r"ln_pre\.", "norm."),
    (r"transformer\.resblocks\.", "blocks."),
)
_BLOCK = (
    (r"attn\.in_proj_", "qkv."),
    (r"attn\.out_proj\.", "projection."),
    (r"ln_1\.", "norm1."),
    (r"ln_2\.", "norm2."),
    (r"mlp\.c_fc\.", "expand."),
    (r"mlp\.c_proj\.", "contract."),
)
# Tables and constants that models make for themselves, in files as buffers.
_REFUSED = re.compile(r"GLOBAL (\S+)")
"""In PyTorch's message: the first class of a file that is not plain data."""
_COMPUTED = re.compile(r"(.*\.)?gaussian_conditional\.|.*\.(attn_mask|relative_position_index)$")


@dataclass(frozen=True)
class Weights:
    """A file's tensors under this project's names.

    origin: where the file comes from, in words; codec: a codec's; neck: a transform-neck's, empty
    where the file has none.
    """

    origin: str
    codec: Mapping[str, Tensor]
    neck: Mapping[str, Tensor] = field(default_factory=dict)


def read_weights(file: Path) -> Weights:
    """Read a weights file of any origin.

    Raises:
        ValueError: not a file of tensors.
    """
    content = _read(file)
    adapter = content.get("adapter")
    codec, origin = project_names(_tensors(file, content.get("state_dict", content)))
    if adapter is None:
        return Weights(origin, codec)
    return Weights(f"the paper's released file ({origin})", codec, _neck(_tensors(file, adapter)))


def _read(file: Path) -> Mapping[Any, Any]:
    if is_there(file) and not is_regular(file):
        raise ValueError(f"{file} is no regular file")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except SafetensorError as error:
        raise ValueError(f"{file} is no weights file: {error}") from error
    except Exception as error:  # of whatever the bytes of any file are to an unpickler
        # PyTorch's advice is to read it all the same.
        refused = _REFUSED.search(str(error))
        which = f" ({refused[1]})" if refused else ""
        raise ValueError(
            f"{file} is no weights file, or holds more than tensors and plain data{which}"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{file} holds a {type(content).__name__}, not named tensors")
    return content


def _tensors(file: Path, content: Any) -> dict[str, Tensor]:
    """Named tensors without the prefixes of wrappers."""
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{file} holds no named tensors")
    if no_names := [str(name) for name in content if not isinstance(name, str)]:
        raise ValueError(f"{file} has keys that are no names: {', '.join(no_names[:5])}")
    if no_tensors := [name for name, value in content.items() if not _is_plain(value)]:
        raise ValueError(
            f"{file} holds something else than dense real tensors: {', '.join(no_tensors[:5])}"
        )
    return from_eight_bits({_bare(name): value for name, value in content.items()})


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor whose numbers can be copied into a parameter."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_meta or value.is_quantized or value.is_complex())
    )


def _bare(name: str) -> str:
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return _bare(name.removeprefix(prefix))
    return name


def project_names(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """A codec's tensors under this project's names, and the origin that the given names show."""
    tensors = {name: value for name, value in tensors.items() if not _COMPUTED.match(name)}
    tensors = {
        current_bottleneck_name(name): value for name, value in current_names(tensors).items()
    }
    if any(name.startswith(("cc_transforms.", "ParamAggregation.")) for name in tensors):
        return _renamed(tensors, _ELIC), "ELIC re-implementation"
    if any(name.startswith("g_a0.") for name in tensors):
        renamed = _renamed(tensors, _TIC)
        # Within Swin blocks the names are torchvision's.
        inner = ((r"(.*\.blocks\.\d+\.mlp)\.fc1\.", r"\1.0."), (r"(.*\.mlp)\.fc2\.", r"\1.3."))
        return _renamed(renamed, inner), "TIC's implementation"
    return dict(tensors), "CompressAI"


def _neck(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    neck = {}
    for name, value in _renamed(tensors, _NECK).items():
        block, inner = re.match(r"(blocks\.\d+\.)?(.*)", name).groups()  # type: ignore[union-attr]
        neck[(block or "") + (_rename(inner, _BLOCK) if block else inner)] = value
    return neck


def _renamed(tensors: Mapping[str, Tensor], rules: Sequence[tuple[str, Any]]) -> dict[str, Tensor]:
    return {_rename(name, rules): value for name, value in tensors.items()}


def _rename(name: str, rules: Sequence[tuple[str, Any]]) -> str:
    for pattern, replacement in rules:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", replacement, name)
    return name

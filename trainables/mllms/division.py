"""Which part of an MLLM stands on which GPU, if one is too small for it.

    model without weights --sizes of its modules--> module -> GPU (a `device_map` of transformers)

accelerate moves what a part computes to the GPU of the next one. The visual tower stays whole: some
classes put hidden states of several of its blocks together.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import torch

from search_spaces.facts.mllm_families import Family
from trainables.encoders.pretrained import mllm_class

ROOM_SHARE = 0.9
"""Of a GPU's free memory that weights may take; the rest is for what they compute."""


def free_memory(gpus: int) -> dict[int, int]:
    """Number of each GPU that this process sees -> bytes that weights may take there.

    Args:
        gpus: how many are taken, from the first; at most those that the process sees.
    """
    return {gpu: int(ROOM_SHARE * torch.cuda.mem_get_info(gpu)[0]) for gpu in range(gpus)}


def device_map_of(
    config: Any, family: Family, dtype: torch.dtype, room: Mapping[int, int]
) -> dict[str, int]:
    """Divide an MLLM's weights about equally over GPUs.

    Args:
        config: of the model.
        family: of its class.
        dtype: the precision it runs in.
        room: number of a GPU -> bytes that weights may take there.

    Returns:
        Path of a module -> number of its GPU.

    Raises:
        ValueError: the weights do not fit the room.
    """
    # Optional, and it takes seconds.
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    kind = mllm_class(family)
    with torch.device("meta"):
        model = kind(config) if hasattr(kind, "config_class") else kind.from_config(config)
    model.tie_weights()
    tower = type(attrgetter(family.tower)(model)).__name__
    whole = [*(model._no_split_modules or ()), tower]
    balanced = get_balanced_memory(model, dict(room), whole, dtype)
    device_map: dict[str, int] = infer_auto_device_map(model, balanced, whole, dtype)
    if outside := [path for path, device in device_map.items() if device not in room]:
        size = sum(p.numel() for p in model.parameters()) * dtype.itemsize
        rooms = " + ".join(f"{free / 2**30:.3g}" for free in room.values())
        raise ValueError(
            f"{family.title}: {size / 2**30:.3g} GiB of weights do not fit {len(room)} GPUs with "
            f"{rooms} GiB ({', '.join(outside)}); give more of "
            "resources.by_kind.evaluation.gpus_per_worker, or evaluation.precision: bf16"
        )
    return device_map

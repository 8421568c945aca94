"""What a sweep would meet on this machine: Ray, GPUs, the storage, the models of a space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import huggingface_hub.constants
from rich.filesize import decimal

from orchestrator.execution.cluster import (
    NoClusterError,
    OpenClusterError,
    cluster_to_join,
    demand_token,
    gives_its_identity,
)
from orchestrator.storage.provenance import local_path, model_names, shipped_names
from orchestrator.storage.store import DEFAULT_STORAGE
from orchestrator.validation.inputs import check_models, check_packages
from orchestrator.validation.model_files import model_file
from orchestrator.validation.uris import InputError, open_storage
from search_spaces import Space, SpaceError, load_space
from search_spaces.settings.secrets import without_secrets
from trainables.standards import vvc
from trainables.tasks.common import caption_metrics

STORAGE: Final = DEFAULT_STORAGE
Finding = tuple[bool, str]
"""Whether it is as a sweep needs it, and a line that says what is there, or how to get it."""


def ray_cluster() -> Finding:
    """The Ray cluster that a sweep would join."""
    try:
        address = cluster_to_join()
        if address is None:
            count = len(os.sched_getaffinity(0))
            return True, f"none runs here: a sweep starts Ray on this machine ({count} CPUs)"
        demand_token(address)
        accepted = gives_its_identity(address)
    except (NoClusterError, OpenClusterError) as error:
        return False, str(error)
    if not accepted:
        return False, f"the cluster at {address} does not take this machine's token"
    return True, f"the cluster at {address} answers"


def gpus() -> Finding:
    """The GPUs that PyTorch can use."""
    import torch  # seconds

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return True, f"{', '.join(names)} (CUDA {torch.version.cuda})"
    if shutil.which("nvidia-smi") is None:
        return True, "none; everything is computed on the CPU"
    return False, (
        f"there is one, and PyTorch {torch.__version__} cannot use it: its CUDA is "
        f"{torch.version.cuda or 'none'}; look at the driver's version in `nvidia-smi`"
    )


def storage(uri: str) -> Finding:
    """Whether a storage can be written, and how much room it has."""
    place = Path(uri)
    is_remote = "://" in uri
    try:
        # What is not there is not made.
        store = open_storage(uri, touch=is_remote or place.exists())
    except InputError as error:
        return False, str(error)
    if store.remote:
        return True, f"{without_secrets(uri)} can be written"
    there = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
    return True, f"{uri} can be written; {decimal(shutil.disk_usage(there).free)} are free"


def models(name: str) -> list[Finding]:
    """The models that come with the package, those of the hub that are here, those of a space.

    Args:
        name: of a space, or its file.
    """
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    cached = sorted(path.name.removeprefix("models--") for path in cache.glob("models--*"))
    names = ", ".join(text.replace("--", "/", 1) for text in cached) or "none"
    findings = [(True, ", ".join(shipped_names())), (True, f"of the hub, in {cache}: {names}")]
    try:
        space = load_space(name)
    except SpaceError as error:
        return [*findings, *((False, line) for line in str(error).splitlines())]
    mistakes = [*check_models(space), *check_packages(space), *_to_fetch(space)]
    if not mistakes:
        findings.append((True, f"space {space.name}: all that it names is here"))
    return findings + [(False, f"space {space.name}: {line}") for line in mistakes]


def _to_fetch(space: Space) -> list[str]:
    """Models of the hub that a space names and that are not on this machine."""
    return [
        f"{setting} = {name!r} is not here: the first sweep fetches it; without a hub, copy it "
        "here and name its directory"
        for setting, name in model_names(space)
        if "codecs." not in setting
        and local_path(name) is None
        and model_file(name, "config.json") is None
    ]


def programs() -> list[Finding]:
    """Programs beside Python that some metrics and standards need."""
    missing = caption_metrics.lacking()
    lines = [(False, f"{name}: {reason}") for name, reason in missing.items()]
    ffmpeg = vvc.program()
    lines.append((ffmpeg is not None, vvc.LACKING if ffmpeg is None else f"VVC: {ffmpeg}"))
    return lines or [(True, "java")]

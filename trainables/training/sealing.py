"""Whether a checkpoint is whole: its `step.json` has the step and the SHA-256 of `checkpoint.pt`.

It may lie where others write, and disks change bytes. What does not fit its checksum is no
checkpoint, nor is one of a version that wrote none: such a training begins anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, Field

from trainables.datasets.images.files import file_checksum

STATE_FILE: Final = "checkpoint.pt"
"""Of a checkpoint: all that a training goes on from."""
_SEAL: Final = "step.json"


class _Seal(BaseModel, strict=True):
    step: Annotated[int, Field(ge=0)]
    sha256: str


def seal(directory: Path, step: int) -> None:
    """Write the step of a checkpoint, and the checksum of its `checkpoint.pt`, beside that."""
    checksum = file_checksum(directory / STATE_FILE, may_sample=False)
    text = json.dumps({"step": step, "sha256": checksum})
    (directory / _SEAL).write_text(text, encoding="utf-8")


def sealed_step(directory: Path) -> int | None:
    """The step of a checkpoint; None where there is none that is as it was sealed.

    Raises:
        OSError: it cannot be read.
    """
    if not all((directory / name).is_file() for name in (_SEAL, STATE_FILE)):
        return None
    try:
        told = _Seal.model_validate_json((directory / _SEAL).read_bytes())
    except ValueError:
        return None
    checksum = file_checksum(directory / STATE_FILE, may_sample=False)
    return told.step if checksum == told.sha256 else None

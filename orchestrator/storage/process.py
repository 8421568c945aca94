"""The identity of a process among those of all machines and containers."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import psutil
from pydantic import Field

from search_spaces.settings.secrets import printable

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MOST_PID: Final = 2**31 - 1


@dataclass(frozen=True)
class Process:
    """A process, told apart from all others of all machines and containers.

    Attributes:
        host: host name.
        boot: of the machine and its process namespace, 12 hex digits; processes with another one
            cannot be seen.
        pid: in the namespace; its limits hold where a process is read from a file.
        started_ms: milliseconds since the boot, as steps of the clock move every other time; since
            1970 on systems whose kernel keeps that.
    """

    host: str
    boot: str
    pid: Annotated[int, Field(ge=1, le=_MOST_PID)]
    started_ms: int

    @classmethod
    def current(cls) -> Process:
        """This process."""
        process = psutil.Process()
        return cls(socket.gethostname(), _boot(), process.pid, _started_ms(process))

    @property
    def is_gone(self) -> bool:
        """Whether it certainly does not run any more; False where it cannot be seen from here."""
        if not self.is_here:
            return False
        try:
            process = psutil.Process(self.pid)
            is_zombie = process.status() == psutil.STATUS_ZOMBIE
            return is_zombie or _started_ms(process) != self.started_ms
        except psutil.NoSuchProcess:
            return True

    @property
    def is_here(self) -> bool:
        """Whether it can be seen from here, so that `is_gone` decides."""
        return self.boot == _boot() and not _is_hidden(self.pid)

    @property
    def file_name(self) -> str:
        """It in the name of a file: three parts that dots separate, without the host."""
        return f"{self.boot}.{self.pid}.{self.started_ms}"

    def __str__(self) -> str:
        return f"process {self.pid} on {printable(self.host)}"


@functools.cache
def _boot() -> str:
    """Identity of this machine's boot and process namespace."""
    if _BOOT_ID.exists():
        namespace = Path("/proc/self/ns/pid").stat().st_ino
        identity = f"{_BOOT_ID.read_text(encoding='ascii').strip()}/{namespace}"
    else:
        identity = f"{socket.gethostname()}/{psutil.boot_time():.0f}"
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def _started_ms(process: psutil.Process) -> int:
    # psutil adds the time of the boot, which Linux computes from the clock of the moment.
    start = psutil.boot_time() if _BOOT_ID.exists() else 0.0
    return round((process.create_time() - start) * 1000)


def _is_hidden(pid: int) -> bool:
    """Whether a process of another user runs that /proc does not show (`hidepid`)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return _BOOT_ID.exists() and not Path(f"/proc/{pid}").exists()
    except (OSError, OverflowError):
        pass
    return False

"""The identity of a process among those of all machines and containers."""

from __future__ import annotations

import functools
import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Process:
    """A process, told apart from all others of all machines and containers.

    Attributes:
        host: host name.
        boot: of the machine and its process namespace, 12 hex digits; processes with another one
            cannot be seen.
        pid: in the namespace.
        started_ms: milliseconds since 1970.
    """

    host: str
    boot: str
    pid: int
    started_ms: int

    @classmethod
    def current(cls) -> Process:
        """This process."""
        process = psutil.Process()
        return cls(socket.gethostname(), _boot(), process.pid, _started_ms(process))

    @property
    def is_gone(self) -> bool:
        """Whether it certainly does not run any more; False where it cannot be seen from here."""
        if self.boot != _boot():
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
        return self.boot == _boot()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@functools.cache
def _boot() -> str:
    """Identity of this machine's boot and process namespace."""
    boot_id, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot_id.exists():
        identity = f"{boot_id.read_text(encoding='ascii').strip()}/{namespace.stat().st_ino}"
    else:
        identity = f"{socket.gethostname()}/{psutil.boot_time():.0f}"
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def _started_ms(process: psutil.Process) -> int:
    return round(process.create_time() * 1000)

"""What a process costs, by thread and by part, and how often it calls a class's methods."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

EVERY_S: Final = 2.0
MIB: Final = 2**20


class Meter:
    """CPU seconds and memory of this process, by thread, and when its parts began and ended."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._threads: dict[int, tuple[str, float]] = {}
        self.memory: list[tuple[float, float]] = []
        """(`time.monotonic`, MiB)."""
        self.marks: dict[str, tuple[float, float]] = {}
        """Name -> (`time.monotonic`, CPU seconds of the process)."""
        self.threads_at: dict[str, dict[str, float]] = {}
        threading.Thread(target=self._watch, name="meter", daemon=True).start()

    def mark(self, name: str) -> None:
        self.look()
        self.marks[name] = time.monotonic(), time.process_time()
        self.threads_at[name] = self.by_thread()

    def look(self) -> None:
        self.memory.append((time.monotonic(), self._process.memory_info().rss / MIB))
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        for listed in self._process.threads():
            name = names.get(listed.id)
            if name is None:
                try:
                    name = Path(f"/proc/self/task/{listed.id}/comm").read_text().strip()
                except OSError:
                    continue
            self._threads[listed.id] = (name, listed.user_time + listed.system_time)

    def by_thread(self) -> dict[str, float]:
        seconds: defaultdict[str, float] = defaultdict(float)
        for name, used in list(self._threads.values()):
            seconds[_group(name)] += used
        return dict(seconds)

    def between(self, first: str, last: str) -> tuple[float, float, dict[str, float]]:
        """Seconds of the clock and of the CPU, and the latter by thread."""
        (began, cpu_before), (ended, cpu_after) = self.marks[first], self.marks[last]
        before, after = self.threads_at[first], self.threads_at[last]
        used = {name: after[name] - before.get(name, 0.0) for name in after}
        return ended - began, cpu_after - cpu_before, used

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(EVERY_S)


def _group(name: str) -> str:
    return name if name in ("MainThread", "mlflow", "meter", "ray-data-pass") else "others"


def marked(meter: Meter, module: Any, name: str, label: str) -> None:
    """Let the meter mark the beginning and the end of a function's calls."""
    function = getattr(module, name)

    def call(*arguments: Any, **options: Any) -> Any:
        meter.mark(f"{label}+")
        try:
            return function(*arguments, **options)
        finally:
            meter.mark(f"{label}-")

    setattr(module, name, call)


def count_calls(kind: type, calls: Counter[str]) -> None:
    """Count the calls of a class's public methods, but not those within another one."""
    depth = threading.local()

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            level = getattr(depth, "level", 0)
            calls[name] += level == 0
            depth.level = level + 1
            try:
                return method(*arguments, **options)
            finally:
                depth.level = level

        return call

    for name, method in list(vars(kind).items()):
        if callable(method) and not name.startswith("_"):
            setattr(kind, name, counted(name, method))

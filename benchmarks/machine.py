"""What the machine itself did meanwhile: time that its host took from the processor, and how long its disk takes."""

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import quantile

_PAGE = bytes(8192)
_SEGMENT = 16 * 2**20
"""PostgreSQL writes pages of 8 KiB to log files of 16 MiB, which it fills with zeros first."""
_PACE_S = 0.01


@dataclass(frozen=True, slots=True)
class Ticks:
    """Where the time of all cores went, in the kernel's ticks: since the machine started, or between two moments."""

    all: int = 0
    stolen: int = 0
    """A virtual machine had work to do, and its host let others work."""

    @classmethod
    def told_by(cls, stat: str) -> "Ticks":
        """Reads /proc/stat: "cpu", user, nice, system, idle, iowait, irq, softirq, steal (proc(5)).

        What follows, the time of guests, is in user and nice already. Linux before 2.6.11 knew no steal.
        """
        name, *counts = stat.partition("\n")[0].split()[:9] or [""]
        if name != "cpu":
            return cls()
        return cls(sum(map(int, counts)), int(counts[7]) if len(counts) > 7 else 0)

    @classmethod
    def now(cls) -> "Ticks":
        """Since the machine started; nothing where there is no /proc/stat."""
        try:
            return cls.told_by(Path("/proc/stat").read_text())
        except OSError:
            return cls()

    def __add__(self, other: "Ticks") -> "Ticks":
        return Ticks(self.all + other.all, self.stolen + other.stolen)

    def __sub__(self, earlier: "Ticks") -> "Ticks":
        return Ticks(self.all - earlier.all, self.stolen - earlier.stolen)

    @property
    def stolen_percent(self) -> float:
        """The share that was stolen, of idle time and all else; 0.0 where nobody counts it."""
        return 100 * self.stolen / self.all if self.all > 0 else 0.0


async def fsync_milliseconds(folder: Path, seconds: float) -> tuple[float, float]:
    """The p50 and p99 of writing 8 KiB to the folder's disk (fdatasync), at most 100 times a second.

    The file is filled beforehand, as PostgreSQL's log is, and removed afterwards.
    """
    took = await asyncio.to_thread(_fsyncs, folder, seconds)
    return quantile(took, 0.5), quantile(took, 0.99)


def _fsyncs(folder: Path, seconds: float) -> list[float]:
    took: list[float] = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(bytes(_SEGMENT))
        os.fsync(file.fileno())
        end = time.perf_counter() + seconds
        while not took or time.perf_counter() < end:
            began = time.perf_counter()
            os.pwrite(file.fileno(), _PAGE, len(took) * len(_PAGE) % _SEGMENT)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
            time.sleep(max(0.0, began + _PACE_S - time.perf_counter()))
    return took

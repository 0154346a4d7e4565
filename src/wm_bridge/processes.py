"""What the kernel tells of a process, as far as this project asks: proc(5), ``/proc/PID/stat``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process at one moment.

    Attributes:
        parent: its number. cpu_s: processor time of it and its threads so far, not that of its children.
        age_s: since it was started.
    """

    parent: int
    cpu_s: float
    age_s: float


def look_at(pid: int) -> Process | None:
    """The process with this number; None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        uptime_s = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
    except OSError:
        return None
    ppid, utime, stime, starttime = (int(fields[number - 3]) for number in (4, 14, 15, 22))  # as proc(5) counts them
    return Process(ppid, (utime + stime) / _TICKS_S, uptime_s - starttime / _TICKS_S)

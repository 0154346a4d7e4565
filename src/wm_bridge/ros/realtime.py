"""Real-time habits of a process, each with a fallback: what could not be had is said, never fatal."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from pathlib import Path

SWITCHED_OFF = ("real-time scheduling is switched off by the parameter realtime",)
PRIORITY = 40  # of SCHED_FIFO: above every ordinary process, below the kernel's own threads
_NICENESS = -10
_LOCK_ALL = 1 | 2 | 4  # MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT: whatever is used stays in memory
_CAP_IPC_LOCK = 1 << 14
_GROWTH_BYTES = 256 << 20  # for what is allocated later; the safety node took 2 MB more in its first half minute


def enter(priority: int = PRIORITY) -> tuple[str, ...]:
    """Schedule all threads of this process as real-time and keep its memory from being swapped.

    Call it when the node is complete: the middleware's threads exist by then.

    Returns:
        One line for each thing that could not be had, with what would allow it; empty when all is well.
    """
    lacking = (_schedule(priority), _lock_memory())
    return tuple(line for line in lacking if line)


def freeze_garbage() -> None:
    """What lives now lives for ever: later collections look at young objects only."""
    gc.collect()
    gc.freeze()


def _schedule(priority: int) -> str:
    try:
        for task in Path("/proc/self/task").iterdir():
            os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(priority))
        return ""
    except (OSError, AttributeError) as error:
        return (
            f"no real-time scheduling ({_reason(error)}; {_lower_niceness()}): "
            f"allow rtprio {priority} in /etc/security/limits.conf, in Docker cap_add SYS_NICE"
        )


def _lower_niceness() -> str:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    except (OSError, AttributeError):
        return "normal priority"
    return f"nice {_NICENESS} instead"


def _lock_memory() -> str:
    need = _needed_bytes()
    remedy = f"allow memlock {-(-need // 1024)} (kB) or unlimited in /etc/security/limits.conf, in Docker cap_add IPC_LOCK"
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if not _has_capability(_CAP_IPC_LOCK) and limit != resource.RLIM_INFINITY and limit < need:
        # Beyond the limit later allocations would fail: that is worse than a page fault.
        return f"memory is not locked (the limit is {limit / 1e6:.0f} MB, this process needs {need / 1e6:.0f} MB): {remedy}"
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlockall(_LOCK_ALL) == 0:
            return ""
        return f"memory is not locked ({os.strerror(ctypes.get_errno())}): {remedy}"
    except (OSError, AttributeError) as error:
        return f"memory is not locked ({_reason(error)}): {remedy}"


def _needed_bytes() -> int:
    """What the limit has to allow: the kernel counts all address space, touched or not, and what comes later."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    except (OSError, ValueError):
        pages = 0
    return pages * resource.getpagesize() + _GROWTH_BYTES


def _has_capability(bit: int) -> bool:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    masks = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return bool(masks) and bool(int(masks[0], 16) & bit)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)

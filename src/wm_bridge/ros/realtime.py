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
    remedy = "allow memlock unlimited in /etc/security/limits.conf, in Docker cap_add IPC_LOCK"
    if not _may_lock_all():
        # With a finite limit later allocations would fail: that is worse than a page fault.
        return f"memory is not locked (limit {resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]} bytes): {remedy}"
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlockall(_LOCK_ALL) == 0:
            return ""
        return f"memory is not locked ({os.strerror(ctypes.get_errno())}): {remedy}"
    except (OSError, AttributeError) as error:
        return f"memory is not locked ({_reason(error)}): {remedy}"


def _may_lock_all() -> bool:
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    masks = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return bool(masks) and bool(int(masks[0], 16) & _CAP_IPC_LOCK)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)

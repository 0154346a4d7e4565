"""A ROS domain of one's own, so that two graphs on one machine never hear each other."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wm_bridge.errors import UserError

_PROCESSES = Path("/proc")
FIRST, LAST = 1, 101  # 0 is everyone's default; above 101 the UDP ports meet Linux' ephemeral ones


@contextmanager
def claim_domain_id(folder: Path | None = None) -> Iterator[int]:
    """Hold a ROS_DOMAIN_ID that no other process holds through this function.

    A file lock per domain: the kernel frees it when the process ends in any way. The search starts
    at a number made from the process id, to stay clear of programs that do not take part.

    Args:
        folder: where the lock files lie; the system's folder for temporary files by default.

    Raises:
        UserError: when all domains are taken.
    """
    folder = folder or Path(tempfile.gettempdir()) / "wm-ros-domains"
    folder.mkdir(mode=0o777, parents=True, exist_ok=True)
    count = LAST - FIRST + 1
    for offset in range(count):
        domain = FIRST + (os.getpid() * 37 + offset) % count
        handle = _try_lock(folder / f"{domain}.lock")
        if handle is None:
            continue
        try:
            yield domain
        finally:
            os.close(handle)
        return
    raise UserError(f"all ROS domains from {FIRST} to {LAST} are in use ({folder})", "stop some of the running graphs, or set ROS_DOMAIN_ID yourself")


def running_domains(processes: Path = _PROCESSES) -> tuple[int, ...]:
    """Domains in which nodes of this project run on this machine, in order, as far as this user may know."""
    found = set()
    for process in processes.glob("[0-9]*"):
        try:
            if b"wm_bridge.nodes." not in (process / "cmdline").read_bytes():
                continue
            pairs = dict(pair.split(b"=", 1) for pair in (process / "environ").read_bytes().split(b"\0") if b"=" in pair)
        except OSError:
            continue
        told = pairs.get(b"ROS_DOMAIN_ID") or b"0"
        if told.isdigit():
            found.add(int(told))
    return tuple(sorted(found))


def find_domain(asked: int | None, otherwise: int | None = None, processes: Path = _PROCESSES) -> int:
    """The domain of the graph that a command is meant for: the one asked for, ROS_DOMAIN_ID, or the only one that runs.

    Args:
        otherwise: where none runs on this machine; None = that is an error.

    Raises:
        UserError: none runs on this machine, or several do.
    """
    if asked is not None:
        return asked
    told = os.environ.get("ROS_DOMAIN_ID", "")
    if told:
        if not told.isdecimal():
            raise UserError(f"ROS_DOMAIN_ID is {told!r}, expected a number", "export ROS_DOMAIN_ID=N, or --domain N", 2)
        return int(told)
    found = running_domains(processes)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"several graphs run here, in the domains {', '.join(map(str, found))}", f"name one: --domain {found[0]}", 2)
    if otherwise is None:
        raise UserError("no graph runs on this machine", "start one (./wm demo --view), or name the domain of another machine's: --domain N", 2)
    return otherwise


def _try_lock(file: Path) -> int | None:
    """File descriptor of the locked file (not inherited by child processes), or None when another holds it."""
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        return None  # another user's
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle

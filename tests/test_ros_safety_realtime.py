"""Real-time habits fall back and say so; nothing fails without the rights."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from wm_bridge.ros import realtime

CODE = """
import ctypes, os, resource, sys
{prepare}
from wm_bridge.ros import realtime
lacking = realtime.enter()
locked = [line for line in open("/proc/self/status") if line.startswith("VmLck")][0].split()[1]
assert (int(locked) > 0) is not any("memory" in line for line in lacking), (locked, lacking)
print(os.sched_getscheduler(0) == os.SCHED_FIFO, len(lacking), *lacking, sep="\\n")
"""
DROP_ALL = "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)"


def run(prepare: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", CODE.format(prepare=prepare)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give rights away")
def test_without_rights_every_lack_is_named_with_its_remedy_and_the_process_lives() -> None:
    limits = "resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0)); resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))"
    fifo, count, *lines = run(f"import wm_bridge.ros.realtime; {limits}; {DROP_ALL}")
    assert (fifo, count) == ("False", "2")
    assert "no real-time scheduling" in lines[0] and "rtprio" in lines[0] and "SYS_NICE" in lines[0]
    assert "memory is not locked (the limit is 0 MB, this process needs" in lines[1] and "memlock" in lines[1]


@pytest.mark.skipif(not realtime._has_capability(realtime._CAP_IPC_LOCK), reason="needs the right to lock memory")
@pytest.mark.parametrize("spare_kb", [8192, -32768])
def test_memory_is_locked_under_the_limit_that_the_remedy_names_and_not_under_a_lower_one(spare_kb: int) -> None:
    def under(limit: int) -> list[str]:
        pretended = f"import wm_bridge.ros.realtime as r; resource.getrlimit = lambda _: ({limit}, {limit}); r._has_capability = lambda _: False"
        return [line for line in run(pretended) if "memory" in line]

    (line,) = under(1 << 20)
    assert line.startswith("memory is not locked (the limit is 1 MB, this process needs ")
    need_kb = int(line.partition("allow memlock ")[2].split()[0])
    assert len(under((need_kb + spare_kb) * 1024)) == (spare_kb < 0)


def test_with_rights_the_threads_are_real_time_and_without_the_lack_is_named() -> None:
    allowed = run("try: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\nexcept OSError: pass\nprint(os.sched_getscheduler(0))")
    may = allowed[0] == str(os.SCHED_FIFO)
    fifo, _, *lines = run("")
    assert fifo == str(may)
    assert any("scheduling" in line for line in lines) is not may

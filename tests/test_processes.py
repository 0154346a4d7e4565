"""What is told of a process: its parent, its processor time, its age."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from wm_bridge.processes import look_at


def test_a_process_is_told_with_its_own_time_and_age() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint('done', flush=True)\ninput()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        assert child.stdout is not None and child.stdout.readline()
        found = look_at(child.pid)
        assert found is not None and found.parent == os.getpid()
        assert 0.25 <= found.cpu_s < 1.5 and found.cpu_s - 0.05 <= found.age_s
        time.sleep(0.2)
        later = look_at(child.pid)
        assert later is not None and later.age_s - found.age_s >= 0.19 and later.cpu_s == pytest.approx(found.cpu_s, abs=0.05)
    finally:
        child.kill()
        child.wait()
    assert look_at(child.pid) is None

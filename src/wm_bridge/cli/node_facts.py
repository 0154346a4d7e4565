"""What each node of a graph used and said, before it is stopped."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from wm_bridge.supervisor import Graph


def node_facts(graph: Graph) -> dict[str, dict[str, Any]]:
    """CPU time, s and % of one core (None: it has ended), log, count of warnings and the last three, of each node."""
    nodes = {}
    for name in graph.nodes:
        log = graph.log(name)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        loud = [line for line in lines if re.search(r"\[(WARN|ERROR|FATAL)\]|Traceback|what to do", line)]
        cpu = _cpu_seconds(graph.process(name).pid) if graph.alive(name) else None
        nodes[name] = {"cpu_s": cpu and cpu[0], "cpu_percent": cpu and cpu[1], "log": f"logs/{name}.log", "warnings": len(loud), "last_warnings": loud[-3:]}
    return nodes


def _cpu_seconds(pid: int) -> tuple[float, float] | None:
    """CPU time of a process, s, and its share of one core since it was started, %; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    tick = os.sysconf("SC_CLK_TCK")
    used = (int(fields[11]) + int(fields[12])) / tick
    age = float(Path("/proc/uptime").read_text().split()[0]) - int(fields[19]) / tick
    return round(used, 2), round(100 * used / max(age, 0.01), 1)

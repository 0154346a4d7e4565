"""What each node of a graph used and said, before it is stopped."""

from __future__ import annotations

import re
from typing import Any

from wm_bridge.processes import look_at
from wm_bridge.supervisor import Graph


def node_facts(graph: Graph) -> dict[str, dict[str, Any]]:
    """CPU time, s and % of one core (None: it has ended), log, count of warnings and the last three, of each node."""
    nodes = {}
    for name in graph.nodes:
        log = graph.log(name)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        loud = [line for line in lines if re.search(r"\[(WARN|ERROR|FATAL)\]|Traceback|what to do", line)]
        process = look_at(graph.process(name).pid) if graph.alive(name) else None
        cpu_s, percent = (round(process.cpu_s, 2), round(100 * process.cpu_s / max(process.age_s, 0.01), 1)) if process else (None, None)
        nodes[name] = {"cpu_s": cpu_s, "cpu_percent": percent, "log": f"logs/{name}.log", "warnings": len(loud), "last_warnings": loud[-3:]}
    return nodes

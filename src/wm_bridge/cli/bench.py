"""`./wm bench NAME`: measure one figure and print how it was measured; leaves a folder with a page."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path
from typing import Any

from wm_bridge.errors import UserError

BENCHES = {
    "reach": "closed loop in simulation: goal pictures reached; --shift, --ros",
    "push": "closed loop in simulation: the block pushed to where the picture shows it",
    "model": "open-loop error, controls, ranking and rank of the world model on held-out data",
    "plan": "time of one planning call",
    "peers": "the planner against stable-worldmodel's solvers on the same model: success, predictor steps, time",
    "ablation": "reach, with one part of the search switched off or changed at a time",
    "delay": "reach, with plans that arrive late, with and without compensation",
    "planner": "V-JEPA 2-AC: cached planning against the public planner (--reference DIR), scaling, full size",
    "finetune": "reach on a changed robot and view, before and after fine-tuning with 50 to 500 episodes",
    "trust": "trust monitor: false alarms in nominal episodes, faults noticed",
    "pipeline": "camera stamp to hardware command through the real graph",
    "camera": "a picture's stamp to its arrival, and the CPU of the camera node: simulated, OpenCV, RealSense recording",
    "faults": "break one thing at a time while the arm moves: does it stand, and how soon; --nightly",
    "safety": "filter: viability, distances, certificates, transparency, solver, time per tick",
    "bus": "NICO's servo bus on a pseudo-terminal: cycle, wire time, loop rate; --faults N: faults with N seeds each",
    "data": "a recorded run planned again: identical, how fast, ten defects noticed",
    "view": "the page in real browsers: STOP, pictures per second, what it costs the safety node",
    "startup": "seconds to the moving arm, size of .venv",
}


def main(argv: list[str]) -> int:
    """Hand over to the named benchmark."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: ./wm bench NAME [--json FILE] [--run FOLDER | --no-run] [arguments]\n")
        for name, text in BENCHES.items():
            print(f"  {name:<9} {text}")
        print("\nEach leaves runs/DATE-TIME-bench-NAME/ with report.json and report.html (./wm runs); --run names another folder, --no-run leaves none.")
        return 0
    name = argv[0]
    if name not in BENCHES:
        raise UserError(f"wm bench: there is no benchmark {name!r}", f"one of: {', '.join(BENCHES)}", exit_code=2)
    module = importlib.import_module(f"wm_bridge.bench.{name}")
    own, words = _own(argv[1:])
    if own.no_run:
        return int(module.main(words))
    from wm_bridge.report.runs import REPORT, new_folder

    folder = own.run or new_folder("bench", name)
    kept, begin = own.json or folder / REPORT, time.monotonic()
    before = kept.stat().st_mtime_ns if kept.is_file() else 0
    code = int(module.main(words if own.json else [*words, "--json", str(kept)]))
    if kept.is_file() and kept.stat().st_mtime_ns != before:
        _keep(folder, json.loads(kept.read_text(encoding="utf-8")), [name, *words], time.monotonic() - begin)
    return code


def _own(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The arguments about the folder, and all words that the benchmark gets; a ``--json`` of the user's stays among them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--run", type=Path)
    which.add_argument("--no-run", action="store_true")
    own, words = parser.parse_known_args(argv)
    at = words.index("--json") if "--json" in words else len(words)
    file = next(iter(words[at + 1 :]), "-")
    if at < len(words) and file.startswith("-"):  # without a name: into the folder
        del words[at]
    own.json = next((Path(word[7:]) for word in words if word.startswith("--json=")), None if file.startswith("-") else Path(file))
    return own, words


def _keep(folder: Path, report: dict[str, Any], words: list[str], took_s: float) -> None:
    """The figures with what was asked for, and their page."""
    from wm_bridge.report import bench as page
    from wm_bridge.report.runs import PAGE, write_report

    report |= {"took_s": round(took_s, 1), "configuration": {"arguments": " ".join(words)}}
    write_report(folder, report)
    page.write(folder / PAGE, report)
    print(f"page {folder / PAGE}")

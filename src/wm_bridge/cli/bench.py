"""`./wm bench NAME`: measure one figure and print how it was measured."""

from __future__ import annotations

import importlib

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
    "startup": "seconds to the moving arm, size of .venv",
}


def main(argv: list[str]) -> int:
    """Hand over to the named benchmark."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: ./wm bench NAME [--json FILE] [arguments]\n")
        for name, text in BENCHES.items():
            print(f"  {name:<9} {text}")
        return 0
    name = argv[0]
    if name not in BENCHES:
        raise UserError(f"wm bench: there is no benchmark {name!r}", f"one of: {', '.join(BENCHES)}", exit_code=2)
    return importlib.import_module(f"wm_bridge.bench.{name}").main(argv[1:])

"""The table of commands. Read by the bootstrap (help without an environment) and by `main`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from wm_bridge.errors import UserError


@dataclass(frozen=True)
class Command:
    """One word after `./wm`.

    Attributes:
        module: dotted name of a module with `main(argv: list[str]) -> int`.
        help: one line.
        needs: requirements file besides base.txt that is installed before its first start; "" = none.
    """

    module: str
    help: str
    needs: str = ""


COMMANDS = {
    "demo": Command("wm_bridge.cli.demo", "a simulated NICO reaches a goal picture; leaves a bag, a video and a report"),
    "robot": Command("wm_bridge.cli.robot", "the graph on a robot, a dry run unless --live: NICO, NICOL, any arm on ros2_control"),
    "view": Command("wm_bridge.cli.view", "a page in the browser for a running graph: what it sees, why it moves, goals, STOP"),
    "goal": Command("wm_bridge.cli.goal", "give goals to a running graph (picture, camera, bag, joints, pose, a YAML list) and follow them"),
    "test": Command("wm_bridge.cli.test_suite", "run the whole test suite (arguments go to pytest)"),
    "doctor": Command("wm_bridge.cli.doctor", "what is here and what is missing, with the remedy (--json)"),
    "docs": Command("wm_bridge.docs.main", "all documents as a site, with the reference of messages and parameters (--serve)", "docs.txt"),
    "bench": Command("wm_bridge.cli.bench", "measure one figure: reach, push, model, plan, planner, trust, data, pipeline, camera, bus, view, startup, safety, faults"),
    "record": Command("wm_bridge.cli.record", "everything that a running graph says into a bag; marks of success and failure; --mend BAG"),
    "play": Command("wm_bridge.cli.play", "move an arm of a running graph through its whole workspace, to learn a world model from it"),
    "replay": Command("wm_bridge.cli.replay", "a recorded bag through planner and safety filter again; --golden FILE says what differs"),
    "runs": Command("wm_bridge.cli.runs", "what was run here, with figures and pages; show RUN, compare A B: figures, configuration, versions"),
    "new-robot": Command("wm_bridge.cli.new_robot", "the files that describe an arm here, from its URDF; says what is left to fill in"),
    "verify-joints": Command("wm_bridge.robots.dynamixel.verify", "confirm direction and zero of each joint of a real robot, a few degrees at a time"),
    "bus-sim": Command("wm_bridge.robots.dynamixel.bus_process", "the servos of a robot on a pseudo-terminal: try the driver without the robot"),
    "calibrate-camera": Command("wm_bridge.cli.calibrate_camera", "how a camera sees and where it is, from pictures of a printed board"),
    "calibrate-axes": Command("wm_bridge.cli.calibrate_axes", "how a model's action axes lie to the robot, from a few small moves"),
    "landscape": Command("wm_bridge.cli.landscape", "the energy around a frame over two or three action axes, as a picture"),
    "collect": Command("wm_bridge.cli.collect", "record simulated play as training data"),
    "dataset": Command("wm_bridge.cli.dataset", "recorded bags, or a LeRobot dataset, become training data with a report of their quality", "data.txt"),
    "import-weights": Command("wm_planner.vjepa.import_weights", "check published V-JEPA weights and convert them, offline"),
    "train": Command("wm_bridge.cli.train", "train the world model from recorded play, or fine-tune a checkpoint (--from)"),
    "models": Command("wm_planner.registry", "which checkpoints there are, their lineage and figures"),
    "compare": Command("wm_bridge.cli.compare", "which of two checkpoints predicts better on held-out episodes, with intervals"),
    "train-ac": Command("wm_bridge.cli.train_ac", "train an action-conditioned predictor over a frozen encoder"),
    "refine": Command("wm_bridge.cli.refine", "second training stage: predictor and prior on frozen latents"),
    "calibrate-trust": Command("wm_bridge.cli.calibrate_trust", "what is usual for robot, camera and model, from bags or simulation"),
    "eval": Command("wm_planner.evaluate", "score a checkpoint on held-out data"),
}


def usage() -> str:
    """The help text of `./wm`."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
    return (
        "usage: ./wm COMMAND [arguments]\n\n"
        f"{lines}\n\n"
        "./wm COMMAND --help shows the arguments of one command.\n"
        "The first start makes .venv (a few minutes); later ones start at once."
    )


def find(name: str) -> Command:
    """The command of this name.

    Raises:
        UserError: for an unknown name; it names the nearest one.
    """
    if name in COMMANDS:
        return COMMANDS[name]
    near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    remedy = f"did you mean: ./wm {near[0]}" if near else "./wm --help lists the commands"
    raise UserError(f"wm: there is no command {name!r}", remedy, exit_code=2)

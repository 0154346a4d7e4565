"""`./wm train-ac`: a predictor of one's own over a frozen encoder, told the motion of joints or of the tool."""

from __future__ import annotations

from wm_bridge.core.effector import EffectorMotion
from wm_bridge.errors import UserError
from wm_bridge.report import short
from wm_bridge.report.runs import new_folder
from wm_bridge.robots import spec as robots
from wm_planner.config import ACTION_SPACES
from wm_planner.data import Dataset
from wm_planner.errors import PlannerError
from wm_planner.vjepa import fit


def main(argv: list[str]) -> int:
    """Train and write one predictor."""
    parser = fit.make_parser()
    parser.add_argument("--actions", choices=ACTION_SPACES, default="joints", help="what the predictor is told (default joints)")
    parser.add_argument("--robot", default="nico", help="name in config/robots, for end_effector (default nico)")
    args = parser.parse_args(argv)
    try:
        data, forward = Dataset(args.data), None
        if args.actions == "end_effector":
            forward = EffectorMotion(robots.load(args.robot), tuple(data.meta["joint_names"]), float(data.meta["period_s"])).frames
        card = fit.train(args, data, forward)
    except (PlannerError, ValueError) as error:
        raise UserError(str(error), "see ./wm train-ac --help", 2) from error
    figures = {name: value for name, value in card.items() if name.startswith("held_out")} | {"steps": card["train"]["steps"]}
    configuration = {"arguments": " ".join(argv), **{name: card[name] for name in ("train", "encoder", "actions", "joint_names")}}
    page = short.make(new_folder("train-ac", args.out.stem), "training", args.out.stem, f"wrote {args.out}", figures, configuration)
    print(f"page {page}")
    return 0

"""`./wm calibrate-axes`: how a model's action axes lie to the robot, from a few small moves (in simulation).

The model sees the arm before and after each move and says which move explains the second picture best; the rotation
between those and the moves that were made is written to a file, which the planner node (`axes`) and the planner
(`R_base_action`) apply. On a robot the planner node does the same: parameter `probe_axes`, then any goal.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge import resources
from wm_bridge.core.axes import angle_deg, between_deg, estimate_axes
from wm_bridge.core.axes_probe import AxesProbe, Look
from wm_bridge.core.effector import EffectorMotion, give_kinematics
from wm_bridge.core.types import FloatArray
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.safety.clearance import Clearance
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.sim.closed_loop import LoopSettings, run_episode
from wm_bridge.sim.play import ARM
from wm_bridge.sim.sampling import sample_reachable
from wm_bridge.sim.world import SimWorld

POSTURES = 3
MOVE_S = 1.6  # of one move, until the arm rests again


def main(argv: list[str]) -> int:
    """Calibrate, check on new moves, write the file."""
    args = parse(argv)
    spec = robots.load(args.robot)
    world, planner = SimWorld(spec), load_planner(args, spec)
    motion = EffectorMotion(spec, planner.joint_names, planner.period_s)
    planner.intrusion = Clearance(spec, SafetyConfig.load(spec.safety_path()), planner.joint_names)
    give_kinematics(planner, spec)
    world.turn_camera(args.turn_camera)
    rng = np.random.default_rng(args.seed)
    seen, new = (probe(world, planner, motion, rng, args) for _ in range(2))
    try:
        found = estimate_axes(seen.sent, seen.believed, rng)
    except ValueError as error:
        raise UserError(f"the axes could not be calibrated: {error}", "mend that, or plan without a calibration") from error
    before, after = (float(between_deg(new.sent, new.believed @ R.T).mean()) for R in (np.eye(3), found.rotation))
    if after >= before:  # it would not help
        found = dataclasses.replace(found, R_base_action=tuple(np.eye(3).ravel().tolist()))
    axes = dataclasses.replace(found, robot=spec.name, model=planner.name, **energies(seen, args.tolerance_m))
    axes.write(args.out)
    print(f"moves seen: {axes.moves}; the model's axes are turned by {axes.angle_deg:.1f} deg (standard error {axes.error_deg:.1f})"
          + ("" if axes.turns else ", which is too little to tell from none or of no use for the new moves: not turned"))
    print(f"where there was no move it believes in {1e3 * np.linalg.norm(seen.at_rest.mean(axis=0)):.0f} mm: taken off")
    if args.turn_camera or args.turn_axes:
        turn = about_vertical(args.turn_camera + args.turn_axes)
        print(f"turned by {args.turn_camera + args.turn_axes:.1f} deg for this run: the estimate is {angle_deg(axes.rotation @ turn.T):.1f} deg away from that")
    print(f"angle between made and believed moves, {len(new.sent)} new ones: {before:.1f} deg before, {after:.1f} deg after")
    if axes.tolerance_energy:
        print(f"energy: {axes.still_energy:.4g} at rest, {axes.tolerance_energy:.4g} at {axes.tolerance_m:.3f} m")
    print(f"wrote {args.out}")
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="wm calibrate-axes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/axes.yaml"), help="file to write (default %(default)s)")
    parser.add_argument("--robot", default="nico", help="name or YAML file")
    parser.add_argument("--checkpoint", type=Path, help="compact or V-JEPA 2-AC model (default: the one that ships)")
    parser.add_argument("--encoder", type=Path, help="V-JEPA 2-AC: its encoder, when the checkpoint holds none")
    parser.add_argument("--moves", type=int, default=36, help="how many (default %(default)s)")
    parser.add_argument("--size-m", type=float, default=0.04, help="length of each (default %(default)s)")
    parser.add_argument("--tolerance-m", type=float, default=0.02, help="V-JEPA 2-AC: distance whose energy is measured")
    parser.add_argument("--turn-camera", type=float, default=0.0, metavar="DEG", help="carry the camera round the scene by so much first")
    parser.add_argument("--turn-axes", type=float, default=0.0, metavar="DEG", help="take the model's axes for turned about the vertical by so much")
    parser.add_argument("--seed", type=int, default=0, help="of postures and sensor noise")
    args = parser.parse_args(argv)
    if args.moves < 8 or not 0.005 <= args.size_m <= 0.1:
        parser.error("--moves must be at least 8 and --size-m in 0.005..0.1")
    return args


def load_planner(args: argparse.Namespace, spec: robots.RobotSpec, action_space: str = "end_effector") -> Any:
    """The planner of ``args.checkpoint``."""
    from wm_planner.config import PlannerConfig, load_config
    from wm_planner.mpc import Planner
    from wm_planner.vjepa.planner import ACPlanner
    from wm_planner.vjepa.store import is_imported
    from wm_planner.weights import shipped_checkpoint

    path = args.checkpoint or shipped_checkpoint(spec.name)
    changes = {"action_space": action_space, "threads": 1}
    if not is_imported(path):
        return Planner.load(path, load_config(PlannerConfig, resources.path("config/compact_planner.yaml"), changes), args.seed)
    config = load_config(PlannerConfig, resources.path("config/vjepa_planner.yaml"), changes)
    index = spec.indices(ARM)
    limits = spec.lower[index], spec.upper[index], spec.velocity[index]
    return ACPlanner.load(path, config, tuple(spec.groups[ARM]), limits, args.encoder, args.seed)


def believing(planner: Any, size_m: float) -> Any:
    """What the probe asks the model, as a function of two looks."""
    from wm_planner.axes import Glimpse, believed_move

    def believe(before: Look, after: Look) -> FloatArray:
        one, other = (Glimpse(look.image, look.position, look.reference) for look in (before, after))
        return believed_move(planner, one, other, size_m)

    return believe


@dataclass(frozen=True)
class Seen:
    """Moves (N, 3) m as made and as believed, and what pictures of them look like to the model.

    at_rest: (M, 3) m, believed where there was no move.
    still: energies between two pictures of the resting arm; slope: their growth per m of a move; empty where not known.
    """

    sent: FloatArray
    believed: FloatArray
    at_rest: FloatArray
    still: FloatArray
    slope: FloatArray


def probe(world: SimWorld, planner: Any, motion: EffectorMotion, rng: np.random.Generator, args: argparse.Namespace) -> Seen:
    """Make the moves, a third of them from each of three reachable postures."""
    sent, believed, at_rest, still, slope = [], [], [], [], []
    turned = about_vertical(args.turn_axes)
    used = 0
    for _ in range(4 * POSTURES):
        count, believe = -(-args.moves // POSTURES), believing(planner, args.size_m)
        part = AxesProbe(planner, motion, believe, count, args.size_m, first=len(sent), config=None)
        world.reset(sample_reachable(world, rng), objects={})
        settings = LoopSettings(duration_s=1.0 + MOVE_S * (1 + count))
        run_episode(world, part, world.render("front", settings.width, settings.height), rng, SafetyConfig.load(), settings)
        used += bool(part.sent)  # none where no direction was free
        sent += part.sent
        believed += [turned.T @ move for move in part.believed]
        at_rest += part.at_rest
        if hasattr(planner, "apart"):
            rest = [planner.apart(look.earlier, look.image) for look in part.looks]
            still += rest
            for one, other, move in zip(part.looks, part.looks[1:], part.sent, strict=False):
                slope.append((planner.apart(one.image, other.image) - np.median(rest)) / max(1e-6, np.linalg.norm(move)))
        if used == POSTURES:
            break
    return Seen(np.array(sent), np.array(believed), np.array(at_rest), np.array(still), np.array(slope))


def energies(seen: Seen, tolerance_m: float) -> dict[str, float]:
    """What a frame ``tolerance_m`` from the goal costs: as at rest, and the share of a whole move."""
    if not len(seen.slope):
        return {}
    still = float(np.median(seen.still))
    return {"still_energy": still, "tolerance_energy": still + float(np.median(seen.slope)) * tolerance_m, "tolerance_m": tolerance_m}


def about_vertical(degrees: float) -> FloatArray:
    """Rotation (3, 3) about z."""
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])

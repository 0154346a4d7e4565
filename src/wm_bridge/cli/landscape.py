"""`./wm landscape`: the energy around one frame, over two or three action axes, as a PNG.

Frame and goal are drawn in simulation from a seed, or two pictures and the joints of the first. In the running graph the
parameter `landscape` of the planner node shows the same in RViz at every plan (topic wm/landscape).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from wm_bridge.bench.reach import draw_task
from wm_bridge.cli.calibrate_axes import load_planner
from wm_bridge.core.effector import give_kinematics
from wm_bridge.core.types import FloatArray, ImageArray
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.sim.play import ARM
from wm_bridge.sim.world import SimWorld
from wm_planner.landscape import Landscape, Survey


def main(argv: list[str]) -> int:
    """Compute, draw, and say how long it took."""
    args = parse(argv)
    spec = robots.load(args.robot)
    on_joints = set(args.axes) <= set(spec.joint_names)
    planner = load_planner(args, spec, "joints" if on_joints else "end_effector")
    give_kinematics(planner, spec)
    image, goal, joints = from_pictures(args, len(planner.joint_names)) if args.image else from_simulation(args, spec)
    planner.set_goal(planner.encode_goal(goal))
    survey = Survey(planner, args.axes, args.size, args.extent or (0.4 if on_joints else 0.1))
    found = [survey.look(image, joints, joints) for _ in range(args.repeat)]
    times = 1e3 * np.array([one.seconds for one in found])
    last = found[-1]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(last).savefig(args.out, dpi=120)
    least = ", ".join(f"{name} {last.values[k, i]:+.3f} {last.units[k]}" for k, (name, i) in enumerate(zip(last.names, last.best, strict=True)))
    print(f"{' x '.join([str(args.size)] * len(last.names))} = {last.energies.size} plans of {planner.config.horizon} periods")
    print(f"time: {np.median(times):.1f} ms (median of {args.repeat}, fastest {times.min():.1f}; encoding and kinematics included)")
    print(f"energy: {np.nanmin(last.energies):.4f} at {least}; highest {np.nanmax(last.energies):.4f}")
    print(f"wrote {args.out}")
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="wm landscape", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", default=["x", "y"], help="of x y z turn_x turn_y turn_z, or joints by name (default: x y)")
    parser.add_argument("--size", type=int, default=11, help="points per axis (default %(default)s)")
    parser.add_argument("--extent", type=float, help="largest change over the whole plan, m or rad (default 0.1 m or 0.4 rad)")
    parser.add_argument("--seed", type=int, default=0, help="of start and goal in simulation")
    parser.add_argument("--image", type=Path, help="picture of the present; with --goal and --joints instead of the simulation")
    parser.add_argument("--goal", type=Path, help="goal picture")
    parser.add_argument("--joints", type=float, nargs="+", help="joints of --image, rad")
    parser.add_argument("--repeat", type=int, default=5, help="for the time (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/landscape.png"), help="PNG to write (default %(default)s)")
    parser.add_argument("--robot", default="nico", help="name or YAML file")
    parser.add_argument("--checkpoint", type=Path, help="compact or V-JEPA 2-AC model (default: the one that ships)")
    parser.add_argument("--encoder", type=Path, help="V-JEPA 2-AC: its encoder, when the checkpoint holds none")
    args = parser.parse_args(argv)
    if args.repeat < 1 or len({args.image is None, args.goal is None, args.joints is None}) > 1:
        parser.error("--repeat must be at least 1; --image, --goal and --joints go together")
    return args


def from_simulation(args: argparse.Namespace, spec: robots.RobotSpec) -> tuple[ImageArray, ImageArray, FloatArray]:
    """Present picture, goal picture and joints (A,) of a start and a goal drawn from the seed."""
    world = SimWorld(spec)
    task = draw_task(world, np.random.default_rng(np.random.SeedSequence([args.seed, 0])))
    pictures = []
    for pose in (task.start, task.goal):
        world.reset(pose, objects={})
        pictures.append(world.render("front", 320, 240))
    world.close()
    return pictures[0], pictures[1], task.start[spec.indices(ARM)]


def from_pictures(args: argparse.Namespace, joints: int) -> tuple[ImageArray, ImageArray, FloatArray]:
    """The same from files."""
    pictures = [cv2.imread(str(path), cv2.IMREAD_COLOR) for path in (args.image, args.goal)]
    if any(picture is None for picture in pictures):
        raise UserError(f"{args.image} or {args.goal} is no picture", "give PNG or JPEG files", exit_code=2)
    if len(args.joints) != joints:
        raise UserError(f"--joints has {len(args.joints)} numbers, the model controls {joints} joints", "give one per joint, rad", exit_code=2)
    now, goal = (cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in pictures)
    return now, goal, np.array(args.joints)


def draw(landscape: Landscape) -> Figure:
    """Colours over the first two axes, one panel for each of up to five values of a third one."""
    three = len(landscape.names) == 3
    slices = np.unique(np.linspace(0, landscape.values.shape[1] - 1, 5).round().astype(int)) if three else np.array([0])
    figure = Figure(figsize=(4.2 * len(slices) + 1.2, 4.2), layout="constrained")
    low, high = float(np.nanmin(landscape.energies)), float(np.nanmax(landscape.energies))
    panels: Any = figure.subplots(1, len(slices), squeeze=False)[0]
    best = landscape.best
    for panel, index in zip(panels, slices, strict=True):
        energies = landscape.energies[..., index] if three else landscape.energies
        x, y = landscape.values[:2]
        shown = panel.contourf(x, y, energies.T, levels=np.linspace(low, high + 1e-12, 25), cmap="viridis")
        panel.plot(0.0, 0.0, "w+", markersize=10)
        if not three or best[2] == index:
            panel.plot(x[best[0]], y[best[1]], "r*", markersize=12)
        panel.set_xlabel(f"{landscape.names[0]} [{landscape.units[0]}]")
        panel.set_ylabel(f"{landscape.names[1]} [{landscape.units[1]}]")
        if three:
            panel.set_title(f"{landscape.names[2]} {landscape.values[2, index]:+.3f} {landscape.units[2]}")
    figure.colorbar(shown, ax=list(panels), label="energy")
    return figure

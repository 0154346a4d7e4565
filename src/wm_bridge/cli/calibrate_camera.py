"""`./wm calibrate-camera`: how a camera sees (intrinsics) and where it is (hand-eye), from pictures of a ChArUco board.

  ./wm calibrate-camera --print-board board.pdf
  ./wm calibrate-camera intrinsics --live --camera camera --out eye.yaml
  ./wm calibrate-camera hand-eye --live --intrinsics eye.yaml --camera-on base_link --board-on r_tool --out where.yaml

It only listens: the robot is moved by hand, or by goals through the safety node. Then `calibration: eye.yaml` and
`extrinsics: where.yaml` are parameters of the camera node.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from wm_bridge.calibration import hand_eye, intrinsics
from wm_bridge.calibration.board import Board, CalibrationError, find_all, require
from wm_bridge.calibration.paper import describe, print_board
from wm_bridge.calibration.taker import Taker
from wm_bridge.calibration.views import link_poses, read_folder, write_folder
from wm_bridge.cameras.base import CameraInfo
from wm_bridge.cameras.calibration import read_calibration, write_calibration
from wm_bridge.cameras.extrinsics import Extrinsics, write_extrinsics
from wm_bridge.errors import UserError


def parse(argv: list[str]) -> argparse.Namespace:
    """Arguments; a wrong one ends the program with code 2."""
    parser = argparse.ArgumentParser(prog="./wm calibrate-camera", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("intrinsics", "hand-eye"), help="what is wanted")
    parser.add_argument("--print-board", type=Path, metavar="FILE", help="write the board as .pdf or .png in its true size, and end")
    parser.add_argument("--paper", default="", help="A4, A3, A2 or letter (default: the smallest that fits)")
    board = parser.add_argument_group("the board")
    board.add_argument("--squares", default="8x6", metavar="CxR", help="columns x rows (default 8x6)")
    board.add_argument("--square-mm", type=float, default=30.0, help="edge of a square, measured on paper (default 30)")
    board.add_argument("--marker-mm", type=float, default=22.0, help="edge of a marker (default 22)")
    board.add_argument("--dictionary", default="4X4_50", help="of the markers (default 4X4_50)")
    board.add_argument("--legacy", action="store_true", help="printed by a program older than OpenCV 4.6")
    source = parser.add_argument_group("where the pictures come from")
    one = source.add_mutually_exclusive_group()
    one.add_argument("--live", action="store_true", help="the running graph; guides you from view to view")
    one.add_argument("--bag", type=Path, help="a recording of the graph")
    one.add_argument("--pictures", type=Path, metavar="FOLDER", help="pictures; for hand-eye with joints.yaml: a.png: {joint: rad, ...}")
    one.add_argument("--simulate", action="store_true", help="hand-eye: the simulated robot with a board in its hand; tells the true error as well")
    source.add_argument("--seed", type=int, default=0, help="--simulate: of the postures and of the joints' errors")
    source.add_argument("--camera", default="camera", help="camera node, in a graph or bag (default camera)")
    source.add_argument("--views", type=int, default=25, help="--live ends after so many (default 25)")
    source.add_argument("--seconds", type=float, default=1800.0, help="--live: longest time")
    source.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the views there, for --pictures")
    lens = parser.add_argument_group("intrinsics")
    lens.add_argument("--model", choices=("plumb_bob", "equidistant"), default="plumb_bob", help="equidistant: a fisheye")
    lens.add_argument("--name", default="camera", help="camera_name in the file")
    place = parser.add_argument_group("hand-eye")
    place.add_argument("--robot", default="nico", help="name in config/robots, or a YAML file (default nico)")
    place.add_argument("--intrinsics", type=Path, help="calibration file (default: camera_info of graph or bag)")
    place.add_argument("--camera-on", default="", metavar="LINK", help="link that carries the camera (default: the robot's base)")
    place.add_argument("--board-on", default="", metavar="LINK", help="link that carries the board (default: the tool of the first arm)")
    place.add_argument("--frame-id", default="", help="optical frame of the camera (default: CAMERA_optical)")
    place.add_argument("--accept-mm", type=float, default=15.0, help="worst held-out error, mm (default 15)")
    place.add_argument("--accept-deg", type=float, default=2.0, help="the same in degrees (default 2)")
    parser.add_argument("--out", type=Path, help="file to write (default: intrinsics.yaml or extrinsics.yaml)")
    args = parser.parse_args(argv)
    if not args.what and not args.print_board:
        parser.error("say intrinsics or hand-eye, or --print-board FILE")
    if args.what and not (args.live or args.bag or args.pictures or args.simulate):
        parser.error("say where the pictures come from: --live, --bag, --pictures or --simulate")
    if args.simulate and args.what != "hand-eye":
        parser.error("--simulate is for hand-eye")
    return args


def main(argv: list[str]) -> int:
    """Run the command."""
    args = parse(argv)
    try:
        columns, rows = (int(part) for part in args.squares.lower().split("x"))
    except ValueError as error:
        raise UserError(f"--squares is {args.squares!r}", "give columns x rows, as in --squares 8x6", 2) from error
    board = Board(columns, rows, args.square_mm * 1e-3, args.marker_mm * 1e-3, args.dictionary, args.legacy)
    if args.print_board:
        paper = print_board(board, args.print_board, args.paper)
        print(f"wrote {args.print_board}: print it on {paper} at 100 %, glue it onto something flat and stiff, measure it")
        print(f"then: {describe(board)}")
        return 0
    return find_intrinsics(args, board) if args.what == "intrinsics" else find_place(args, board)


def views(args: argparse.Namespace, board: Board, joints: bool, info: CameraInfo | None) -> Taker:
    """Shots with the board in them, from wherever the arguments say."""
    taker = Taker(board, joints, info)
    if args.pictures:
        shots = read_folder(args.pictures, joints)
        taker.seen, taker.without = find_all(board, [(shot.name, shot.picture) for shot in shots])
        names = {seen.name for seen in taker.seen}
        taker.shots = [shot for shot in shots if shot.name in names]
    elif args.bag:
        from wm_bridge.cli.calibration_bag import read_bag

        read_bag(taker, args.bag, args.camera, joints)
    else:
        from wm_bridge.cli.calibration_live import listen

        listen(taker, args.camera, joints, args.views, args.seconds)
    if args.keep:
        write_folder(args.keep, taker.shots)
        print(f"kept {len(taker.shots)} views in {args.keep}")
    return taker


def find_intrinsics(args: argparse.Namespace, board: Board) -> int:
    """Print and write how the camera sees."""
    taker = views(args, board, False, None)
    require(len(taker.seen), intrinsics.LEAST_VIEWS, board, taker.without)
    found = intrinsics.calibrate(taker.seen, board, args.model)
    info = found.info
    notes = {
        "by": f"./wm calibrate-camera intrinsics, {time.strftime('%Y-%m-%d')}, {describe(board)}",
        "views": f"{found.views}; left out: {', '.join(found.rejected) or 'none'}; without the board: {len(taker.without)}",
        "reprojection": f"{found.rms_px:.3f} pixels; {found.held_out_px:.3f} in views that were left out of the fit",
        "focal length": f"{info.K[0, 0]:.2f} x {info.K[1, 1]:.2f} pixels, standard error {100 * found.focal_spread:.2f} %",
        "picture covered": f"{100 * found.coverage:.0f} %",
    }
    path = args.out or Path("intrinsics.yaml")
    _show(notes)
    if found.coverage < 0.6:
        print("  - corners were seen in part of the picture only: at its edges the distortion is a guess")
    write_calibration(path, info, args.name, notes)
    print(f"wrote {path}; camera node: calibration:={path} width:={info.width} height:={info.height}")
    return 0


def find_place(args: argparse.Namespace, board: Board) -> int:
    """Print and write where the camera is."""
    from wm_bridge.robots import spec as robots

    try:
        spec = robots.load(args.robot)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(str(error), "name a robot of config/robots: --robot", 2) from error
    camera_on, board_on = args.camera_on or spec.base_frame, args.board_on or next(iter(spec.tools.values()))
    info, truth = read_calibration(args.intrinsics) if args.intrinsics else None, None
    if args.simulate:
        from wm_bridge.calibration.simulated import simulate

        scene = simulate(spec, board, camera_on, board_on, args.seed)
        taker, info, truth = scene.taker, scene.info, scene.T_link_camera
    else:
        taker = views(args, board, True, info)
        info = info or taker.info
    if info is None:
        raise CalibrationError("the camera's intrinsics are not known", "find them first: ./wm calibrate-camera intrinsics; then --intrinsics FILE", 2)
    require(len(taker.seen), hand_eye.LEAST_VIEWS, board, taker.without)
    poses = link_poses(spec, taker.shots, spec.home, camera_on, board_on)
    pairs = [hand_eye.View(seen, A) for seen, A in zip(taker.seen, poses, strict=True)]
    found = hand_eye.calibrate(pairs, replace(info, frame_id=""), board, args.accept_mm, args.accept_deg)
    where = extrinsics(found, camera_on, args.frame_id or f"{args.camera}_optical")
    notes = {
        "by": f"./wm calibrate-camera hand-eye, {time.strftime('%Y-%m-%d')}, {spec.name}, board on {board_on}, {describe(board)}",
        "views": f"{found.views}; left out: {', '.join(found.rejected) or 'none'}; without the board: {len(taker.without)}",
        "held-out error": f"{found.held_out_mm:.2f} mm, {found.held_out_deg:.3f} degrees (of the board, in views left out of the fit)",
        "standard error of this pose": f"{found.position_mm:.2f} mm, {found.rotation_deg:.3f} degrees",
        "of it the robot's joints": f"bring the board {found.joints_mm:.2f} mm, {found.joints_deg:.3f} degrees off",
        "reprojection": f"{found.reprojection_px:.2f} pixels; size of the board by the robot's motion: {found.scale:.4f} of that given",
    }
    _show(notes)
    if truth is not None:
        from wm_bridge.calibration.poses import angle_deg

        mm = 1e3 * float(np.linalg.norm(found.T_link_camera[:3, 3] - truth[:3, 3]))
        print(f"  true error: {mm:.2f} mm, {angle_deg(found.T_link_camera[:3, :3].T @ truth[:3, :3]):.3f} degrees")
    path = args.out or Path("extrinsics.yaml")
    write_extrinsics(path, where, notes)
    print(f"wrote {path}: {where.frame_id} on {where.parent_frame}; camera node: extrinsics:={path}")
    return 0


def extrinsics(found: hand_eye.HandEye, link: str, frame_id: str) -> Extrinsics:
    """The result as the camera node reads it."""
    from transforms3d.quaternions import mat2quat

    w, x, y, z = mat2quat(found.T_link_camera[:3, :3])
    return Extrinsics(link, frame_id, found.T_link_camera[:3, 3], np.array([x, y, z, w]))


def _show(notes: dict[str, str]) -> None:
    for name, text in notes.items():
        print(f"  {name}: {text}")

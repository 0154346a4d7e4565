"""`./wm replay BAG`: a recording through planner and safety filter again; what they decide, and where it differs."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import yaml

from wm_bridge.core.goal_forms import FORMS
from wm_bridge.core.goal_kinds import Asked, BagFrame, PictureGoal
from wm_bridge.errors import UserError
from wm_bridge.replay.guarding import Guarded, guard
from wm_bridge.replay.recorded import Recorded, read
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.replay import Report

_NO_PERIOD = 0.1  # s, of plans, where there are none


def replay_safety(bag: Path, recorded: Recorded, config: SafetyConfig | None = None) -> Guarded:
    """The safety filter alone: all sessions of the safety node in a bag.

    Raises:
        UserError: there is nothing in it that can be replayed.
    """
    guarded = guard(recorded, (), _NO_PERIOD, config)
    if guarded.problem:
        raise UserError(f"{bag}: {guarded.problem}", "record with ./wm record, ./wm demo or the recorder node of this version, from before the safety node or a minute after it at most", 2)
    return guarded


def main(argv: list[str]) -> int:
    """Run the command; 0: the same bits as recorded and, when asked, as in the golden file; 1: a difference."""
    arguments = _parse(argv)
    if arguments.ros:
        from wm_bridge.cli.replay_ros import play

        return play(arguments.bag, arguments.speed or 1.0, arguments.namespace, arguments.camera, arguments.checkpoint, arguments.json)
    try:
        config = SafetyConfig.load(arguments.config) if arguments.config else None
    except (OSError, ValueError) as error:
        raise UserError(f"{arguments.config}: {error}", "correct the file", 2) from error
    recorded = read(arguments.bag, arguments.namespace, arguments.camera)
    lacking = [what for what, there in (("pictures", recorded.pictures), ("goals", recorded.goals or arguments.goal)) if not there]
    if arguments.safety_only or (lacking and recorded.sessions and not arguments.golden):
        for note in recorded.notes:
            print(f"! {note}")
        if lacking:
            print(f"the bag holds no {' and no '.join(lacking)}: only the safety filter is run again")
        guarded = replay_safety(arguments.bag, recorded, config)
        figures: dict[str, Any] = {}
        code = 0
    else:
        code, guarded, figures = _plan(arguments, config)
    for number, report in enumerate(guarded.reports, 1):
        print((f"start {number} of the safety node: " if len(guarded.reports) > 1 else "") + text(report))
    if arguments.json:
        wrong = any(report.wrong for report in guarded.reports)
        found = {"replay_identical": int(not wrong), "sessions": [_session(report) for report in guarded.reports], **figures}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(code or any(report.wrong for report in guarded.reports))


def _plan(arguments: argparse.Namespace, config: SafetyConfig | None) -> tuple[int, Guarded, dict[str, Any]]:
    from wm_bridge.planner_setup import PlannerSetup
    from wm_bridge.replay import golden, page
    from wm_bridge.replay.run import ReplaySettings, replay_planner
    from wm_bridge.replay.summary import summarise

    changes = {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in arguments.set)}
    setup = PlannerSetup(str(arguments.checkpoint or ""), search=str(arguments.search or ""), seed=arguments.seed or 0, changes=changes)
    settings = ReplaySettings(
        setup, arguments.robot, config, _goal(arguments.goal), arguments.speed, arguments.namespace, arguments.camera, arguments.seed is None
    )
    replay = replay_planner(arguments.bag, settings)
    summary, comparison = summarise(replay), None
    print(page.text(replay, summary))
    if arguments.golden and arguments.update:
        golden.write(arguments.golden, replay)
        print(f"wrote {arguments.golden}")
    elif arguments.golden:
        comparison = golden.compare(arguments.golden, replay, arguments.tolerance)
        print(comparison)
    if arguments.html:
        page.write_html(arguments.html, replay, summary, comparison)
        print(f"wrote {arguments.html}")
    figures = {name: value if math.isfinite(value) else None for name, value in summary.figures.items()}
    figures |= {"notes": list(replay.notes)} | ({"golden_different": comparison.different} if comparison else {})
    return int(comparison is not None and not comparison.same), replay.guarded, figures


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./wm replay", description=__doc__)
    parser.add_argument("bag", type=Path, help="folder of a bag, for example runs/demo-.../bag, or its mcap or db3 file")
    parser.add_argument("--golden", type=Path, metavar="FILE", help="compare all decisions with this file; the exit code says whether they are the same")
    parser.add_argument("--update", action="store_true", help="write the golden file instead")
    parser.add_argument("--tolerance", type=float, default=0.0, metavar="X", help="by which numbers may differ from the golden file (default 0: not by a bit)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with curves")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--speed", type=float, default=0.0, metavar="X", help="recorded seconds per second (default: as fast as possible)")
    parser.add_argument("--ros", action="store_true", help="play it on real topics, with /clock, to the real planner and safety nodes")
    parser.add_argument("--safety-only", action="store_true", help="run the safety filter alone")
    parser.add_argument("--config", type=Path, help="safety YAML to use instead of the recorded settings")
    parser.add_argument("--checkpoint", type=Path, help="world model to plan with (default: the shipped one of the robot)")
    parser.add_argument("--search", type=Path, metavar="FILE", help="YAML file of the search instead of the recorded settings")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override a setting of the search")
    parser.add_argument("--seed", type=int, help="of the search (default: the recorded one)")
    parser.add_argument("--goal", metavar="GOAL", help=f"pursue this through the whole bag instead of the recorded goals: {FORMS}")
    parser.add_argument("--robot", default="", help="name in config/robots (default: the recorded one)")
    parser.add_argument("--namespace", default="", help="of the recorded graph, where a bag holds several")
    parser.add_argument("--camera", default="", metavar="TOPIC", help="of the pictures (default: the one that was planned from)")
    return parser.parse_args(argv)


def _goal(words: str | None) -> Asked | None:
    if words is None:
        return None
    from wm_bridge.bags.picture import picture_at
    from wm_bridge.cli.demo_scene import load_goal_picture
    from wm_bridge.core.goal_text import parse_goal

    asked = parse_goal(words, lambda file: load_goal_picture(file)[0])
    if isinstance(asked, BagFrame):
        try:
            return PictureGoal(picture_at(Path(asked.bag), asked.time_s, asked.topic), asked.mask)
        except ValueError as error:
            raise UserError(f"goal {words!r}: {error}", f"goals are {FORMS}", 2) from error
    return asked


def _session(report: Report) -> dict[str, int]:
    counts = {name: int(getattr(report, name)) for name in ("ticks", "inputs", "commands", "compared", "different")}
    return counts | {"repeated": len(report.repeated), "contradicted": len(report.contradicted)}


def text(report: Report) -> str:
    """A report of the safety filter in words."""
    fed = f"{report.ticks} ticks, {report.inputs} inputs, {report.commands} outputs ({report.compared} of them also in hw/command)"
    twice = [
        f"{len(numbers)} further hw/command with a number that had been used ({', '.join(map(str, numbers[:5]))}{', ...' * (len(numbers) > 5)}): {what}"
        for numbers, what in (
            (report.repeated, "the same content, so nothing was lost or changed"),
            (report.contradicted, "another content; what the safety node did not send, another node wrote"),
        )
        if numbers
    ]
    if report.first is None:
        return "\n".join([f"{fed}: the same, bit for bit", *twice])
    return "\n".join(filter(None, [f"{fed}: {report.different} differ; the first:", str(report.first), report.note, *twice]))

"""`./wm replay BAG`: a recording through planner and safety filter again; what they decide, and where it differs."""

from __future__ import annotations

import argparse
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wm_bridge.core.goal_forms import FORMS
from wm_bridge.core.goal_kinds import Asked, BagFrame, PictureGoal
from wm_bridge.core.settings import read_value
from wm_bridge.errors import UserError
from wm_bridge.replay.guarding import Guarded, guard
from wm_bridge.replay.recorded import Recorded, read
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.replay import Report

_TELLING = ("plans_the_same", "plans_compared", "would_have_stopped")  # figures that ./wm runs lists
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
    changes = {name: read_value(value, name) for name, _, value in (word.partition("=") for word in arguments.set)}
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
        found = _Found(0, guarded, [], recorded.notes, {}, {"config": str(arguments.config or "as recorded")})
    else:
        found = _plan(arguments, config, changes)
    reports = found.guarded.reports
    told = [(f"start {number} of the safety node: " if len(reports) > 1 else "") + text(report) for number, report in enumerate(reports, 1)]
    print("\n".join(told))
    wrong = any(report.wrong for report in reports)
    figures = {"replay_identical": int(not wrong), "sessions": [_session(report) for report in reports], **found.figures}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    _leave(arguments, found, figures, told)
    return int(found.code or wrong)


@dataclass(frozen=True)
class _Found:
    """What a replay found: exit code, safety filter, parts of the page (HTML), notes, figures, settings."""

    code: int
    guarded: Guarded
    parts: Sequence[str]
    notes: Sequence[str]
    figures: Mapping[str, Any]
    settings: Mapping[str, Any]
    outcome: str = ""


def _leave(arguments: argparse.Namespace, found: _Found, figures: Mapping[str, Any], told: Sequence[str]) -> None:
    """The page and its report.json, unless none is wanted."""
    from wm_bridge.replay.page import write_html
    from wm_bridge.report.about import made
    from wm_bridge.report.runs import PAGE, new_folder, write_report

    bag = arguments.bag.absolute()
    name = bag.parent.name if bag.name == "bag" else bag.stem
    same = "safety filter the same" if figures["replay_identical"] else "safety filter DIFFERENT"
    first = {key: figures[key] for key in _TELLING if key in figures}
    settings = {key: str(value) for key, value in vars(arguments).items() if value not in (None, False, [], "", 0.0)}
    report = {
        "kind": "replay", "name": name, "bag": str(bag), "outcome": ", ".join(filter(None, [found.outcome, same])),
        "figures": {**first, **figures}, **made({"arguments": settings, **found.settings}),
    }  # fmt: skip
    parts = [*found.parts, "<h2>Safety filter</h2>", *(f"<pre>{html.escape(line)}</pre>" for line in told)]
    folder = None if arguments.no_run else arguments.run or new_folder("replay", name)
    if folder is not None:
        write_report(folder, report)
    for page in filter(None, [arguments.html, folder and folder / PAGE]):
        write_html(page, report, found.notes, parts)
        print(f"page {page}")


def _plan(arguments: argparse.Namespace, config: SafetyConfig | None, changes: Mapping[str, Any]) -> _Found:
    from wm_bridge.planner_setup import PlannerSetup
    from wm_bridge.replay import golden, page
    from wm_bridge.replay.run import ReplaySettings, replay_planner
    from wm_bridge.replay.summary import summarise

    setup = PlannerSetup(str(arguments.checkpoint or ""), search=str(arguments.search or ""), seed=arguments.seed or 0, changes=changes)
    settings = ReplaySettings(
        setup, arguments.robot, config, _goal(arguments.goal), arguments.speed, arguments.namespace, arguments.camera, arguments.seed is None, arguments.jobs
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
    figures = {name: value if math.isfinite(value) else None for name, value in summary.figures.items()}
    figures |= {"notes": list(replay.notes)} | ({"golden_different": comparison.different} if comparison else {})
    outcome = "" if comparison is None else "golden file the same" if comparison.same else f"golden file: {comparison.different} decisions differ"
    code = int(comparison is not None and not comparison.same)
    parts = page.body(replay, summary, comparison) if arguments.html or not arguments.no_run else []
    return _Found(code, replay.guarded, parts, replay.notes, figures, {"planner": replay.planner}, outcome)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./wm replay", description=__doc__)
    parser.add_argument("bag", type=Path, help="folder of a bag, for example runs/demo-.../bag, or its mcap or db3 file")
    parser.add_argument("--golden", type=Path, metavar="FILE", help="compare all decisions with this file; the exit code says whether they are the same")
    parser.add_argument("--update", action="store_true", help="write the golden file instead")
    parser.add_argument("--tolerance", type=float, default=0.0, metavar="X", help="by which numbers may differ from the golden file (default 0: not by a bit)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page there as well")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--run", type=Path, metavar="FOLDER", help="for page and report.json (default: a new one, runs/DATE-TIME-replay-NAME)")
    which.add_argument("--no-run", action="store_true", help="leave neither of them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--speed", type=float, default=0.0, metavar="X", help="recorded seconds per second (default: as fast as possible)")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="processes that plan, a goal each (default: one per core); 1 = one thing after the other, for true times of planning calls")
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

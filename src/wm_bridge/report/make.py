"""From a run folder to report.json, report.html and video.webm; on request a moving picture of it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wm_bridge.errors import UserError
from wm_bridge.report import page, recording, summary, video
from wm_bridge.report.runs import PAGE, REPORT, write_report


@dataclass(frozen=True)
class Made:
    """What was written; None = not."""

    json: Path
    html: Path | None = None
    video: Path | None = None
    frames: int = 0
    note: str = ""


def make(run_dir: Path, facts: dict[str, Any], with_page: bool = True, with_video: bool = True, moving: Path | None = None) -> Made:
    """Write the report of a run.

    Args:
        run_dir: holds ``bag``, if one was recorded.
        facts: what only the running demo knew (goals, outcomes, nodes ...); goes into the JSON.
        with_page, with_video: leave these out when in a hurry.
        moving: file to write the film to as well, .webp or .gif.

    Raises:
        OSError: the folder cannot be written. ValueError: there is nothing to show in ``moving``.
    """
    report, notes = dict(facts), []
    bag = run_dir / "bag"
    found = recording.Recording()
    goals: list[summary.Curve] = []
    if bag.exists():
        found = recording.read(bag)
        try:
            hands = summary.true_hands(found, str(facts.get("robot", "nico")), str(facts.get("arm", "right_arm")))
        except ValueError as error:  # another scene
            hands, notes = summary.true_hands(recording.Recording(), "", ""), [f"no true path: {error}"]
        goals = summary.curves(found, facts.get("goals", []), hands)
        report["planning"] = summary.plan_times(found.plans)
        report["interventions"] = summary.interventions(found, goals)
        report["refused_messages"] = found.safety[-1].refused if found.safety else 0
        report["bag_messages"] = dict(sorted(found.counts.items()))
        notes.insert(0, found.note)
    else:
        notes.append("no bag was recorded, so there are no curves and no video")
    report["bag_note"] = "; ".join(filter(None, notes))
    film, frames = None, 0
    if with_video and found.frames:
        try:
            frames = video.write(run_dir / "video.webm", found, goals)
            film = run_dir / "video.webm"
        except (ValueError, OSError) as error:
            report["bag_note"] = "; ".join(filter(None, [report["bag_note"], f"no video: {error}"]))
    if moving is not None:
        video.animate(moving, found, goals)
    report["video_frames"] = frames
    made_json = write_report(run_dir, {"kind": "demo", **report})
    made_html = None
    if with_page:
        made_html = run_dir / PAGE
        page.write(made_html, report, found, goals, film)
    return Made(made_json, made_html, film, frames, report["bag_note"])


def main(argv: list[str], moving: Path | None = None) -> int:
    """Make (or make again) the report of a run folder: ``python -m wm_bridge.report.make runs/STAMP``; moving: see ``make``."""
    if len(argv) != 1 or argv[0].startswith("-"):
        print("usage: python -m wm_bridge.report.make RUN_FOLDER")
        return 2
    run_dir = Path(argv[0])
    if not (run_dir / "bag").exists():
        raise UserError(f"{run_dir} holds no bag", "name a folder that ./wm demo made, e.g. runs/20260101-120000", 2)
    old = run_dir / REPORT
    try:
        made = make(run_dir, json.loads(old.read_text(encoding="utf-8")) if old.is_file() else {}, moving=moving)
    except ValueError as error:
        raise UserError(f"no moving picture: {error}", "name a .webp or .gif file, and a run with pictures", 2) from error
    for path in (made.html, made.video, made.json, moving):
        if path is not None:
            print(path)
    if made.note:
        print(made.note)
    return 0


if __name__ == "__main__":
    from wm_bridge.cli.terminal import guarded

    sys.exit(guarded(lambda: main(sys.argv[1:])))

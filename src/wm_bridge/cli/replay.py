"""`./wm replay BAG`: a recording through the safety filter again; every output must be the same to the bit."""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge.bags.reader import opened
from wm_bridge.core.types import Command
from wm_bridge.errors import UserError
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.journal import Pages
from wm_bridge.safety.replay import JournalError, Report, entries, replay, same_bits

JOURNAL, COMMAND = "safety/journal", "hw/command"


@dataclass
class Session:
    """What one start of the safety node left in a bag.

    Attributes:
        pages: its journal. sent: hw/command by counter, the first where one came more than once.
        repeated: counters of those that came once more, the same. contradicted: with another content.
    """

    pages: list[Pages] = field(default_factory=list)
    sent: dict[int, Command] = field(default_factory=dict)
    repeated: list[int] = field(default_factory=list)
    contradicted: list[int] = field(default_factory=list)

    def add(self, counter: int, command: Command) -> None:
        """One more hw/command."""
        first = self.sent.setdefault(counter, command)
        if first is not command:
            (self.repeated if same_bits(first, command) else self.contradicted).append(counter)


def replay_bag(bag: Path, config: SafetyConfig | None = None) -> tuple[list[Report], str]:
    """Replay all sessions of the safety node in a bag.

    Args:
        bag: folder or mcap file. config: settings to use instead of the recorded ones.

    Returns:
        One report per session, and what is wrong with the bag ("" = whole).

    Raises:
        UserError: no such bag, or nothing in it that can be replayed.
    """
    sessions, note = read(bag)
    reports = []
    for number, session in enumerate(sessions.values(), 1):
        try:
            report = replay(entries(session.pages), session.sent, config)
            reports.append(dataclasses.replace(report, repeated=session.repeated, contradicted=session.contradicted))
        except JournalError as error:
            raise UserError(
                f"{bag}: session {number} of the safety node cannot be replayed: {error}",
                "record from the start: the recorder before the safety node, or at most a minute after it",
                2,
            ) from error
    return reports, note


def read(bag: Path) -> tuple[dict[int, Session], str]:
    """Journals and commands of a bag, by session of the safety node; and what is wrong with the bag.

    Raises:
        UserError: it cannot be read, or holds no journal.
    """
    sessions: dict[int, Session] = {}
    commands: list[tuple[int, int, Command]] = []
    try:
        with opened(bag) as (reader, note):
            for connection, _, data in reader.messages():
                topic = connection.topic.lstrip("/")
                if topic.endswith(JOURNAL):
                    message = reader.deserialize(data, connection.msgtype)
                    pages = Pages(int(message.first), int(message.count), bytes(message.entries))
                    sessions.setdefault(int(message.session), Session()).pages.append(pages)
                elif topic.endswith(COMMAND):
                    found = _command(reader.deserialize(data, connection.msgtype))
                    commands += [found] if found else []
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {bag}: {error}", "name the folder of a bag, or its mcap file", 2) from error
    if not sessions:
        raise UserError(f"{bag} holds no {JOURNAL}", "record it with ./wm demo or the recorder node of this version", 2)
    for writer, counter, command in commands:
        if writer in sessions:
            sessions[writer].add(counter, command)
    return sessions, note


def _command(message: Any) -> tuple[int, int, Command] | None:
    """Session and counter of the writer, and the command; None for one without a ticket (not ours)."""
    numbers = str(message.header.frame_id).split(":")
    if len(numbers) != 5 or not all(number.isdecimal() for number in numbers):
        return None
    stamp = int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)
    try:
        command = Command(tuple(message.name), np.asarray(message.position), np.asarray(message.velocity), stamp, int(numbers[0]))
    except ValueError:  # arrays of different lengths: not ours either
        return None
    return int(numbers[1]), int(numbers[3]), command


def main(argv: list[str]) -> int:
    """Run the command; 0: the same bits, 1: a difference."""
    parser = argparse.ArgumentParser(prog="./wm replay", description=__doc__)
    parser.add_argument("bag", type=Path, help="folder of a bag, for example runs/demo-.../bag")
    parser.add_argument("--config", type=Path, help="safety YAML to use instead of the recorded settings")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args(argv)
    try:
        config = SafetyConfig.load(arguments.config) if arguments.config else None
    except (OSError, ValueError) as error:
        raise UserError(f"{arguments.config}: {error}", "correct the file", 2) from error
    reports, note = replay_bag(arguments.bag, config)
    if note:
        print(note)
    for number, report in enumerate(reports, 1):
        if len(reports) > 1:
            print(f"start {number} of the safety node:")
        print(text(report))
    if arguments.json:
        rows = [
            {
                "ticks": r.ticks, "inputs": r.inputs, "commands": r.commands, "compared": r.compared, "different": r.different,
                "repeated": len(r.repeated), "contradicted": len(r.contradicted),
            }
            for r in reports
        ]  # fmt: skip
        figures = {"replay_identical": int(not any(r.wrong for r in reports)), "sessions": rows}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return int(any(report.wrong for report in reports))


def text(report: Report) -> str:
    """A report in words."""
    fed = f"{report.ticks} ticks, {report.inputs} inputs, {report.commands} outputs ({report.compared} of them also in {COMMAND})"
    twice = [
        f"{len(numbers)} further {COMMAND} with a number that had been used ({', '.join(map(str, numbers[:5]))}{', ...' * (len(numbers) > 5)}): {what}"
        for numbers, what in (
            (report.repeated, "the same content, so nothing was lost or changed"),
            (report.contradicted, "another content; what the safety node did not send, another node wrote"),
        )
        if numbers
    ]
    if report.first is None:
        return "\n".join([f"{fed}: the same, bit for bit", *twice])
    return "\n".join(filter(None, [f"{fed}: {report.different} differ; the first:", str(report.first), report.note, *twice]))

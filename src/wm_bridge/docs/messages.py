"""The message reference, from the comments of the interface files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from wm_bridge.docs.text import code, plain, table
from wm_bridge.ros import qos

PACKAGE = "ros2_ws/src/wm_interfaces"
_SECTIONS = {"msg": ("",), "srv": ("Request", "Response"), "action": ("Goal", "Result", "Feedback")}
_ENTRY = re.compile(r"(?P<type>[\w/]+(?:\[\d*\])?) +(?P<name>\w+) *(?:= *(?P<value>[^#]*?))? *(?:# *(?P<comment>.*))?$")


@dataclass(frozen=True)
class Entry:
    """A field, or a constant when it has a value."""

    type: str
    name: str
    value: str
    comment: str


@dataclass
class Group:
    """Entries below a comment that has lines of its own."""

    caption: str
    entries: list[Entry] = field(default_factory=list)


def read(file: Path) -> list[list[Group]]:
    """The parts of an interface file (one of a message, two of a service, three of an action), in groups.

    Raises:
        ValueError: a line that is neither comment, field nor constant.
    """
    parts: list[list[Group]] = [[Group("")]]
    caption: list[str] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() == "---":
            parts.append([Group("")])
        elif line.startswith("#"):
            caption.append(line.lstrip("# "))
        elif line.strip():
            found = _ENTRY.match(line)
            if found is None:
                raise ValueError(f"{file.name}, line {number}: expected 'type name', got {line!r}")
            if caption:
                parts[-1].append(Group(" ".join(caption)))
                caption = []
            parts[-1][-1].entries.append(Entry(found["type"], found["name"], found["value"] or "", found["comment"] or ""))
    return parts


def page(root: Path) -> str:
    """The page, with every message, service and action."""
    lines = [
        "# Messages",
        "Package `wm_interfaces`. Units are in the names or said beside them; angles are rad, lengths m, times of headers node time. "
        "Which topic has which type, and who writes it: [topics](topics.md).",
    ]
    for kind, title in (("action", "Actions"), ("msg", "Messages"), ("srv", "Services")):
        lines.append(f"## {title}")
        for file in sorted((root / PACKAGE / kind).glob(f"*.{kind}")):
            lines += _one(file, kind)
    return "\n\n".join(lines) + "\n"


def _one(file: Path, kind: str) -> list[str]:
    lines = [f"### {file.stem}"]
    topics = [row for row in qos.TOPICS if row.type == f"wm_interfaces/{kind}/{file.stem}"]
    lines += [f"Topic {', '.join(f'`{row.name}`' for row in topics)}."] if topics else []
    for title, groups in zip(_SECTIONS[kind], read(file), strict=True):
        lines += [f"**{title}**"] if title else []
        for group in groups:
            lines += [plain(group.caption)] if group.caption else []
            constants = [entry for entry in group.entries if entry.value]
            fields = [entry for entry in group.entries if not entry.value]
            if constants:
                lines.append(table(("constant", "value", ""), ((code(e.name), e.value, plain(e.comment)) for e in constants)))
            if fields:
                lines.append(table(("field", "type", ""), ((code(e.name), code(e.type), plain(e.comment)) for e in fields)))
    return lines

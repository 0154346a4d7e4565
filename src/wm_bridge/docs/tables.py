"""Pages and tables from the code's own tables: topics, commands, what the doctor finds, examples."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from wm_bridge.cli import bench, commands
from wm_bridge.cli.doctor_checks import ALL_CHECKS
from wm_bridge.cli.doctor_troubles import TROUBLES
from wm_bridge.docs.text import code, table
from wm_bridge.ros import qos


def topics_page() -> str:
    """Every topic of the graph, with its QoS."""
    rows = []
    for row in qos.TOPICS:
        package, _, name = row.type.split("/")
        kind = f"[{name}](messages.md#{name.lower()})" if package == "wm_interfaces" else code(f"{package}/{name}")
        notes = [
            "reliable" if row.reliable else "best effort",
            *(["latched"] if row.latched else []),
            *([f"depth {row.depth}"] if row.depth > 1 else []),
            *([f"deadline {row.deadline_ms} ms"] if row.deadline_ms else []),
            *([] if row.recorded else ["not recorded"]),
            *(["on request"] if row.on_request else []),
        ]
        rows.append((code(row.name), kind, row.writer or "any", ", ".join(notes)))
    return (
        "# Topics\n\nNames are relative, so two graphs live in two namespaces; those of other cameras begin with the camera node's name. "
        "`src/wm_bridge/ros/qos.py` is the one table that nodes, recorder and this page read. What the contents mean: "
        "[contracts](../contracts.md).\n\n" + table(("topic", "type", "written by", "QoS"), rows) + "\n"
    )


def commands_page() -> str:
    """Every command, and every benchmark."""
    listed = table(("command", ""), ((code(f"./wm {name}"), command.help) for name, command in commands.COMMANDS.items()))
    benches = table(("benchmark", ""), ((code(f"./wm bench {name}"), text) for name, text in bench.BENCHES.items()))
    return (
        f"# Commands\n\n`./wm COMMAND --help` shows the arguments of one command.\n\n{listed}\n\n## Benchmarks\n\n"
        f"Each takes `--json FILE`. What they printed: [benchmarks](../benchmarks.md).\n\n{benches}\n"
    )


def doctor_table() -> str:
    """What `./wm doctor` looks at, and what it says when something is wrong."""
    looked = table(("check", "looks at"), ((check.__name__.replace("_", " "), " ".join((check.__doc__ or "").split())) for check in ALL_CHECKS))
    found = table(
        ("check", "", "what it says", "remedy"), ((t.name, t.state.value, _blanks(t.sign), _blanks(t.remedy)) for t in TROUBLES)
    )
    return f"{looked}\n\n{found}"


def examples_page(root: Path) -> str:
    """Every example: what it shows, and the whole of it."""
    lines = ["# Examples", "Short scripts, run without a screen; each is run by a test (`tests/test_examples.py`)."]
    for file in sorted((root / "examples").glob("*.py")):
        source = file.read_text(encoding="utf-8")
        title, _, rest = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
        about = re.sub(r"((?:^    .*\n?)+)", lambda found: f"```\n{re.sub('^    ', '', found[1], flags=re.M).rstrip()}\n```\n", rest.strip("\n"), flags=re.M)
        body = source.split('"""', 2)[2].strip()
        lines += [f"## {file.stem}", title, about.strip(), f'??? example "examples/{file.name}"\n\n' + _indented(f"```python\n{body}\n```")]
    return "\n\n".join(lines) + "\n"


def decisions_page(root: Path) -> str:
    """The titles of all decisions."""
    files = sorted((root / "docs" / "adr").glob("*.md"))
    titles = [file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for file in files]
    return "# Decisions\n\nContext, decision, consequence: why it is as it is.\n\n" + "".join(
        f"- [{title}]({file.name})\n" for title, file in zip(titles, files, strict=True)
    )


def _blanks(text: str) -> str:
    """A sign with its blanks as `...`, as code."""
    return code(re.sub(r"\{\w+(:[^}]*)?\}", "...", text))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())

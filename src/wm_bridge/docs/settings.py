"""The reference of the settings: safety filter (comments of `config/safety.yaml`), search and training (docstrings)."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from wm_bridge.docs.text import code, plain, table
from wm_planner.config import PlannerConfig, TrainConfig

_KEY = re.compile(r"(?P<indent> *)(?P<key>\w+):(?: (?P<value>[^#]*?))? *(?:# *(?P<comment>.*))?$")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One key of a YAML file; ``name`` has its group before it, as in ``scene.table``."""

    name: str
    value: str
    comment: str


def read(text: str) -> list[tuple[str, list[Setting]]]:
    """The blocks of a YAML file, between empty lines: (comment above the block, its settings).

    A comment that stands behind a key goes on in lines that hold nothing else; ``{a: 1, b: 2}`` gives a setting each.
    """
    blocks: list[tuple[str, list[Setting]]] = []
    group = ""
    for block in re.split(r"\n\s*\n", text):
        caption: list[str] = []
        found: list[Setting] = []
        for line in block.splitlines():
            if line.lstrip().startswith("#"):
                words = line.strip().lstrip("# ")
                if found:
                    found[-1] = dataclasses.replace(found[-1], comment=f"{found[-1].comment} {words}")
                else:
                    caption.append(words)
                continue
            entry = _KEY.match(line)
            if entry is None:
                raise ValueError(f"expected 'key: value  # comment', got {line!r}")
            group = group if entry["indent"] else ""
            value, comment = (entry["value"] or "").strip(), (entry["comment"] or "").strip()
            if value.startswith("{"):
                found += [Setting(f"{entry['key']}.{k}", v, comment) for k, v in re.findall(r"(\w+): ([^,}]+)", value)]
            elif value:
                found.append(Setting(f"{group}.{entry['key']}" if group else entry["key"], value, comment))
            else:
                group = entry["key"]
        blocks.append((" ".join(caption), found))
    return blocks


def safety_page(root: Path) -> str:
    """Every key of the safety settings."""
    lines = [
        "# Safety settings",
        "`config/safety.yaml`, read by the safety node at its start. A robot's own file (`safety:` in `config/robots`, or "
        "`--safety-config`) begins with `extends: safety.yaml` and says only what differs. Another file for the running node "
        "(`ros2 param set /safety config FILE`) is taken at rest, and only when it is nowhere looser. What they protect from, and how that is "
        "tested: [safety case](../safety-case.md).",
    ]
    for caption, found in read((root / "config" / "safety.yaml").read_text(encoding="utf-8")):
        lines += [plain(caption)] if caption else []
        lines += [table(("key", "value", ""), ((code(s.name), code(s.value), plain(s.comment)) for s in found))] if found else []
    return "\n\n".join(lines) + "\n"


def described(kind: type) -> dict[str, str]:
    """Names and texts below ``Attributes:`` of a dataclass; ``a, b:`` and ``prefix_*:`` stand for several."""
    text = (kind.__doc__ or "").partition("Attributes:")[2]
    found: dict[str, str] = {}
    for entry in re.split(r"\n {8}(?=\S)", text)[1:]:
        names, _, meaning = entry.partition(": ")
        meaning = " ".join(meaning.split()).replace("``", "`")
        for name in names.split(", "):
            exact = [f.name for f in dataclasses.fields(kind) if f.name == name or (name.endswith("*") and f.name.startswith(name[:-1]))]
            found |= dict.fromkeys(exact, meaning)
    return found


def search_page() -> str:
    """The settings of search and training."""
    lines = [
        "# Search and training",
        "Settings of the search: `config/compact_planner.yaml` and `config/vjepa_planner.yaml`, `--set NAME=VALUE` of the benchmarks. "
        "Of training: `config/train_compact.yaml` and its like, `--set NAME=VALUE` of `./wm train`.",
    ]
    for title, kind in (("Search", PlannerConfig), ("Training", TrainConfig)):
        texts = described(kind)
        rows = [(code(f.name), code(str(f.default) or '""'), texts[f.name]) for f in dataclasses.fields(kind)]
        lines += [f"## {title}", table(("setting", "default", ""), rows)]
    return "\n\n".join(lines) + "\n"

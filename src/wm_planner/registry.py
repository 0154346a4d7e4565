"""`./wm models`: which checkpoints there are, what they were made from, and how good they are said to be."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from wm_planner.errors import PlannerError
from wm_planner.weights import FORMAT, weights_hash

FIGURES = ("hand_cm_median", "hand_cm_h10", "error_ratio_h1", "error_ratio_h10", "object_cm_median")


@dataclass(frozen=True)
class Entry:
    """A checkpoint: its file, hash of the weights, and card."""

    path: Path
    weights: str
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def parent(self) -> str:
        """Hash of the checkpoint that training began from; "" = none, or not known."""
        found = self.card.get("parent")
        return str(found.get("weights", "")) if isinstance(found, dict) else ""

    @property
    def figures(self) -> dict[str, float]:
        """Held-out figures at the end of training."""
        return {str(k): float(v) for k, v in self.card.get("validation", {}).items()}


def shipped() -> Path:
    """Folder of the checkpoints that ship."""
    return Path(__file__).parent / "checkpoints"


def find(folders: Iterable[Path]) -> list[Entry]:
    """All checkpoints of this format in files and folders, the oldest first; others are passed over.

    Raises:
        PlannerError: a name that does not exist.
    """
    found: dict[str, Entry] = {}
    for folder in folders:
        if not folder.exists():
            raise PlannerError(f"{folder} does not exist; name checkpoints or folders that hold some")
        files = [folder] if folder.is_file() else sorted(folder.rglob("*.safetensors"))
        for path in sorted(files, key=lambda p: p.stat().st_mtime):
            try:
                with safe_open(path, framework="pt") as file:
                    header = file.metadata() or {}
            except (SafetensorError, OSError):
                continue
            if header.get("format") == FORMAT:
                entry = Entry(path, weights_hash(path), json.loads(header.get("card", "{}")))
                found.setdefault(entry.weights, entry)
    return list(found.values())


def tree(entries: Sequence[Entry]) -> list[tuple[int, Entry]]:
    """Children under their parents: (depth, entry)."""
    known = {entry.weights for entry in entries}
    rows: list[tuple[int, Entry]] = []

    def add(entry: Entry, depth: int) -> None:
        rows.append((depth, entry))
        for child in entries:
            if child.parent == entry.weights and child is not entry:
                add(child, depth + 1)

    for entry in entries:
        if entry.parent not in known or entry.parent == entry.weights:
            add(entry, 0)
    return rows


def table(entries: Sequence[Entry]) -> list[str]:
    """Lines for people."""
    lines = []
    for depth, entry in tree(entries):
        card = entry.card
        said = [f"step {card['step']}" if "step" in card else "", f"{card['episodes']} episodes" if "episodes" in card else ""]
        said += [f"data {card['data_digest']}" if "data_digest" in card else "", f"of {entry.parent}" if entry.parent and depth == 0 else ""]
        lines.append(f"{'  ' * depth}{entry.weights}  {entry.path}  {', '.join(part for part in said if part)}")
        figures = [f"{name} {entry.figures[name]:.3f}" for name in FIGURES if name in entry.figures]
        if figures:
            lines.append(f"{'  ' * depth}    {'  '.join(figures)}")
        if "forgetting" in card:
            before, after = card["forgetting"]["before"], card["forgetting"]["after"]
            lines.append(f"{'  ' * depth}    on the old data: hand_cm_median {before['hand_cm_median']:.2f} -> {after['hand_cm_median']:.2f}")
    return lines


def main(argv: list[str]) -> int:
    """List the checkpoints."""
    parser = argparse.ArgumentParser(prog="./wm models", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="*", help="checkpoints, or folders that hold some (default: runs, outputs and those that ship)")
    parser.add_argument("--json", type=Path, help="write hashes, parents and cards here")
    args = parser.parse_args(argv)
    usual = [folder for folder in (Path("runs"), Path("outputs")) if folder.is_dir()]
    entries = find(args.folders or [shipped(), *usual])
    if not entries:
        print("no checkpoint found; ./wm train makes one")
        return 1
    print("\n".join(table(entries)))
    if args.json:
        args.json.write_text(json.dumps([{"path": str(e.path), "weights": e.weights, "parent": e.parent, "card": e.card} for e in entries], indent=1))
    return 0

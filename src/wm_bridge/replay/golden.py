"""Decisions of a replay in a file, and what differs from it: a regression test of planner and safety filter.

The file is text, one JSON object per line, numbers in full: it can be kept in a repository and looked at.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge.core.types import Reason
from wm_bridge.errors import UserError
from wm_bridge.planner_setup import computed_by
from wm_bridge.replay.guarding import Judged
from wm_bridge.replay.planning import Decision
from wm_bridge.replay.run import Replay

S = 1_000_000_000
VERSION = 1
_DIGEST = "digest"  # of all outputs of a period: left out where a tolerance is given


@dataclass(frozen=True)
class Comparison:
    """A replay against a golden file.

    Attributes:
        decisions: compared. different: of them. lines: what differs first, and where else.
        settings: what planner or means differ in, in words; not a difference by itself.
    """

    decisions: int
    different: int
    lines: Sequence[str] = ()
    settings: Sequence[str] = field(default=())

    @property
    def same(self) -> bool:
        """True when every decision is the same."""
        return self.different == 0

    def __str__(self) -> str:
        """A few lines for people."""
        if self.same:
            return "\n".join([f"{self.decisions} decisions, all as in the golden file", *self.settings])
        return "\n".join([f"{self.different} of {self.decisions} decisions differ from the golden file", *self.lines, *self.settings])


def rows(replay: Replay) -> list[dict[str, Any]]:
    """A header, then one row per plan, each followed by what the safety filter made of it."""
    recorded = replay.recorded
    header = {
        "kind": "golden",
        "version": VERSION,
        "bag": {"begin_ns": recorded.begin_ns, "end_ns": recorded.end_ns, "pictures": len(recorded.pictures), "joint_states": len(recorded.joints)},
        "planner": _plain(dict(replay.planner)),
        "computed_by": computed_by(),
    }
    found = [header]
    for decision in replay.decisions:
        found.append(_plan_row(decision))
        judged = replay.guarded.judged.get(decision.stamp_ns)
        if judged is not None and decision.trajectory is not None:
            found.append(_safety_row(decision, judged))
    return found


def write(path: Path, replay: Replay) -> None:
    """Write the golden file of a replay.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows(replay)), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", "name a writable place", 2) from error


def compare(path: Path, replay: Replay, tolerance: float = 0.0) -> Comparison:
    """A replay against a golden file.

    Args:
        tolerance: by which numbers may differ, absolutely and relatively; 0: not by a bit. Golden files of another kind
            of processor or other versions of the libraries round differently.

    Raises:
        UserError: no golden file, or one of another bag.
    """
    golden, now = _load(path), rows(replay)
    if golden[0].get("bag") != now[0]["bag"]:
        raise UserError(f"{path} belongs to another bag than {replay.bag}: {golden[0].get('bag')}, not {now[0]['bag']}", "compare with the bag it was made from, or make it anew: --update", 2)
    settings = [f"  planner {line}" for line in _differences(golden[0]["planner"], now[0]["planner"], 0.0)]
    settings += [f"  made with {golden[0]['computed_by']}, now {now[0]['computed_by']}: numbers may round differently; --tolerance 1e-4 allows for it"] * (golden[0]["computed_by"] != now[0]["computed_by"])
    names = Counter[str]()
    first: list[str] = []
    different = 0
    for index in range(1, max(len(golden), len(now))):
        then, again = (one[index] if index < len(one) else None for one in (golden, now))
        told = _row_differences(then, again, tolerance)
        if told:
            different += 1
            names.update({line.split(":")[0].split("[")[0] for line in told})
            first = first or [_place(then or again or {}), *(f"    {line}" for line in told[:6]), *([f"    and {len(told) - 6} more fields"] * (len(told) > 6))]
    lines = [f"  first: {first[0]}", *first[1:], "  in all: " + ", ".join(f"{name} {count}x" for name, count in names.most_common(8))] if first else []
    return Comparison(max(len(golden), len(now)) - 1, different, lines, settings)


def _plan_row(decision: Decision) -> dict[str, Any]:
    trajectory = decision.trajectory
    path = {} if trajectory is None else {
        "joints": list(trajectory.names),
        "times_ns": list(trajectory.times_ns),
        "positions": trajectory.positions.tolist(),
        "velocities": trajectory.velocities.tolist(),
    }  # fmt: skip
    told = {"kind": "plan", "goal": decision.goal, "stamp_ns": decision.stamp_ns, "refused": decision.refused, "status": decision.status}
    return dict(_plain(told | dict(decision.numbers) | {"trust_cause": decision.trust_cause} | path))


def _safety_row(decision: Decision, judged: Judged) -> dict[str, Any]:
    digest = hashlib.blake2b(np.array(judged.outputs, dtype=np.float64).tobytes(), digest_size=8).hexdigest()
    return {
        "kind": "safety",
        "stamp_ns": decision.stamp_ns,
        "refused": _names(judged.refused),
        "modes": [mode.name for mode in judged.modes],
        "reasons": _names(judged.reasons),
        "changed": judged.changed,
        "joints": list(judged.names),
        "output": list(judged.outputs[-1]) if judged.outputs else [],
        _DIGEST: digest,
    }


def _names(reasons: Reason) -> list[str]:
    return [reason.name or "" for reason in Reason if reason.value and reason in reasons]


def _plain(value: Any) -> Any:
    """NaN as null: strict JSON, and equal to itself."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _load(path: Path) -> list[dict[str, Any]]:
    remedy = "make it with: ./wm replay BAG --golden FILE --update"
    try:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not found or found[0]["kind"] != "golden" or found[0]["version"] != VERSION:
            raise ValueError(f"expected a golden file of version {VERSION}")
    except FileNotFoundError as error:
        raise UserError(f"there is no golden file {path}", remedy, 2) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}", remedy, 2) from error
    return found


def _row_differences(golden: Mapping[str, Any] | None, now: Mapping[str, Any] | None, tolerance: float) -> list[str]:
    if golden is None or now is None:
        return ["decision: " + ("none in the golden file" if golden is None else "none now")]
    return list(_differences(golden, now, tolerance))


def _differences(golden: Any, now: Any, tolerance: float, name: str = "", labels: Sequence[str] = ()) -> Iterator[str]:
    """Sentences ``field: golden ..., now ...``, in the order of the fields."""
    if isinstance(golden, Mapping) and isinstance(now, Mapping):
        joints = golden.get("joints", ())
        for key in [*golden, *(key for key in now if key not in golden)]:
            if not (key == _DIGEST and tolerance > 0.0):
                yield from _differences(golden.get(key), now.get(key), tolerance, f"{name}.{key}" if name else key, joints)
        return
    if isinstance(golden, list) and isinstance(now, list) and len(golden) == len(now):
        for index, (then, again) in enumerate(zip(golden, now, strict=True)):
            label = labels[index] if len(labels) == len(golden) and not isinstance(then, list) else index
            yield from _differences(then, again, tolerance, f"{name}[{label}]", labels)
        return
    if golden == now or _close(golden, now, tolerance):
        return
    by = f" ({now - golden:+.3g})" if _numeric(golden) and _numeric(now) else ""
    yield f"{name}: golden {_short(golden)}, now {_short(now)}{by}"


def _close(golden: Any, now: Any, tolerance: float) -> bool:
    return _numeric(golden) and _numeric(now) and abs(now - golden) <= tolerance * max(1.0, abs(golden))


def _numeric(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = "none" if value is None else repr(value) if isinstance(value, float) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _place(row: Mapping[str, Any]) -> str:
    what = {"plan": "plan", "safety": "safety filter"}.get(str(row.get("kind")), "decision")
    goal = f" of goal {row['goal']}" if "goal" in row else ""
    return f"{what}{goal} on the picture of {row.get('stamp_ns', 0) / S:.3f} s (stamp {row.get('stamp_ns')})"

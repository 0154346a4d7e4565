"""A recorded journal through the filter again: the same outputs, bit for bit, or where they differ."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from wm_bridge.core.types import Command, JointState, Reason, SafetyMode, Trajectory, Verdict
from wm_bridge.safety.answers import Answer
from wm_bridge.safety.config import SafetyConfig
from wm_bridge.safety.filter import SafetyFilter
from wm_bridge.safety.health import Health
from wm_bridge.safety.journal import BEGIN, TABLE, TICK, UNWRITABLE, Pages, computed_by, from_text, outcome
from wm_bridge.safety.obstacles import Obstacle
from wm_bridge.safety.packing import Value, unpack


class Entry(NamedTuple):
    """One line of a journal; ``number`` counts from the start of the safety node."""

    number: int
    kind: str
    arguments: tuple[Value, ...]
    answer: Value


class JournalError(ValueError):
    """These entries cannot be replayed; the text says why."""


def entries(pages: Iterable[Pages]) -> Iterator[Entry]:
    """The lines of a journal from its start.

    Raises:
        JournalError: pages are missing or damaged, or the start is.
    """
    number = 0
    for page in pages:
        if page.first != number:
            raise JournalError(
                f"the journal goes from entry {number} to {page.first}: "
                + ("the recording began after the safety node had run for a while" if number == 0 else "pages were lost")
            )
        at = 0
        for _ in range(page.count):
            try:
                (kind, arguments, answer), at = unpack(page.data, at)
            except (ValueError, TypeError) as error:
                raise JournalError(f"entry {number} of the journal is damaged: {error}") from error
            yield Entry(number, kind, arguments, answer)
            number += 1


@dataclasses.dataclass(frozen=True)
class Difference:
    """Where a replay leaves the recording; ``lines`` say what was recorded and what came out now."""

    number: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclasses.dataclass
class Report:
    """What a replay showed.

    Attributes:
        inputs, ticks: entries fed. commands: outputs made. compared: of those, how many the
            recording also holds as messages. different: entries whose answer differs.
        first: the first difference, None when every bit is the same.
        note: "" when the recording was computed by the same means.
        repeated, contradicted: numbers of further recorded messages that had been used already; the same, or not.
    """

    inputs: int = 0
    ticks: int = 0
    commands: int = 0
    compared: int = 0
    different: int = 0
    first: Difference | None = None
    note: str = ""
    repeated: Sequence[int] = ()
    contradicted: Sequence[int] = ()

    @property
    def wrong(self) -> bool:
        """True when an output differs, or one number was used for two different ones."""
        return bool(self.different or self.contradicted)


def replay(
    found: Iterable[Entry],
    sent: Mapping[int, Command] | None = None,
    config: SafetyConfig | None = None,
    watch: Callable[[Entry, Replayed], None] | None = None,
) -> Report:
    """Feed a journal to a new filter and compare every answer.

    Args:
        found: see `entries`.
        sent: recorded commands by their counter (1 for the first), compared bit for bit as well.
        config: settings to use instead of the recorded ones.
        watch: told of every entry before it is fed, with the filter as it is then.

    Raises:
        JournalError: the entries make no sense.
    """
    report, sent = Report(), sent or {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        again: Replayed | None = None
        for entry in found:
            if entry.kind == UNWRITABLE:
                raise JournalError(f"entry {entry.number} could not be written down: {entry.arguments}")
            if entry.kind == BEGIN:
                again = Replayed(entry, folder, config, renewed=again is not None)
                if again.computed_by != computed_by():
                    report.note = f"recorded with {again.computed_by}; this is {computed_by()}: it may round differently"
                continue
            if again is None:
                raise JournalError(f"the journal begins with {entry.kind!r} instead of {BEGIN!r}")
            if watch is not None:
                watch(entry, again)
            try:
                _one(entry, again, sent, report)
            except (TypeError, IndexError, KeyError, AttributeError) as error:
                raise JournalError(f"entry {entry.number} ({entry.kind}) makes no sense: {error!r}") from error
    return report


def _one(entry: Entry, again: Replayed, sent: Mapping[int, Command], report: Report) -> None:
    lines: list[str] = []
    if entry.kind == TICK:
        report.ticks += 1
        command, verdict = again.tick(*entry.arguments)
        went_out = command is not None and not again.unsent
        again.unsent = False
        report.commands += went_out
        recorded = sent.get(report.commands) if went_out else None
        report.compared += recorded is not None
        same = outcome(command, verdict) == entry.answer
        if recorded is not None and command is not None and not same_bits(recorded, command):
            same = False
        if not same:
            lines = [f"tick {report.ticks} at {entry.arguments[0] * 1e-9:.3f} s", *_compare(entry.answer, command, verdict, recorded)]
    else:
        report.inputs += 1
        answer = _plain(again.tell(entry.kind, entry.arguments))
        if answer != entry.answer:
            lines = [f"{entry.kind} before tick {report.ticks + 1}", f"  recorded answer: {entry.answer}", f"  answer now:      {answer}"]
    if lines:
        report.different += 1
        report.first = report.first or Difference(entry.number, tuple(lines))


def _plain(answer: Any) -> Value:
    if isinstance(answer, Answer):
        return answer.ok, answer.message
    return None if answer is None else int(answer)


def same_bits(a: Command, b: Command) -> bool:
    """True when two commands agree in every bit; NaN equals itself, 0.0 is not -0.0."""
    same = a.names == b.names and (a.stamp_ns, a.source_stamp_ns) == (b.stamp_ns, b.source_stamp_ns)
    return same and a.position.tobytes() == b.position.tobytes() and a.velocity.tobytes() == b.velocity.tobytes()


def _compare(answer: Value, command: Command | None, verdict: Verdict, recorded: Command | None) -> Iterator[str]:
    mode, reasons, went_out, _ = answer
    if mode != verdict.mode or reasons != verdict.reasons:
        yield f"  recorded: {_named(SafetyMode(mode), Reason(reasons))}"
        yield f"  now:      {_named(verdict.mode, verdict.reasons)} {verdict.detail}".rstrip()
    if went_out != (command is not None):
        yield f"  recorded: {'an' if went_out else 'no'} output; now: {'none' if command is None else 'one'}"
    elif command is not None and recorded is None:
        yield "  the outputs or their verdicts differ; the recording lacks this hw/command, so no values can be shown"
    elif command is not None and recorded is not None:
        if same_bits(recorded, command):
            yield "  the same output; what was requested, its margin or the wording differ"
        rows = zip(command.names, recorded.position, command.position, recorded.velocity, command.velocity, strict=True)
        for name, q0, q1, v0, v1 in rows:
            if np.array([q0, v0]).tobytes() != np.array([q1, v1]).tobytes():
                yield f"  {name}: recorded {q0!s} rad, {v0!s} rad/s; now {q1!s} rad, {v1!s} rad/s ({q1 - q0:+.3g} rad)"
        for what in ("names", "stamp_ns", "source_stamp_ns"):
            if getattr(recorded, what) != getattr(command, what):
                yield f"  {what}: recorded {getattr(recorded, what)}; now {getattr(command, what)}"


def _named(mode: SafetyMode, reasons: Reason) -> str:
    names = [reason.name or "" for reason in Reason if reason and reason in reasons]
    return f"{mode.name} {' '.join(names)}".strip()


# ---- the filter, built again -------------------------------------------------------


class Replayed:
    """A filter as the journal's first entry describes it, with the recorded clock.

    A filter renewed by a reset takes its first tick within that reset: its output is not sent (``unsent``).
    ``answered`` is what came of the last entry.
    """

    def __init__(self, begin: Entry, folder: Path, config: SafetyConfig | None, renewed: bool) -> None:
        self.unsent = renewed
        try:
            names, table, effort, described, settings, self.computed_by = begin.arguments
            rows = dict(zip(TABLE, table, strict=True))
            spec = SimpleNamespace(joint_names=names, effort=effort, **rows)  # a JointTable: a recording has no RobotSpec
            if described is not None:
                spec.base_frame, text = described
                urdf = folder / "recorded.urdf"
                urdf.write_text(text, encoding="utf-8")
                spec.urdf_path = lambda: urdf  # and a RobotDescription
            recorded = from_text(settings)
        except (ValueError, TypeError, IndexError) as error:
            raise JournalError(f"entry {begin.number} describes no filter of this version: {error}") from error
        self._readings: list[int] = []
        self.answered: Any = None
        self.names = tuple(names)
        self.filter = SafetyFilter(spec, config or recorded, self._clock)

    def tick(self, now_ns: int, steady_ns: int, readings: tuple[int, ...]) -> tuple[Command | None, Verdict]:
        """One output, with the readings that the clock gave then."""
        self._readings = list(reversed(readings))
        self.answered = found = self.filter.tick(now_ns, steady_ns)
        return found

    def tell(self, kind: str, arguments: tuple[Any, ...]) -> Any:
        """Any other entry; gives the filter's answer."""
        self.answered = _CALLS[kind](self.filter, arguments, self.names)
        return self.answered

    def _clock(self) -> int:
        """The next reading; the last one again when the filter asks more often than then."""
        return self._readings.pop() if len(self._readings) > 1 else self._readings[0]


_Call = Callable[[SafetyFilter, tuple[Any, ...], tuple[str, ...]], Any]
_CALLS: Mapping[str, _Call] = {
    "observe_state": lambda f, a, names: f.observe_state(JointState(names if a[0] is None else a[0], *a[1:5]), a[5], a[6]),
    "observe_camera": lambda f, a, _: f.observe_camera(*a),
    "submit": lambda f, a, _: f.submit(Trajectory(*a[:5]), a[5], a[6]),
    "observe_human": lambda f, a, _: f.observe_human(*a),
    "observe_trust": lambda f, a, _: f.observe_trust(*a),
    "observe_health": lambda f, a, _: f.observe_health(Health(*a[:4]), a[4]),
    "deadman": lambda f, a, _: f.deadman(*a),
    "observe_driver": lambda f, a, _: f.observe_driver(*a),
    "writers": lambda f, a, _: f.writers(a[0]),  # older journals hold a time as well
    "stop": lambda f, a, _: f.stop(a[0], Reason(a[1])),
    "enable": lambda f, a, _: f.enable(*a),
    "reset": lambda f, a, _: f.reset(*a),
    "set_reduced": lambda f, a, _: f.set_reduced(*a),
    "add_obstacle": lambda f, a, _: f.add_obstacle(Obstacle(*a)),
    "remove_obstacle": lambda f, a, _: f.remove_obstacle(*a),
    "tighten": lambda f, a, _: f.tighten(from_text(a[0])),
}

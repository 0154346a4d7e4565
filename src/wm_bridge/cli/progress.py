"""One line per set-up step, and the log that holds what the step's programs said."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wm_bridge.errors import UserError

TAIL_LINES = 12


class Progress:
    """Prints to standard error `[2/6] title ... 12.3 s`; the seconds run on while a terminal watches.

    Args:
        total: number of steps.
        log: file that the output of every program is appended to.
    """

    def __init__(self, total: int, log: Path) -> None:
        self._total = total
        self._log = log
        self._index = 0
        self._line = ""
        self._started = 0.0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Frame one step: its line, and its duration at the end."""
        self._index += 1
        self._started = time.monotonic()
        self._line = f"[{self._index}/{self._total}] {title} "
        _say(self._line, end="")
        try:
            yield
        except BaseException:
            _say("failed")
            raise
        _say(f"{self._back()}{time.monotonic() - self._started:.1f} s      ")

    def run(self, command: list[str], environ: Mapping[str, str], cwd: Path | None = None) -> None:
        """Run one program of the current step.

        Raises:
            UserError: when it fails, with the end of what it said.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            begin = log.tell()
            try:
                program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=dict(environ), cwd=cwd)
            except OSError as error:
                raise UserError(f"wm: {command[0]} could not be started: {error.strerror}", "install it, then start ./wm again") from error
            try:
                while _waits(program):
                    if sys.stderr is not None and sys.stderr.isatty():
                        _say(f"{self._back()}{time.monotonic() - self._started:.0f} s", end="")
            except BaseException:
                program.terminate()
                program.wait()
                raise
        if program.returncode:
            raise UserError(
                f"wm: {Path(command[0]).name} ended with code {program.returncode}:\n{self._tail(begin)}",
                f"see {self._log}; check network and disk space, then start ./wm again: it goes on where it stopped",
            )

    def _back(self) -> str:
        terminal = sys.stderr is not None and sys.stderr.isatty()
        return f"\r{self._line}" if terminal else ""

    def _tail(self, begin: int) -> str:
        with self._log.open("rb") as log:
            log.seek(begin)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])


def _waits(program: subprocess.Popen[bytes]) -> bool:
    try:
        program.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        return True
    return False


def _say(text: str, end: str = "\n") -> None:
    if sys.stderr is not None:
        print(text, end=end, file=sys.stderr, flush=True)

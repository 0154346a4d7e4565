"""`./wm test`: the whole suite, as continuous integration runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from wm_bridge.errors import UserError


# Tests that only compute take all cores, file by file; real processes and devices come after them, one at a time.
_WHOLE_SUITE = (("-m", "not alone", "-n", "auto", "--dist", "loadfile"), ("-m", "alone"))


def main(argv: list[str]) -> int:
    """Run pytest on tests/ of the checkout, in two parts; with arguments once, and they are passed on.

    Returns:
        pytest's exit code, the first that is not 0.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "tests").is_dir():
        raise UserError(f"wm test: {root} holds no tests folder", "run it from a checkout, an installed package has no tests")
    chosen = any(not argument.startswith("-") and (root / argument.partition("::")[0]).exists() for argument in argv)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--durations=15"]
    if argv:
        return _run(command + (argv if chosen else ["tests", *argv]), root, {})
    codes = []
    for part in _WHOLE_SUITE:
        one_thread = {"OMP_NUM_THREADS": "1"} if "-n" in part else {}
        codes.append(_run([*command, "tests", *part], root, one_thread))
        if codes[-1] not in (0, 1):
            break  # interrupted, or pytest itself could not
    return next((code for code in codes if code), 0)


def _run(command: list[str], root: Path, environment: dict[str, str]) -> int:
    program = subprocess.Popen(command, cwd=root, env={**os.environ, **environment})
    while True:
        try:
            return program.wait()
        except KeyboardInterrupt:
            continue  # pytest has received it as well: let it clean up and report

"""`./wm test`: the whole suite, as continuous integration runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from wm_bridge.errors import UserError


def main(argv: list[str]) -> int:
    """Run pytest on tests/ of the checkout; arguments are passed on.

    Returns:
        pytest's exit code.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "tests").is_dir():
        raise UserError(f"wm test: {root} holds no tests folder", "run it from a checkout, an installed package has no tests")
    chosen = any(not argument.startswith("-") and (root / argument.partition("::")[0]).exists() for argument in argv)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--durations=15"]
    command += argv if chosen else ["tests", *argv]
    program = subprocess.Popen(command, cwd=root)
    while True:
        try:
            return program.wait()
        except KeyboardInterrupt:
            continue  # pytest has received it as well: let it clean up and report

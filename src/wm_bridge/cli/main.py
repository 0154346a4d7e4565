"""`./wm COMMAND` inside the environment: find the module, run it, end cleanly."""

from __future__ import annotations

import importlib
import sys

from wm_bridge.cli import commands
from wm_bridge.cli.terminal import guarded
from wm_bridge.errors import UserError


def main(argv: list[str]) -> int:
    """Run one command.

    Args:
        argv: the command's name and its arguments.

    Returns:
        The exit code.
    """
    return guarded(lambda: _dispatch(argv))


def run() -> None:
    """Entry point of an installed `wm`."""
    sys.exit(main(sys.argv[1:]))


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(commands.usage())
        return 0 if argv else 2
    command = commands.find(argv[0])
    module = importlib.import_module(command.module)
    try:
        return int(module.main(argv[1:]) or 0)
    except Exception as error:
        raise _as_user_error(error) from error


def _as_user_error(error: Exception) -> Exception:
    """The planner library cannot know `UserError`: its start-up errors are translated here."""
    planner = sys.modules.get("wm_planner.errors")
    if planner is not None and isinstance(error, planner.PlannerError):
        message, _, remedy = str(error).partition("; ")
        return UserError(message, remedy or "mend the setting or the file that is named above")
    return error


if __name__ == "__main__":
    run()

"""How a command ends: exit codes and messages, the same for the bootstrap and for `main`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from wm_bridge.errors import UserError

INTERRUPTED = 130  # 128 + SIGINT, what a shell expects
CLOSED_PIPE = 141  # 128 + SIGPIPE


def guarded(action: Callable[[], int]) -> int:
    """Run `action` and turn what a user can cause into an exit code and at most two lines.

    A `UserError` is printed without traceback, Ctrl-C gives 130, a reader that went away
    (`./wm --help | head -1`) gives 141. Anything else is a bug and keeps its traceback.
    """
    try:
        code = action()
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except UserError as error:
        return _report(str(error), error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes once more at exit: give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CLOSED_PIPE


def _report(text: str, code: int) -> int:
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    return code

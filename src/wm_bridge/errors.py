"""The error that a user can mend: it is shown as two lines, never as a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A mistake or a missing thing outside of the code.

    Args:
        message: what was expected and what came instead.
        remedy: what to do, as a command where there is one.
        exit_code: of the command that stops because of it.
    """

    def __init__(self, message: str, remedy: str, exit_code: int = 1) -> None:
        super().__init__(message, remedy, exit_code)  # all of them, so that it comes whole out of another process
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code

    def __str__(self) -> str:
        """Both lines, as the terminal shows them."""
        return f"{self.message}\n  what to do: {self.remedy}"

"""The one error type of this library."""


class PlannerError(Exception):
    """A start-up mistake: what was expected, what came, and what to do about it."""

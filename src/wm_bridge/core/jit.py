"""Functions compiled by numba for types that are written down: at import, or loaded from the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(signature: Any) -> Callable[[F], F]:
    """Compile for this signature now, or take what the cache has; a call with other types is refused."""

    def compile_now(function: F) -> F:
        try:
            return cast(F, numba.njit(signature, cache=True, error_model="numpy")(function))
        except RuntimeError:  # neither this folder nor the user's cache can be written: some seconds at each start
            return cast(F, numba.njit(signature, error_model="numpy")(function))

    return compile_now


def part(function: F) -> F:
    """Compiled with the functions that call it."""
    return cast(F, numba.njit(error_model="numpy")(function))

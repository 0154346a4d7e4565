"""Equations: LaTeX in a ```math block becomes MathML when the site is built, so a page needs no script and no network."""

from __future__ import annotations

import re
from typing import Any


def block(source: str, *_: Any, **__: Any) -> str:
    """HTML of one block; as pymdownx.superfences calls it.

    Raises:
        SuperFencesException: latex2mathml cannot read it (any other error would leave the block as code).
    """
    from latex2mathml.converter import convert
    from pymdownx.superfences import SuperFencesException

    try:
        if len(re.findall(r"(?<!\\){", source)) != len(re.findall(r"(?<!\\)}", source)):
            raise ValueError("as many { as }")
        rows = [convert(line, display="block") for line in source.strip().split("\n\n")]
        unknown = re.search(r"\\\w+", "".join(rows))  # is left as it is
        if unknown:
            raise ValueError(f"unknown command {unknown[0]}")
    except Exception as error:
        raise SuperFencesException(f"this is no equation that latex2mathml can read ({error!r}): {source}") from error
    return f'<div class="equation">{"".join(rows)}</div>'

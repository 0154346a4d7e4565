"""`./wm train`: trains, and leaves a page of the training in its folder."""

from __future__ import annotations

import os
import sys

from wm_bridge.report import training
from wm_planner import train


def main(argv: list[str]) -> int:
    """Run ``wm_planner.train``; the page is written also when it was stopped, by the first process of several."""
    arguments = train.parse(argv)
    code = train.main(argv)
    page = training.make(arguments.out, argv) if code == 0 and int(os.environ.get("RANK", 0)) == 0 else None
    if page is not None:
        print(f"page {page}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

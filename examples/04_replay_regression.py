"""A recorded run as a regression test of planner and safety filter: plan it again, nothing may have changed.

    .venv/bin/python examples/04_replay_regression.py runs/20260101-120000/bag reach.golden

The first time the golden file is written; keep it in your repository, beside the bag. In a test of yours, three lines do it:

    from wm_bridge.testing import assert_replay
    def test_recorded_reach():
        assert_replay("bags/reach", golden="bags/reach.golden", may_stop=0)
"""

from __future__ import annotations

import argparse
from pathlib import Path

from wm_bridge.replay import golden
from wm_bridge.testing import assert_replay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path)
    parser.add_argument("golden", type=Path)
    parser.add_argument("--checkpoint", default="", help="world model (default: the shipped one)")
    args = parser.parse_args()
    if not args.golden.exists():
        golden.write(args.golden, assert_replay(args.bag, checkpoint=args.checkpoint))
        print(f"wrote {args.golden}")
    replay = assert_replay(args.bag, golden=args.golden, checkpoint=args.checkpoint)
    print(f"{len(replay.decisions)} decisions as in {args.golden}, {replay.speed:.1f} x recorded time")


if __name__ == "__main__":
    main()

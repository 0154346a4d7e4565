"""Who is better, and what a list of checkpoints says: decided by hand on small numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wm_planner.compare import Difference, difference, paired, verdict
from wm_planner.errors import PlannerError
from wm_planner.registry import Entry, find, table, tree
from wm_planner.testing import random_checkpoint

ERRORS = np.linspace(1.0, 2.0, 8)


def test_the_smaller_figure_is_better_and_too_few_or_mixed_ones_are_no_verdict() -> None:
    worse = ERRORS + np.linspace(0.5, 1.0, 8)
    assert difference(ERRORS, worse).better == "A" and difference(worse, ERRORS).better == "B"
    assert difference(ERRORS[:7], worse[:7]).better == "", "seven episodes are too few"
    mixed = difference(ERRORS, ERRORS + np.array([1.0, -1.0] * 4))
    assert mixed.better == "" and mixed.low < 0.0 < mixed.high
    assert difference(ERRORS, worse).mean == pytest.approx(0.75)


def test_figures_that_speak_for_both_are_no_verdict() -> None:
    a, b, none = (Difference(0.0, 0.0, 0.0, better) for better in ("A", "B", ""))
    assert verdict([none, a, a]) == "A is better" and verdict([b, paired([False] * 6, [True] * 6)]) == "B is better"
    assert verdict([a, none, b]).startswith("no verdict: A is better in some")
    assert verdict([none]).startswith("no verdict: the intervals hold 0") and verdict([]).startswith("no verdict")


def entry(weights: str, parent: str = "", **card: object) -> Entry:
    return Entry(Path(f"{weights}.safetensors"), weights, card | ({"parent": {"weights": parent}} if parent else {}))


def test_children_stand_under_their_parents_and_an_unknown_parent_is_named() -> None:
    rows = [entry("c", "b"), entry("a"), entry("b", "a", step=7, validation={"hand_cm_median": 2.5}), entry("d", "gone"), entry("e", "e")]
    assert [(depth, one.weights) for depth, one in tree(rows)] == [(0, "a"), (1, "b"), (2, "c"), (0, "d"), (0, "e")]
    lines = table(rows)
    assert lines[1] == "  b  b.safetensors  step 7" and lines[2].strip() == "hand_cm_median 2.500"
    assert any(line.endswith("of gone") for line in lines) and "of a" not in "\n".join(lines)


def test_a_checkpoint_is_listed_once_and_what_is_none_is_passed_over(tmp_path: Path) -> None:
    first = random_checkpoint(tmp_path / "first.safetensors")
    shutil.copy(first, tmp_path / "copy.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    (tmp_path / "deep").mkdir()
    other = random_checkpoint(tmp_path / "deep" / "other.safetensors", seed=1)
    names = [found.path.name for found in find([tmp_path])]
    assert len(names) == 2 and other.name in names
    assert len(find([first, other])) == 2
    with pytest.raises(PlannerError, match="does not exist"):
        find([tmp_path / "none"])

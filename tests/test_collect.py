"""`./wm collect`: what it refuses, and a blind dataset from end to end."""

import json

import numpy as np
import pytest
from wm_bridge.cli import collect
from wm_planner.data import Dataset


def test_only_demonstrations_can_be_blind(tmp_path, capsys):
    with pytest.raises(SystemExit):
        collect.parse(["--out", str(tmp_path), "--blind"])
    assert "--demonstrations" in capsys.readouterr().err


def test_blind_demonstrations_hold_advice_and_no_pictures(tmp_path):
    words = ["--out", str(tmp_path), "--demonstrations", "--blind", "--episodes", "2", "--shard", "2", "--length", "6"]
    assert collect.main([*words, "--workers", "1", "--seed", "3"]) == 0
    shard = Dataset([tmp_path], pictures=False).shards[0]
    meta = json.loads((tmp_path / "shard_0000" / "meta.json").read_text())
    assert meta["blind"] and not (tmp_path / "shard_0000" / "images.npy").exists()
    assert shard["advice"].shape == (2, 6, 6) and shard["goal"].shape == (2, 2)
    assert 0.03 <= np.linalg.norm(shard["goal"][0] - shard["objects"][0, 0, 0, :2]) <= 0.14

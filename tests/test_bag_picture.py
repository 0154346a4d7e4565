"""A picture out of a bag: the right one, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_maker import BEGIN_S, END_S, make_bag

from wm_bridge.bags.picture import picture_at


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bag(tmp_path_factory.mktemp("bag") / "bag")


def left_edge(picture: np.ndarray) -> int:
    """Column at which the green square begins: 4 pixels more with every picture (0.1 s)."""
    return int(np.argmax(picture[120, :, 1] > 150))


@pytest.mark.parametrize(("time_s", "number"), [(0.0, 0), (0.55, 5), (2.0, 20), (2.99, 29), (END_S - BEGIN_S - 0.1, 39)])
def test_it_is_the_newest_picture_at_that_time(bag: Path, time_s: float, number: int) -> None:
    picture = picture_at(bag, time_s)
    assert picture.shape == (240, 320, 3) and left_edge(picture) == 4 * number
    (file,) = bag.glob("*.mcap")
    np.testing.assert_array_equal(picture_at(file, time_s, "/camera/image_raw/compressed"), picture)


def test_raw_pictures_are_read_as_well(bag: Path) -> None:
    picture = picture_at(bag, 1.5, "wm/goal")  # sent at 1.0 s
    assert picture.shape == (240, 320, 3) and (picture == 90).all()


@pytest.mark.parametrize(
    ("time_s", "topic", "text"),
    [
        (-0.1, "", "must be finite and not negative, got -0.1"),
        (float("nan"), "", "must be finite and not negative, got nan"),
        (7.0, "", r"is 3\.9 s long, a picture at 7 s was asked for"),
        (1.0, "left/image_raw", "has no pictures on left/image_raw; its camera topics: /camera/image_raw/compressed, /wm/goal"),
        (1.0, "sim/state", "has no pictures on sim/state"),
        (0.5, "wm/goal", "no picture yet at 0.5 s; the first one on /wm/goal comes at 1.00 s"),
    ],
)
def test_what_is_not_there_is_told(bag: Path, time_s: float, topic: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        picture_at(bag, time_s, topic)


def test_a_missing_or_foreign_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        picture_at(tmp_path / "nothing", 0.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no mcap file in"):
        picture_at(tmp_path / "empty", 0.0)
    (tmp_path / "foreign.mcap").write_bytes(b"not a bag at all")
    with pytest.raises(ValueError, match="is not an mcap file"):
        picture_at(tmp_path / "foreign.mcap", 0.0)


def test_of_a_bag_that_was_cut_off_the_part_on_disk_counts(bag: Path, tmp_path: Path) -> None:
    (file,) = bag.glob("*.mcap")
    data = file.read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(data[: len(data) * 4 // 5])
    assert left_edge(picture_at(cut, 0.5)) == 20
    with pytest.raises(ValueError, match=r"s long \(as far as it goes: the bag was cut off .*\), a picture at 3\.5 s was asked for"):
        picture_at(cut, 3.5)

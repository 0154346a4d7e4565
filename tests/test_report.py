"""From a bag to numbers, page and video; also from a bag that was cut off."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_maker import BEGIN_S, END_S, GOAL_S, S, make_bag

from wm_bridge.bags import salvage
from wm_bridge.errors import UserError
from wm_bridge.report import make, page, recording, sheet, summary, video


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a whole bag and its report."""
    folder = tmp_path_factory.mktemp("run")
    make_bag(folder / "bag")
    goal = {"number": 1, "outcome": "TIMEOUT", "message": "<late>", "decoded_m": 0.01, "true_m": float("nan"), "duration_s": 3.0}
    make.make(folder, {"seed": 3, "goals": [goal]})
    return folder


@pytest.fixture(scope="module")
def cut(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bag in two pieces of which only the first was written: no index, no metadata.

    The writer puts all of so small a bag into one chunk, so a chunk of a longer one is kept.
    """
    folder = tmp_path_factory.mktemp("cut") / "bag"
    whole = make_bag(folder.with_name("whole"), duration_s=8.0)
    data = (whole / "whole.mcap").read_bytes()
    ends = chunk_ends(data)
    assert len(ends) > 1
    folder.mkdir()
    (folder / "bag.mcap").write_bytes(data[: ends[-2] + 5000])
    return folder


def chunk_ends(data: bytes) -> list[int]:
    """Where the chunks of an mcap file end."""
    place, ends = 8, []
    while place + 9 < len(data):
        length = int.from_bytes(data[place + 1 : place + 9], "little")
        place += 9 + length
        if data[place - 9 - length] == 6:
            ends.append(place)
    return ends


def test_a_bag_is_read_back_as_it_was_written(run: Path) -> None:
    found = recording.read(run / "bag")
    count = round((END_S - BEGIN_S) * 10)
    assert found.note == "" and len(found.frames) == found.ticks == count
    assert [stamp for stamp, _ in found.goals] == [round(GOAL_S * S)]
    assert len(found.plans) == count - 10 and {row.goal for row in found.plans} == {0}
    assert found.plans[0].call_ms == pytest.approx(1.0 + 4.0 + 35.0)
    picture = found.picture_at(round((BEGIN_S + 2.04) * S))
    assert picture is not None and tuple(picture[120, 4 * 20 + 20]) == (0, 200, 0)


def test_interventions_count_only_while_enabled(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    (row,) = report["interventions"]
    assert row["reason"] == "VELOCITY_LIMIT" and row["ticks"] == row["ticks_during_goals"] == 3
    assert row["first_s"] == pytest.approx(BEGIN_S + 1.5) and row["largest_change_rad"] == pytest.approx(0.1)
    assert report["refused_messages"] == 2 and report["bag_note"] == "" and report["seed"] == 3


def test_planning_times_are_the_percentiles_of_the_reports(run: Path) -> None:
    planning = json.loads((run / "report.json").read_text())["planning"]
    calls = [30.0 + k for k in range(10, 40)]
    assert planning["plan_ms_p50"] == pytest.approx(np.percentile(calls, 50))
    assert planning["plan_ms_p99"] == pytest.approx(np.percentile(calls, 99))
    assert planning["plans"] == 30 and planning["deadlines_missed"] == 0


def test_the_json_is_strict_even_with_nan(run: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    report = json.loads((run / "report.json").read_text(), parse_constant=refuse)
    assert report["goals"][0]["true_m"] is None


def test_the_video_opens_with_every_frame(run: Path) -> None:
    found = recording.read(run / "bag")
    goals = summary.curves(found, [], summary.true_hands(found, "nico", "right_arm"))
    times = video.frame_times(found, goals)
    assert times[0] == round((GOAL_S - 0.5) * S)
    assert math.isclose((times[-1] - times[0]) / S, END_S - 0.1 - (GOAL_S - 0.5), abs_tol=0.1)
    film = cv2.VideoCapture(str(run / "video.webm"))
    pictures = []
    while (read := film.read())[0]:
        pictures.append(read[1])
    assert len(pictures) == len(times) == json.loads((run / "report.json").read_text())["video_frames"]
    assert pictures[0].shape == (video.SIZE[1], video.SIZE[0], 3)
    last = pictures[-1].astype(int)
    camera = last[video.CAPTION + 120, 4 * 39 - 10 + 20]
    assert camera[1] > 120 and camera[0] < 90  # the green square where the newest picture has it
    assert abs(last[video.CAPTION + 120, 480] - 90).max() < 15  # the goal beside it
    panel = last[video.CAPTION :, 640:]
    assert (panel.max(axis=2) - panel.min(axis=2) > 80).sum() > 100  # coloured curves have been drawn


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_a_run_becomes_a_moving_picture(run: Path, tmp_path: Path, kind: str) -> None:
    found = recording.read(run / "bag")
    goals = summary.curves(found, [], summary.true_hands(recording.Recording(), "", ""))
    count = video.animate(tmp_path / f"a.{kind}", found, goals)
    good, film = cv2.imreadanimation(str(tmp_path / f"a.{kind}"))
    assert good and len(film.frames) == count == len(video.frame_times(found, goals)[::2])
    assert film.frames[0].shape[:2] == (video.SIZE[1], video.SIZE[0]) and film.durations[-1] == video.PAUSE_MS
    assert np.abs(film.frames[0].astype(int) - film.frames[-1]).max() > 100


def test_a_moving_picture_is_of_a_kind_that_pages_show(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not film.png"):
        make.main([str(run)], tmp_path / "film.png")


def test_the_page_holds_its_pictures_and_escapes_text(run: Path) -> None:
    text = (run / "report.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 3 and text.count("data:image/png;base64,") == 1
    assert "VELOCITY_LIMIT" in text and 'href="video.webm"' in text
    assert "&lt;late&gt;" in text and "<late>" not in text and "$" not in text
    assert "data:video/webm;base64," in text
    assert "http:" not in text and "https:" not in text  # needs nothing from elsewhere


def test_a_cut_off_bag_gives_what_is_there_and_says_so(cut: Path) -> None:
    before = (cut / "bag.mcap").read_bytes()
    made = make.make(cut.parent, {}, with_video=False)
    report = json.loads(made.json.read_text())
    assert "cut off" in report["bag_note"] and report["bag_note"] in made.html.read_text().replace("&#x27;", "'")
    assert 0 < report["bag_messages"]["safety/verdict"] < 80
    assert (cut / "bag.mcap").read_bytes() == before


@pytest.mark.parametrize("keep", [8, 100, -1, -30])
def test_salvage_ends_at_a_whole_record_wherever_the_cut_is(run: Path, tmp_path: Path, keep: int) -> None:
    data = (run / "bag" / "bag.mcap").read_bytes()
    file = tmp_path / "cut.mcap"
    file.write_bytes(data[:keep])
    good = salvage.whole_records(file)
    assert good <= len(data[:keep]) and data[:8] == salvage.MAGIC
    ends = {8}
    place = 8
    while place + 9 <= len(data) - 8:
        place += 9 + int.from_bytes(data[place + 1 : place + 9], "little")
        ends.add(place)
    assert good in ends


def test_a_file_that_is_no_bag_is_named(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "x.mcap").write_bytes(b"something else")
    made = make.make(tmp_path, {"goals": []})
    assert "x.mcap is not an mcap file" in made.note and made.video is None and made.html.is_file()


def test_without_a_bag_the_report_says_why_there_are_no_curves(tmp_path: Path) -> None:
    made = make.make(tmp_path, {"goals": [{"number": 1, "outcome": "REACHED"}]})
    assert "no bag" in made.note and "no bag" in made.html.read_text()
    with pytest.raises(UserError, match="holds no bag"):
        make.main([str(tmp_path)])


def test_a_bag_without_a_goal_still_gives_a_page_and_a_video(tmp_path: Path) -> None:
    make_bag(tmp_path / "bag", duration_s=0.5, goal=False)
    made = make.make(tmp_path, {})
    assert made.note == "" and made.frames == 6 and "no goal was sent" in made.html.read_text()


def test_the_true_path_comes_from_the_simulator_states(tmp_path: Path) -> None:
    from wm_bridge.robots import spec as robots
    from wm_bridge.sim.world import SimWorld

    world = SimWorld(robots.load("nico"))
    hand = world.hand_position("right_arm")
    make_bag(tmp_path / "bag", state=world.state().to_array())
    made = make.make(tmp_path, {"goals": [{"number": 1, "goal_hand": (hand + [0.0, 0.0, 0.2]).tolist()}]}, with_video=False)
    found = recording.read(tmp_path / "bag")
    (goal,) = summary.curves(found, [{"goal_hand": (hand + [0, 0, 0.2]).tolist()}], summary.true_hands(found, "nico", "right_arm"))
    assert goal.truth_m == pytest.approx(0.2, abs=1e-9) and goal.truth_t[0] == pytest.approx(0.0, abs=0.11)
    assert made.note == ""


def test_curves_of_values_that_are_not_finite_can_be_drawn() -> None:
    nothing = np.zeros(0)
    goal = summary.Curve(0, S, np.array([0.0, 0.1, 0.2]), np.array([1.0, np.nan, np.inf]), np.full(3, np.nan), nothing, nothing)
    assert video.plot(goal, 1.0).std() > 0 and "data:image/png;base64,iVBOR" in sheet.plot(page.chart(goal), "curves")

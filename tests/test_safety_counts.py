"""The counts that the safety case rests on, and that an interrupted count is the same count."""

import json

import numpy as np
import pytest

from wm_bridge.bench import safety_counts, safety_rate
from wm_bridge.bench.safety_counts import Count, Ledger
from wm_bridge.bench.safety_loop import SafetyLoop
from wm_bridge.bench.safety_rate import Ticks
from wm_bridge.errors import UserError
from wm_bridge.robots import spec as robots
from wm_bridge.safety.config import SafetyConfig

CASES = [(spec, SafetyConfig.load(spec.safety_path())) for spec in map(robots.load, ("arm6", "nico"))]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_million_adversarial_ticks_break_no_limit():
    found = Ledger(None, seed=11).viability(100_000_000)
    assert found.ticks >= 100_000_000
    assert found.violations == 0, found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_ticks_of_the_whole_filter_break_no_margin_and_no_certificate():
    """A minute; `./wm bench safety` counts 100,000."""
    found = Ledger(None, seed=11).closed_loop(CASES, 100_000)
    assert found.ticks >= 100_000
    assert not found.violations and not found.broken and not found.latched, found
    assert found.limited > 3_000  # the margins were met
    assert -1e-6 <= -found.worst < 0.001  # and reached, as exactly as coal measures


# ---- the count itself --------------------------------------------------------------------


def noted(rng, number, ticks):
    """A chunk that tells which it was."""
    return Count(ticks, violations=number, worst=float(rng.random()))


def test_an_interrupted_count_goes_on_where_it_stopped(tmp_path):
    file = tmp_path / "state.json"
    whole = Ledger(None, 0).count("some", noted, 1000, 100)

    def interrupted(rng, number, ticks):
        if number == 4:
            raise KeyboardInterrupt
        return noted(rng, number, ticks)

    with pytest.raises(KeyboardInterrupt):
        Ledger(file, 0).count("some", interrupted, 1000, 100)
    done = []

    def rest(rng, number, ticks):
        done.append(number)
        return noted(rng, number, ticks)

    assert Ledger(file, 0).count("some", rest, 1000, 100) == whole
    assert done == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("other", [{"seed": 1}, {"code": "0000000"}])
def test_a_count_of_another_seed_or_other_code_begins_anew(tmp_path, other):
    file = tmp_path / "state.json"
    Ledger(file, 0).count("some", noted, 300, 100)
    kept = json.loads(file.read_text())
    assert kept["counts"]
    file.write_text(json.dumps({**kept, **other}))
    numbers = []
    Ledger(file, 0).count("some", lambda rng, number, ticks: numbers.append(number) or Count(ticks), 300, 100)
    assert numbers == [0, 1, 2]


def test_a_breach_is_counted(monkeypatch):
    """The witness that finds every posture too near is believed."""
    monkeypatch.setattr(safety_counts.SafetyLoop, "_look", lambda self, before, whole: setattr(self.report, "breaches", self.report.breaches + 1))
    assert Ledger(None, 0).closed_loop(CASES[:1], 50).violations == 50


def test_filter_and_witness_know_the_same_things():
    """A second thing of a name would move the first one in the filter and stay as a ghost in the witness."""
    spec, config = CASES[0]
    loop = SafetyLoop(spec, config, np.random.default_rng(0))
    names = set()
    for _ in range(60):
        if len(loop.filter.obstacles) == 3:
            loop.filter.remove_obstacle(loop.filter.obstacles[0].name)
        loop._place_thing()
        names |= {thing.name for thing in loop.filter.obstacles}
        things = loop.witness._geometry.ngeoms - loop.witness._own - 1  # without the table
        assert things == len(loop.filter.obstacles)
    assert len(names) > 10


# ---- rate --------------------------------------------------------------------------------


def test_missed_ticks_and_lost_messages_are_told_apart():
    sent = np.arange(1000) * 4_000_000
    late = np.delete(sent, 500)  # one tick did not happen: the counter goes on without a gap
    found = Ticks(list(late), list(range(999)), [0.3] * 999).figures(250.0)
    assert found["missed_share"] == pytest.approx(1 / 999) and found["period_max_ms"] == 8.0
    lost = Ticks(list(late), list(np.delete(np.arange(1000), 500)), [0.3] * 999).figures(250.0)
    assert lost["missed_share"] == pytest.approx(0.0, abs=1e-9) and lost["period_max_ms"] == 4.0
    with pytest.raises(UserError, match="periods were heard"):
        Ticks([1, 2], [1, 2], [0.1]).figures(250.0)


def test_a_rate_that_cannot_be_measured_does_not_lose_the_others(tmp_path, monkeypatch, capsys):
    from wm_bridge.bench import safety

    def record(kind, rate_hz, fifo, seconds):
        if rate_hz > 400:
            raise UserError("the arm does not move", "stop other programs")
        return Ticks([int(k * 1e9 / rate_hz) for k in range(999)], list(range(999)), [0.3] * 999)

    monkeypatch.setattr(safety_rate, "record", record)
    file = tmp_path / "rate.json"
    assert safety.main(["--ros", "--graph", "light", "--rate", "500", "250", "--json", str(file)]) == 1
    assert json.loads(file.read_text())["figures"]["light_250_rate_hz"] == pytest.approx(250.0)
    assert "the arm does not move; stop other programs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.alone
def test_the_rate_is_measured_in_a_running_graph_of_an_arm_from_yaml_and_urdf(tmp_path):
    from wm_bridge.bench import safety

    file = tmp_path / "rate.json"
    words = ["--ros", "--graph", "light", "--rate", "125", "--no-fifo", "--seconds", "3", "--json", str(file)]
    assert safety.main(words) == 0
    figures = json.loads(file.read_text())["figures"]
    assert 7.0 < figures["light_125_period_p50_ms"] < 9.0  # not the usual ten: the parameter arrives
    assert figures["light_125_rate_hz"] < 130.0 and figures["light_125_moving_share"] > 0.0

"""One fault on the servo bus while the arm moves: does it hold or recover, and does it ever jump?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wm_bridge.core.types import Command, FloatArray
from wm_bridge.robots import spec as robots
from wm_bridge.robots.dynamixel import motors as motor_map
from wm_bridge.robots.dynamixel.bus_process import make
from wm_bridge.robots.dynamixel.bus_sim import BusSim
from wm_bridge.robots.dynamixel.robot import BusSettings, DynamixelRobot
from wm_bridge.robots.follower import Follower
from wm_bridge.robots.gate import Arrival, CommandGate, Refusal, Ticket, Writer

KINDS = ("dead", "corrupt", "unplug")
FASTEST = 1.3  # share of a joint's speed limit: the servos' own limit is 1.25, and their unit is coarse
DRIFT_RAD = 0.1  # between being lost and being held again
_PERIOD_S = 0.01
_UNPLUG_S = 2.0
_MOTORS = "nico_rh4d"


@dataclass(frozen=True)
class Outcome:
    """How one trial ended.

    Attributes:
        good: no joint faster than ``FASTEST``, none moved further than ``DRIFT_RAD`` while lost, latched
            until the reset, and afterwards it follows again.
        fastest: highest true speed of a joint, share of its limit. drift_rad: true motion while lost.
    """

    kind: str
    seed: int
    good: bool
    fastest: float
    drift_rad: float
    detail: str


class Rig:
    """The driver's road from ``hw/command`` to the servos, without ROS: gate, follower, robot, bus.

    Args:
        patience_ms: of the bus; more on a busy machine.
    """

    def __init__(self, seed: int, patience_ms: float, lost_ms: float, folder: Path) -> None:
        self.spec = robots.load("nico")
        self._motors = motor_map.load(_MOTORS).ordered(self.spec.joint_names)
        mine = folder / "verified.yaml"
        mine.write_text(motor_map.find(_MOTORS).read_text(encoding="utf-8").replace("verified: false", "verified: true"), encoding="utf-8")
        self.bus: BusSim = make(motor_map.load(_MOTORS), seed=seed).start()
        settings = BusSettings(self.bus.path, str(mine), dry_run=False, patience_ms=patience_ms, lost_ms=lost_ms)
        self.robot = DynamixelRobot(self.spec, settings, threaded=False)
        self.robot.connect()
        self._gate = CommandGate(1, "safety", "/", 200_000_000, 20_000_000, equal_stamps=True)
        self._gate.writers([Writer("aa", "safety", "/")])
        self.follower = Follower(self.robot, self._gate, 200_000_000, _PERIOD_S)
        self._counter, self._epoch = 0, 1
        self.centre = self.robot.read().position.copy()
        self._phase = 0.0

    def close(self) -> None:
        """Let go of robot and bus."""
        self.robot.disconnect()
        self.bus.close()

    def reset(self) -> None:
        """What safety/reset does: commands begin where the arm is measured."""
        self._epoch += 1
        self.centre = self.robot.read().position.copy()
        self._phase = 0.0

    def tick(self) -> None:
        """One period: a command on a slow wave around ``centre``, and a cycle of the bus."""
        begin = time.monotonic()
        self._phase += _PERIOD_S
        position = self.spec.clip(self.centre + 0.15 * np.sin(2.0 * self._phase))
        self._counter += 1
        now = time.time_ns()
        arrival = Arrival(Ticket(7, 1, self._counter, self._epoch), now, sequence=self._counter)
        self.follower.offer(Command(self.spec.joint_names, position, np.zeros_like(position), now), arrival, now, time.monotonic_ns())
        self.follower.step(time.monotonic_ns())
        self.robot.cycle()
        time.sleep(max(_PERIOD_S - (time.monotonic() - begin), 0.0))

    def true_position(self) -> FloatArray:
        """(J,) where the simulated joints really are, rad."""
        self.bus.settle()
        return np.array([motor.to_joint(self.bus.servos[motor.ident].angle) for motor in self._motors])

    def fastest(self) -> float:
        """Highest true speed of any joint so far, share of its limit."""
        speeds = [self.bus.servos[motor.ident].fastest * motor.ratio for motor in self._motors]
        return float(np.max(np.array(speeds) / self.spec.velocity))

    @property
    def latched(self) -> bool:
        """The gate waits for a reset."""
        return self._gate.latched is not Refusal.NONE


def trial(kind: str, seed: int, patience_ms: float = 10.0, lost_ms: float = 100.0, limit_s: float = 30.0) -> Outcome:
    """One fault of this kind at a time, a place and with a wire noise that the seed decides.

    Args:
        limit_s: for noticing, coming back and following again, each.
    """
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(seed, patience_ms, lost_ms, Path(folder))
        try:
            return _trial(rig, kind, seed, limit_s)
        finally:
            rig.close()


def _trial(rig: Rig, kind: str, seed: int, limit_s: float) -> Outcome:
    rng = np.random.default_rng(seed)
    for _ in range(20 + int(rng.integers(80))):
        rig.tick()
    if rig.latched or not rig.follower.following:
        rig.reset()
        _until(rig, lambda: rig.follower.following, limit_s)
    if kind == "corrupt":
        rig.bus.faults.corrupt = 0.05
        for _ in range(100):
            rig.tick()
        rig.bus.faults.corrupt = 0.0
        drift = 0.0
    else:
        ident = int(rng.choice([motor.ident for motor in motor_map.load(_MOTORS).joints]))
        if kind == "dead":
            rig.bus.servos[ident].dead = True
        else:
            rig.bus.unplug()
        if not _until(rig, lambda: rig.latched, limit_s):
            return _bad(rig, kind, seed, "not noticed")
        rig.tick()
        held, begin = rig.true_position(), time.monotonic()
        while time.monotonic() - begin < (_UNPLUG_S if kind == "unplug" else 0.5):
            rig.tick()
        rig.bus.servos[ident].dead = False
        rig.bus.replug()
        if not _until(rig, lambda: not rig.robot.trouble(), limit_s):
            return _bad(rig, kind, seed, f"did not come back: {rig.robot.trouble()}")
        for _ in range(20):
            rig.tick()
        drift = float(np.abs(rig.true_position() - held).max())
        if rig.follower.following or not rig.latched:
            return _bad(rig, kind, seed, "moved on without a reset")
    if rig.latched:
        if not _until(rig, lambda: not rig.robot.trouble(), limit_s):
            return _bad(rig, kind, seed, f"did not come back: {rig.robot.trouble()}")
        rig.tick()
        rig.reset()
    follows = _until(rig, lambda: rig.follower.following, limit_s)
    for _ in range(30):
        rig.tick()
    fastest = rig.fastest()
    detail = "" if follows else f"does not follow again: {rig.follower.problem}"
    return Outcome(kind, seed, follows and fastest <= FASTEST and drift <= DRIFT_RAD, fastest, drift, detail)


def _bad(rig: Rig, kind: str, seed: int, why: str) -> Outcome:
    return Outcome(kind, seed, False, rig.fastest(), float("nan"), why)


def _until(rig: Rig, done: Callable[[], bool], limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > deadline:
            return False
        rig.tick()
    return True

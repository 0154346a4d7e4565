"""The simulated robot as an ordinary driver."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from wm_bridge.core.types import Command, FloatArray, JointState
from wm_bridge.robots.base import MotorHealth, Robot
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.sim.config import SceneConfig
from wm_bridge.sim.world import SimWorld


@dataclass(frozen=True)
class SensorModel:
    """How a simulated robot differs from a perfect one.

    Attributes:
        position_noise, velocity_noise, effort_noise: standard deviations, rad, rad/s, N m.
        state_latency_s: age of a measurement when it can be read.
        command_latency_s: time until a command reaches the servos.
        sample_period_s: how often the joints are measured.
    """

    position_noise: float = 0.0005
    velocity_noise: float = 0.005
    effort_noise: float = 0.02
    state_latency_s: float = 0.0
    command_latency_s: float = 0.0
    sample_period_s: float = 0.01

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name} must be in 0..1, got {value}")
        if self.sample_period_s < 0.001:
            raise ValueError(f"sample_period_s must be >= 1 ms, got {self.sample_period_s}")


@dataclass(frozen=True)
class MotorModel:
    """How simulated motors warm up and load their supply; figures of a small servo.

    Copper loss goes with the square of the torque, and the housing gives heat off in proportion
    to how much warmer it is than the room: T' = (ambient + rise (tau / tau_max)^2 - T) / time.

    Attributes:
        ambient_c: of the room, where the motors start. rise_c: above it after long full torque.
        time_s: until about two thirds of a change are reached. supply_v: without load.
        sag_v: less than that with full torque of every motor.
    """

    ambient_c: float = 25.0
    rise_c: float = 60.0
    time_s: float = 180.0
    supply_v: float = 12.0
    sag_v: float = 0.8


PERFECT = SensorModel(position_noise=0.0, velocity_noise=0.0, effort_noise=0.0)


class MujocoRobot(Robot):
    """A ``SimWorld`` behind the ``Robot`` interface; time moves only in ``advance``.

    Stamps are simulated time. ``world`` is there for scoring and for the camera, never for control.
    """

    def __init__(
        self,
        spec: RobotSpec,
        scene: SceneConfig | None = None,
        sensors: SensorModel | None = None,
        seed: int = 0,
        world: SimWorld | None = None,
        motors: MotorModel = MotorModel(),  # noqa: B008
    ) -> None:
        super().__init__(spec)
        self._motors = motors
        self._temperature: FloatArray = np.full(len(spec.joint_names), motors.ambient_c)
        self.world = world if world is not None else SimWorld(spec, scene or SceneConfig())
        self._sensors = sensors or SensorModel()
        self._rng = np.random.default_rng(seed)
        self._pending: deque[tuple[int, Command]] = deque()
        self._measured: deque[JointState] = deque()

    @property
    def time_ns(self) -> int:
        """Simulated time."""
        return self.world.time_ns

    def advance(self, duration_s: float) -> None:
        """Advance the physics, delivering commands and taking measurements on their way."""
        period = self._sensors.sample_period_s
        whole, rest = divmod(duration_s, period)
        for part in (*[period] * int(whole), rest):
            if part > 1e-9:
                self._deliver()
                self.world.step(part)
                self._warm(part)
                self._measure()
        self._deliver()

    def health(self) -> MotorHealth:
        """Measured efforts, and temperature and supply by the model; no motor is ever in error."""
        effort = self._read().effort if self._measured else np.zeros_like(self._temperature)
        load = float(np.abs(self.world.tau).sum() / self.spec.effort.sum())
        count = len(self.spec.joint_names)
        return MotorHealth(
            tuple(effort.tolist()),
            tuple(self._temperature.tolist()),
            (self._motors.supply_v - self._motors.sag_v * load,) * count,
            (0,) * count,
        )

    def restart(self) -> None:
        """Forget measurements and commands on their way; call after ``world.reset``."""
        self._pending.clear()
        self._measured.clear()
        self._measure()

    def _open(self) -> None:
        self.restart()

    def _close(self) -> None:
        self._pending.clear()

    def _read(self) -> JointState:
        newest = self.world.time_ns - round(self._sensors.state_latency_s * 1e9)
        while len(self._measured) > 1 and self._measured[1].stamp_ns <= newest:
            self._measured.popleft()
        return self._measured[0]

    def _write(self, command: Command) -> Command:
        due_ns = self.world.time_ns + round(self._sensors.command_latency_s * 1e9)
        self._pending.append((due_ns, command))
        self._deliver()
        return command

    def _stop(self) -> FloatArray:
        self._pending.clear()
        self.world.hold()
        return np.array(self.world.reference)

    def _warm(self, duration_s: float) -> None:
        motors, share = self._motors, self.world.tau / self.spec.effort
        settled = motors.ambient_c + motors.rise_c * share * share
        self._temperature += (settled - self._temperature) * -np.expm1(-duration_s / motors.time_s)

    def _deliver(self) -> None:
        while self._pending and self._pending[0][0] <= self.world.time_ns:
            self.world.set_reference(self._pending.popleft()[1].position)

    def _measure(self) -> None:
        world, sensors = self.world, self._sensors
        noise = self._rng.standard_normal((3, len(self.spec.joint_names)))
        self._measured.append(
            JointState(
                names=self.spec.joint_names,
                position=world.q + sensors.position_noise * noise[0],
                velocity=world.dq + sensors.velocity_noise * noise[1],
                effort=world.tau + sensors.effort_noise * noise[2],
                stamp_ns=world.time_ns,
            )
        )
        self._read()  # drops what has become too old

"""A hand on the bus: opens, closes, and stops closing when its board tells of too much current."""

from __future__ import annotations

import enum

from wm_bridge.robots.dynamixel import arming
from wm_bridge.robots.dynamixel.bus import ServoBus
from wm_bridge.robots.dynamixel.motors import Hand

_AT_RAD = 0.05  # a finger this close has arrived
_PERIOD_S = 0.1  # the board is asked ten times a second, as nicomotion does


class HandState(enum.Enum):
    """What the hand does."""

    IDLE = "idle"
    MOVING = "moving"
    HOLDING = "holding"  # stopped where it is: by the current guard at what it grips, or by ``halt``
    SILENT = "silent"  # the board or a finger does not answer: nothing is sent


class HandDriver:
    """Moves the fingers of one hand between open and closed.

    | state   | left by                                                                       |
    |---------|-------------------------------------------------------------------------------|
    | IDLE    | ``move`` -> MOVING                                                            |
    | MOVING  | all fingers there -> IDLE; current above the limit while closing, or ``halt`` |
    |         | -> HOLDING; no answer of board or finger -> SILENT, fingers stop where they are |
    | HOLDING | ``move`` -> MOVING                                                            |
    | SILENT  | ``move`` -> MOVING                                                            |
    """

    def __init__(self, bus: ServoBus, hand: Hand) -> None:
        self.hand, self._bus = hand, bus
        self.state = HandState.IDLE
        self.current = 0
        self.closure = 0.0
        self._closing = False
        self._at = -_PERIOD_S
        self._wanted: float | None = None
        self._halt = False

    def move(self, closure: float) -> None:
        """Go to a closure of 0 (open) to 1 (closed); sent with the next ``step``.

        Raises:
            ValueError: a closure outside of 0..1 (NaN too).
        """
        if not 0.0 <= closure <= 1.0:
            raise ValueError(f"closure must be in 0..1, got {closure}")
        self._halt = False
        self._wanted = closure

    def halt(self) -> None:
        """Stop the fingers where they are, with the next ``step``; what was asked for is forgotten."""
        self._halt, self._wanted = True, None

    def step(self, now: float) -> None:
        """Ten times a second at most: look at the current, and send what is new; ``now`` in s."""
        if now - self._at < _PERIOD_S:
            return
        self._at = now
        (wanted, self._wanted), (halt, self._halt) = (self._wanted, None), (self._halt, False)
        if halt and self.state is HandState.MOVING:
            self._stop([self._position(index) for index in range(len(self.hand.fingers))])
            self.state = HandState.HOLDING
        elif wanted is not None:
            self._closing, self.closure = wanted > self.closure, wanted
            sent = all(self._send(finger.ident, finger.model.to_count(finger.at(wanted)), index) for index, finger in enumerate(self.hand.fingers))
            self.state = HandState.MOVING if sent else HandState.SILENT
        elif self.state is HandState.MOVING:
            self._watch()

    # ---- inside --------------------------------------------------------------------

    def _watch(self) -> None:
        ident, model = self.hand.board
        current = arming.read_value(self._bus, ident, model, "current")
        positions = [self._position(index) for index in range(len(self.hand.fingers))]
        if current is None or None in positions:
            self._stop(positions)
            self.state = HandState.SILENT
            return
        self.current = current
        if self._closing and self.current > self.hand.current_limit:
            self._stop(positions)
            self.state = HandState.HOLDING
            return
        angles = [finger.model.to_angle(count) for finger, count in zip(self.hand.fingers, positions, strict=True) if count is not None]
        targets = [finger.at(self.closure) for finger in self.hand.fingers]
        if all(abs(angle - target) < _AT_RAD for angle, target in zip(angles, targets, strict=True)):
            self.state = HandState.IDLE

    def _stop(self, positions: list[int | None]) -> None:
        for index, count in enumerate(positions):
            if count is not None:
                self._send(self.hand.fingers[index].ident, count, index)

    def _position(self, index: int) -> int | None:
        finger = self.hand.fingers[index]
        return arming.read_value(self._bus, finger.ident, finger.model, "position")

    def _send(self, ident: int, count: int, index: int) -> bool:
        model = self.hand.fingers[index].model
        done = arming.hold_at(self._bus, ident, model, count, model.to_speed(self.hand.speed))
        if done and not model.goal_enables_torque:
            done = self._bus.write(ident, model["torque"].address, b"\x01")
        return done

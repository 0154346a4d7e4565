"""Brings one servo into the state in which it may be driven: holding where it is, slow, with torque."""

from __future__ import annotations

from wm_bridge.robots.dynamixel.bus import Block, ServoBus
from wm_bridge.robots.dynamixel.models import POSITION_MODE, ServoModel

_TRIES = 3


def arm(bus: ServoBus, ident: int, model: ServoModel, speed: int, torque_limit: float) -> tuple[str, int]:
    """Goal at the measured position, moving speed limited, then torque; checked by reading back.

    Goal and speed go out in one packet: in protocol 1.0 a goal switches the torque on, and a
    servo that just got its power has no speed limit.

    Args:
        speed: moving speed, counts >= 1. torque_limit: share of the largest torque.

    Returns:
        "" when done, else why not (the servo was not moved in either case), and the count it holds.
    """
    why, count = wrong_mode(bus, ident, model), 0
    if why:
        return why, 0
    for _ in range(_TRIES):
        why, count = _attempt(bus, ident, model, speed, torque_limit)
        if not why:
            break
    return why, count


def wrong_mode(bus: ServoBus, ident: int, model: ServoModel) -> str:
    """Why a servo would not go to a goal but turn on and on; "" for one in position (joint) mode.

    In protocol 1.0 both angle limits at 0 mean wheel mode, in which the moving speed alone makes it
    turn; both at the top mean several turns.
    """
    if "mode" in model.registers:
        mode = read_value(bus, ident, model, "mode")
        return "" if mode == POSITION_MODE else f"is in operating mode {mode}, expected {POSITION_MODE} (position)"
    found = read_fields(bus, ident, model, ("lower_limit", "upper_limit"))
    if found is None:
        return "does not answer"
    low, high = found["lower_limit"], found["upper_limit"]
    return "" if low < high else f"has angle limits {low} and {high}: wheel or multi-turn mode, expected joint mode (0 and 4095)"


def hold_at(bus: ServoBus, ident: int, model: ServoModel, count: int, speed: int) -> bool:
    """Goal and moving speed in one packet; True when acknowledged."""
    return _write(bus, ident, model.target[0], model.targets(count, speed))


def torque_count(share: float) -> int:
    """Register value of a torque limit, share of the largest torque."""
    return round(1023 * share)


def lost_settings(bus: ServoBus, ident: int, model: ServoModel, torque_limit: float) -> bool:
    """True when a servo has no torque, no speed limit or another torque limit: its power failed, or it protects itself.

    One read; no answer is not a sign of it.
    """
    found = read_fields(bus, ident, model, _settings(model), tries=1)
    if found is None:
        return False
    told = found.get("torque_limit", torque_count(torque_limit))
    return found["torque"] == 0 or found["moving_speed"] == 0 or told != torque_count(torque_limit)


def read_fields(bus: ServoBus, ident: int, model: ServoModel, names: tuple[str, ...], tries: int = _TRIES) -> dict[str, int] | None:
    """Several registers in one read; None without an answer.

    Answers of protocol 1.0 do not say what they answer: a late one is taken for the next one of the same length. So
    what matters is read in spans of different lengths.
    """
    fields = {name: model[name] for name in names}
    first = min(field.address for field in fields.values())
    block = Block(ident, first, max(field.address + field.size for field in fields.values()) - first)
    for _ in range(tries):
        data = bus.read(block)
        if data is not None:
            return {name: field.decode(data[field.address - first : field.address - first + field.size]) for name, field in fields.items()}
    return None


def read_value(bus: ServoBus, ident: int, model: ServoModel, register: str) -> int | None:
    """One register; None without an answer to any of three requests."""
    field = model[register]
    for _ in range(_TRIES):
        data = bus.read(Block(ident, field.address, field.size))
        if data is not None:
            return field.decode(data)
    return None


def _attempt(bus: ServoBus, ident: int, model: ServoModel, speed: int, torque_limit: float) -> tuple[str, int]:
    first, second = (_position(bus, ident, model) for _ in range(2))
    if first is None or second is None:
        return "does not answer", 0
    if abs(first - second) > model.counts_per_turn / 100:
        return "moves, or its position is not read well", 0
    count = min(max(second, model.lowest), model.highest)
    if "torque_limit" in model.registers:
        field = model["torque_limit"]
        if not _write(bus, ident, field.address, field.encode(torque_count(torque_limit))):
            return "refuses its torque limit", 0
    if not hold_at(bus, ident, model, count, speed):
        return f"refuses to hold at count {count}: outside of its own angle limits?", 0
    if not _write(bus, ident, model["torque"].address, b"\x01"):
        return "refuses torque", 0
    found = read_fields(bus, ident, model, ("goal", *_settings(model)))
    if found is None:
        return "does not answer", 0
    for register, value in {"torque": 1, "goal": count, "moving_speed": speed}.items():
        if found[register] != value:
            off = " (it has switched itself off: hot or overloaded?)" if register == "torque" and found[register] == 0 else ""
            return f"{register} reads {found[register]}, wrote {value}{off}", 0
    return "", count


def _write(bus: ServoBus, ident: int, address: int, data: bytes) -> bool:
    return any(bus.write(ident, address, data) for _ in range(_TRIES))


def _settings(model: ServoModel) -> tuple[str, ...]:
    return tuple(name for name in ("torque", "moving_speed", "torque_limit") if name in model.registers)


def _position(bus: ServoBus, ident: int, model: ServoModel) -> int | None:
    """From the span of all that is measured."""
    for _ in range(_TRIES):
        data = bus.read(Block(ident, *model.block))
        if data is not None:
            return model.measured(data).count
    return None

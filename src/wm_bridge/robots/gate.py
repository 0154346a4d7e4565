"""Whose hw/command the driver follows: one known writer, in order, fresh. Knows no ROS."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

_NAME_UNKNOWN = "_NODE_NAME_UNKNOWN_"  # what the middleware says before a node's name has arrived
_NO_SEQUENCE = 1 << 63  # from here on: "not supported" in rmw's terms


@dataclass(frozen=True, slots=True)
class Ticket:
    """What every ``hw/command`` carries besides the joints.

    Attributes:
        writer: session of the safety node, random at its start.
        reader: session of the driver it writes for, from the driver's heartbeat; 0 = none heard yet.
        counter: one more with every message: the heartbeat of the safety node.
        epoch: how often the safety node has been reset by hand.
    """

    writer: int
    reader: int
    counter: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Writer:
    """A publisher of ``hw/command``, as discovery tells it: endpoint gid in hex, and its node."""

    gid: str
    node: str
    namespace: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """A command's way to the driver.

    Attributes:
        ticket: None when the message carries none.
        stamp_ns: node time it was made. queued_ns: how long it lay in the driver's queue.
        sequence: number that the middleware gave it, per publisher; None = not supported.
        gid: of the publisher, hex; None where rclpy does not tell (before Kilted).
    """

    ticket: Ticket | None
    stamp_ns: int
    queued_ns: int = 0
    sequence: int | None = None
    gid: str | None = None


class Refusal(enum.Enum):
    """What is wrong with a ``hw/command``, as the rest of a sentence. Why a command is not followed; the ones of ``LATCHING`` also close the gate until a reset."""

    NONE = "follow"
    NO_TICKET = "carries no ticket: something other than the safety node wrote it"
    SECOND_WRITER = "has more than one writer"
    WRONG_WRITER = "is not written by the expected node"
    OTHER_SESSION = "comes from another safety node than before (restarted?)"
    REPLAYED = "repeats a counter: a replay, or a second writer"
    OTHER_PUBLISHER = "comes from another publisher than before"
    CLOCK_SET_BACK = "is stamped before the last one"
    ROBOT_LOST = "is not followed since the robot was lost"
    NOT_IDENTIFIED = "has a writer that discovery does not know yet"
    OTHER_DRIVER = "is made for another driver (restarted?)"
    NO_STAMP = "carries no stamp"
    OLD = "is too old"
    FUTURE = "is stamped in the future"


LATCHING = frozenset(
    {
        Refusal.NO_TICKET,
        Refusal.SECOND_WRITER,
        Refusal.WRONG_WRITER,
        Refusal.OTHER_SESSION,
        Refusal.REPLAYED,
        Refusal.OTHER_PUBLISHER,
        Refusal.CLOCK_SET_BACK,
        Refusal.ROBOT_LOST,
    }
)


class CommandGate:
    """Decides for every command whether it may be followed.

    | state   | follows                                  | left by                                     |
    |---------|------------------------------------------|---------------------------------------------|
    | NEW     | the first good command; binds its writer | -> BOUND                                    |
    | BOUND   | the bound writer, counter by counter     | a refusal of ``LATCHING`` -> LATCHED        |
    | LATCHED | nothing                                  | single known writer, and then either its    |
    |         |                                          | epoch grew (safety/reset), a new session of |
    |         |                                          | it was reset, or ``reset`` -> NEW           |

    The middleware numbers the messages of each publisher, so ``counter - sequence`` is one
    constant per publisher: a message from any other publisher breaks it, whatever it says.
    This keeps mistakes out (a second controller, a replayed bag, a stray ``topic pub``), not
    an attacker on the same network: that is what SROS2 is for.

    Args:
        session: of the driver, not 0.
        node, namespace: of the only node that may write.
        max_age_ns: an older stamp is refused. future_ns: further ahead is refused.
        equal_stamps: take two commands of one stamp (simulated time stands between its ticks).
    """

    def __init__(
        self,
        session: int,
        node: str,
        namespace: str,
        max_age_ns: int,
        future_ns: int,
        equal_stamps: bool = False,
    ) -> None:
        if session <= 0 or max_age_ns <= 0 or future_ns < 0:
            raise ValueError(f"gate: session {session}, max_age_ns {max_age_ns}, future_ns {future_ns}")
        self.session = session
        self._expected = (node, namespace)
        self._max_age_ns, self._future_ns = max_age_ns, future_ns
        self._equal_stamps = equal_stamps
        self._writers: tuple[Writer, ...] = ()
        self._last: Ticket | None = None
        self._offset: int | None = None
        self._stamp_ns = 0
        self.latched = Refusal.NONE

    @property
    def last(self) -> Ticket | None:
        """Ticket of the newest command that may be followed."""
        return self._last

    def writers(self, found: Sequence[Writer]) -> Refusal:
        """Take note of all publishers of ``hw/command``; a wrong one closes the gate at once."""
        self._writers = tuple(found)
        wrong = self._wrong_writers()
        if wrong in LATCHING:
            self._latch(wrong)
        return wrong

    def judge(self, arrival: Arrival, now_ns: int) -> Refusal:
        """Return Refusal.NONE when the command may be followed.

        Args:
            now_ns: node time of the driver.
        """
        if self.latched is Refusal.NONE:
            return self._judge(arrival, now_ns)
        if not self._may_reopen(arrival):
            return self.latched
        known = self.latched, self._last, self._offset, self._stamp_ns
        self._reopen()
        wrong = self._judge(arrival, now_ns)
        if wrong is not Refusal.NONE:  # a reset counts with a command that may be followed; forgetting the writer before would let any other in
            self.latched, self._last, self._offset, self._stamp_ns = known
        return wrong

    def _judge(self, arrival: Arrival, now_ns: int) -> Refusal:
        wrong = self._wrong_identity(arrival)
        if wrong is Refusal.NONE:
            wrong = self._wrong_time(arrival, now_ns)
        if wrong is not Refusal.NONE:
            if wrong in LATCHING:
                self._latch(wrong)
            return wrong
        assert arrival.ticket is not None  # _wrong_identity says NO_TICKET otherwise
        if self._last is None:
            self._offset = _offset(arrival)
        self._last, self._stamp_ns = arrival.ticket, arrival.stamp_ns
        return Refusal.NONE

    def close(self) -> None:
        """The robot was lost: whatever comes now is followed only after a reset."""
        self._latch(Refusal.ROBOT_LOST)

    def reset(self) -> Refusal:
        """Open a latched gate by hand; returns the cause when it still acts (gate stays shut)."""
        wrong = self._wrong_writers()
        if wrong in LATCHING:
            return wrong
        self._reopen()
        return Refusal.NONE

    # ---- inside --------------------------------------------------------------------

    def _wrong_writers(self) -> Refusal:
        if len(self._writers) > 1:
            return Refusal.SECOND_WRITER
        if not self._writers or self._writers[0].node in ("", _NAME_UNKNOWN):
            return Refusal.NOT_IDENTIFIED
        found = (self._writers[0].node, self._writers[0].namespace)
        return Refusal.NONE if found == self._expected else Refusal.WRONG_WRITER

    def _wrong_identity(self, arrival: Arrival) -> Refusal:
        ticket, last = arrival.ticket, self._last
        if ticket is None:
            return Refusal.NO_TICKET
        wrong = self._wrong_writers()
        if wrong is not Refusal.NONE:
            return wrong
        if arrival.gid is not None and arrival.gid != self._writers[0].gid:
            return Refusal.OTHER_PUBLISHER
        if ticket.reader != self.session:
            return Refusal.OTHER_DRIVER
        if last is None:
            return Refusal.NONE
        if ticket.writer != last.writer:
            return Refusal.OTHER_SESSION
        if ticket.counter <= last.counter or ticket.epoch < last.epoch:
            return Refusal.REPLAYED
        if _offset(arrival) != self._offset:
            return Refusal.OTHER_PUBLISHER
        return Refusal.NONE

    def _wrong_time(self, arrival: Arrival, now_ns: int) -> Refusal:
        stamp = arrival.stamp_ns
        if stamp <= 0:
            return Refusal.NO_STAMP
        if stamp > now_ns + self._future_ns:
            return Refusal.FUTURE
        if self._last is not None and (stamp < self._stamp_ns or (stamp == self._stamp_ns and not self._equal_stamps)):
            return Refusal.CLOCK_SET_BACK
        if now_ns - stamp > self._max_age_ns or arrival.queued_ns > self._max_age_ns:
            return Refusal.OLD
        return Refusal.NONE

    def _may_reopen(self, arrival: Arrival) -> bool:
        """True when a person has reset the safety node since the gate was latched."""
        ticket, last = arrival.ticket, self._last
        if ticket is None or ticket.reader != self.session or self._wrong_writers() is not Refusal.NONE:
            return False
        if last is None or ticket.writer != last.writer:
            return ticket.epoch > 0
        return ticket.epoch > last.epoch

    def _latch(self, wrong: Refusal) -> None:
        if self.latched is Refusal.NONE:
            self.latched = wrong

    def _reopen(self) -> None:
        self.latched = Refusal.NONE
        self._last, self._offset, self._stamp_ns = None, None, 0


def _offset(arrival: Arrival) -> int | None:
    """Counter minus sequence: constant for one publisher; None where there is no sequence."""
    if arrival.ticket is None or arrival.sequence is None or arrival.sequence >= _NO_SEQUENCE:
        return None
    return arrival.ticket.counter - arrival.sequence

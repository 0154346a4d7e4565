"""ROBOTIS' port, made to wait instead of spin, on a steady clock; and what is to be said about the adapter."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

from dynamixel_sdk import PortHandler

_SYSFS = Path("/sys/bus/usb-serial/devices")
LATENCY_REMEDY = (
    'udev rule: ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"; '
    "now: echo 1 | sudo tee /sys/bus/usb-serial/devices/DEVICE/latency_timer"
)


class BusPort(PortHandler):  # type: ignore[misc]
    """The SDK's serial port with three differences.

    It sleeps until bytes arrive (the SDK reads in a loop and takes a whole core), its time-outs do not follow the
    wall clock, and it takes the device for itself, so that no second program can drive the same servos.
    """

    def take(self, baud: int) -> None:
        """Open the device.

        Raises:
            OSError: not there, not allowed, or in use (serial.SerialException is one).
            ValueError: a baud rate that the SDK does not know.
        """
        if not self.setBaudRate(baud):
            raise ValueError(f"baud rate {baud} is not one of the SDK's")
        self.ser.exclusive = True

    def readPort(self, length: int) -> bytes:  # noqa: N802
        """At most ``length`` bytes; waits for the first of them until the packet's time-out."""
        if length <= 0:
            return b""
        if not self.ser.in_waiting:
            left = (self.packet_timeout - self.getTimeSinceStart()) * 1e-3
            if left > 0.0:
                select.select([self.ser.fileno()], [], [], left)
        return bytes(self.ser.read(length))

    def getCurrentTime(self) -> float:  # noqa: N802
        """Milliseconds on the steady clock."""
        return time.monotonic() * 1e3


def latency_ms(path: str, sysfs: Path = _SYSFS) -> int | None:
    """The USB adapter's latency timer, ms; None where the device has none (or it cannot be read)."""
    try:
        return int((sysfs / os.path.basename(os.path.realpath(path)) / "latency_timer").read_text())
    except (OSError, ValueError):
        return None

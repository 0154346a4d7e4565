"""A USB webcam made of bytes, plugged into the kernel by USB/IP (module vhci-hcd): its driver, uvcvideo, is the real one.

It follows the USB Video Class 1.0: MJPG by bulk transfers, two sizes, exposure automatic or by hand. A USB/IP request is a
USB transfer in 48 bytes (Documentation/usb/usbip_protocol.rst of Linux); a socket pair stands in for the network.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from pathlib import Path

import cv2
import numpy as np

PORTS = Path("/sys/devices/platform/vhci_hcd.0")
SIZES = ((320, 240), (640, 480))
FASTEST_HZ, SLOWEST_HZ = 30, 5
_TICKS = 10_000_000  # of 100 ns in a second
_PAYLOAD = 16_384  # most bytes of one transfer, its header with them
_HEAD = struct.Struct(">IIIII")  # command, number, device, direction, endpoint
_SUBMIT, _UNLINK, _SUBMITTED, _UNLINKED = 1, 2, 3, 4
_STALL, _CANCELLED = -32, -104
_SET, _GET, _MIN, _MAX, _RES, _LEN, _INFO, _DEF = 0x01, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87
_PROBE = struct.Struct("<HBBIHHHHHII")  # hint, format, size, interval, five rates and qualities, most bytes of a picture and of a transfer
MODE, TIME = 2, 4  # selectors of exposure: who chooses it, and 100 us
_CONTROLS = {MODE: ("<B", 1, 8, 9, 8), TIME: ("<I", 1, 5000, 1, 150)}  # form, least, most, step (MODE: a set of bits), at first
AUTOMATIC_LEVEL = 200


def _descriptor(kind: int, form: str, *values: int) -> bytes:
    body = struct.pack("<" + form, *values)
    return bytes((len(body) + 2, kind)) + body


def _frame(index: int, width: int, height: int) -> bytes:
    rates = [_TICKS // hz for hz in (FASTEST_HZ, 15, SLOWEST_HZ)]
    return _descriptor(0x24, "BBBHHIIIIB3I", 7, index, 0, width, height, 10_000, 10**8, width * height * 2, rates[0], 3, *rates)


def _configuration() -> bytes:
    terminals = _descriptor(0x24, "BBHBBHHHB3s", 2, 1, 0x201, 0, 0, 0, 0, 0, 3, bytes((1 << 1 | 1 << 3, 0, 0)))  # a lens: mode and time of exposure
    terminals += _descriptor(0x24, "BBHBBB", 3, 2, 0x101, 0, 1, 0)
    control = _descriptor(0x24, "BHHIBB", 1, 0x100, 13 + len(terminals), 48_000_000, 1, 1) + terminals
    frames = b"".join(_frame(index, *size) for index, size in enumerate(SIZES, 1))
    formats = _descriptor(0x24, "9B", 6, 1, len(SIZES), 1, 1, 0, 0, 0, 0) + frames + _descriptor(0x24, "BBBB", 0x0D, 1, 1, 4)
    stream = _descriptor(0x24, "BBHBBBBBBBB", 1, 1, 14 + len(formats), 0x81, 0, 2, 0, 0, 0, 1, 0) + formats
    all_of_it = (
        _descriptor(0x0B, "6B", 0, 2, 0x0E, 3, 0, 0)
        + _descriptor(4, "7B", 0, 0, 0, 0x0E, 1, 0, 0) + control
        + _descriptor(4, "7B", 1, 0, 1, 0x0E, 2, 0, 0) + stream
        + _descriptor(5, "BBHB", 0x81, 2, 512, 0)
    )  # fmt: skip
    return _descriptor(2, "HBBBBB", 9 + len(all_of_it), 2, 1, 0, 0x80, 50) + all_of_it


_TOLD = {
    1: _descriptor(1, "HBBBBHHHBBBB", 0x200, 0xEF, 2, 1, 64, 0x1D6B, 0x0102, 0x100, 0, 1, 0, 1),
    2: _configuration(),
    3: _descriptor(3, "H", 0x409),
}


class UsbWebcam:
    """Grey pictures as bright as the exposure is long: level = 100 us, or `AUTOMATIC_LEVEL`.

    Attributes:
        silent: it sends nothing. broken: so many of the next pictures end in their middle.
        exposure: current value per selector, `MODE` and `TIME`.
    """

    def __init__(self) -> None:
        self.silent, self.broken = False, 0
        self.exposure = {selector: values[-1] for selector, values in _CONTROLS.items()}
        self._probe = (0, 1, 1, _TICKS // FASTEST_HZ)
        self._waiting: deque[int] = deque()  # numbers of transfers that want pictures
        self._lock = threading.Lock()

    def plug(self) -> None:
        """Into the first port; the kernel asks at once what it is."""
        self._socket, kernels = socket.socketpair()
        self._waiting.clear()
        (PORTS / "attach").write_text(f"0 {kernels.fileno()} 1 3")  # port, socket, device, high speed
        kernels.close()
        threads = [threading.Thread(target=self._follow, args=(target,), daemon=True) for target in (self._answer, self._stream)]
        for thread in threads:
            thread.start()

    def unplug(self) -> None:
        """Pull the cable."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def _follow(self, target) -> None:  # noqa: ANN001
        try:
            target()
        except (OSError, EOFError):  # unplugged
            self._socket.close()

    def _receive(self, count: int) -> bytes:
        found = self._socket.recv(count, socket.MSG_WAITALL)
        if len(found) < count:
            raise EOFError
        return found

    def _send(self, command: int, number: int, status: int, data: bytes = b"", length: int | None = None) -> None:
        reply = _HEAD.pack(command, number, 0, 0, 0) + struct.pack(">iiiii8x", status, length or len(data), 0, 0, 0)
        with self._lock:
            self._socket.sendall(reply + data)

    def _answer(self) -> None:
        while True:
            command, number, _, direction, endpoint = _HEAD.unpack(self._receive(20))
            first, length, *_, setup = struct.unpack(">Iiiii8s", self._receive(28))
            if command == _UNLINK:
                try:
                    self._waiting.remove(first)
                    self._send(_UNLINKED, number, _CANCELLED)
                except ValueError:  # it has been answered
                    self._send(_UNLINKED, number, 0)
            elif endpoint:
                self._waiting.append(number)
            else:
                data = self._receive(length) if direction == 0 else b""
                told = self._control(setup, data)
                status = _STALL if told is None else 0
                self._send(_SUBMITTED, number, status, (told or b"")[:length] if direction else b"", len(data) or None)

    def _control(self, setup: bytes, data: bytes) -> bytes | None:
        kind, request, value, index, _ = struct.unpack("<BBHHH", setup)
        if kind & 0x60 == 0:
            if request == 6:  # GET_DESCRIPTOR
                return _descriptor(3, "14s", "Webcam".encode("utf-16-le")) if value >> 8 == 3 and value & 0xFF else _TOLD.get(value >> 8)
            return b"\0\0" if request == 0 else b""
        if index & 0xFF == 1:  # the stream: what is proposed is what is done
            if request == _SET:
                self._probe = _PROBE.unpack(data[: _PROBE.size])[:4]
            return _PROBE.pack(*self._probe, 0, 0, 0, 0, 0, 640 * 480 * 2, _PAYLOAD) if request != _INFO else b"\3"
        if index >> 8 != 1 or value >> 8 not in _CONTROLS:
            return None
        form, least, most, step, default = _CONTROLS[value >> 8]
        if request == _SET:
            (self.exposure[value >> 8],) = struct.unpack(form, data)
            return b""
        if request in (_INFO, _LEN):
            return b"\3" if request == _INFO else struct.pack("<H", struct.calcsize(form))
        return struct.pack(form, {_GET: self.exposure[value >> 8], _MIN: least, _MAX: most, _RES: step, _DEF: default}[request])

    def _picture(self) -> bytes:
        width, height = SIZES[self._probe[2] - 1]
        level = min(self.exposure[TIME], 255) if self.exposure[MODE] == 1 else AUTOMATIC_LEVEL
        image = np.full((height, width, 3), level, np.uint8)
        cv2.putText(image, f"{time.monotonic():.3f}", (10, 40), cv2.FONT_HERSHEY_PLAIN, 2.0, (255 - level,) * 3)
        found = cv2.imencode(".jpg", image)[1].tobytes()
        if self.broken:
            self.broken -= 1
            return found[: len(found) // 3]
        return found

    def _stream(self) -> None:
        toggle, due = 0, time.monotonic()
        while self._socket.fileno() >= 0:
            due = max(due + self._probe[3] / _TICKS, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            if self.silent or not self._waiting:
                continue
            picture, toggle = self._picture(), toggle ^ 1
            parts = [picture[k : k + _PAYLOAD - 2] for k in range(0, len(picture), _PAYLOAD - 2)]
            for k, part in enumerate(parts):
                last = k == len(parts) - 1
                self._send(_SUBMITTED, self._next(), 0, bytes((2, 0x80 | last << 1 | toggle)) + part)

    def _next(self) -> int:
        """Number of the next transfer that wants a picture; waits for it."""
        while self._socket.fileno() >= 0:
            with contextlib.suppress(IndexError):
                return self._waiting.popleft()
            time.sleep(1e-3)
        raise EOFError

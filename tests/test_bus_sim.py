"""The simulated Dynamixel bus: bytes worked out by hand from the protocol documents, and ROBOTIS' own SDK on its pty."""

from __future__ import annotations

import math
import os
import termios
import time
import tty

import dynamixel_sdk as sdk
import pytest
from conftest import wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_bridge import resources
from wm_bridge.robots.dynamixel import motors as motor_map
from wm_bridge.robots.dynamixel import packets
from wm_bridge.robots.dynamixel.bus_process import BusProcess, make
from wm_bridge.robots.dynamixel.bus_sim import BusSim
from wm_bridge.robots.dynamixel.models import MODELS
from wm_bridge.robots.dynamixel.servo_sim import ANGLE, CHECKSUM, OVERHEAT, SimServo, Surroundings

MX, PH = MODELS["MX-64"], MODELS["PH54-200-S500-R"]


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(bus: BusSim, protocol: float) -> tuple[sdk.PortHandler, object]:
    port = sdk.PortHandler(bus.path)
    assert port.openPort() and port.setBaudRate(1_000_000)
    return port, sdk.PacketHandler(protocol)


def exchange(bus: BusSim, request: bytes, length: int) -> bytes:
    """Write raw bytes to the device and read the answer."""
    fd = os.open(bus.path, os.O_RDWR | os.O_NOCTTY)
    try:
        tty.setraw(fd)
        os.write(fd, request)
        answer = b""
        deadline = time.monotonic() + 10.0
        while len(answer) < length and time.monotonic() < deadline:
            answer += os.read(fd, length - len(answer))
        return answer
    finally:
        os.close(fd)


@pytest.fixture(autouse=True)
def patient_sdk(monkeypatch):
    """The SDK gives up after 34 ms, which a busy machine may need to wake the other thread: half a second."""
    monkeypatch.setattr("dynamixel_sdk.port_handler.LATENCY_TIMER", 250)


@pytest.fixture
def bus1():
    """Three MX-64 at 0 rad: ids 1, 5, 6; time is the test's."""
    clock = Clock()
    with BusSim([SimServo(ident, MX) for ident in (1, 5, 6)], clock=clock) as bus:
        bus.tick = clock
        yield bus


def test_protocol_1_bytes_are_those_of_the_document(bus1):
    # ping of id 1: FF FF 01 02 01 ~(01+02+01) = FB; answer FF FF 01 02 00 FC
    assert exchange(bus1, bytes.fromhex("ffff010201fb"), 6) == bytes.fromhex("ffff010200fc")
    # read 2 bytes at 36 (0x24) of id 1: ~(01+04+02+24+02) = D2; 2048 = 00 08: ~(01+04+00+00+08) = F2
    assert exchange(bus1, bytes.fromhex("ffff0104022402d2"), 8) == bytes.fromhex("ffff0104000008f2")
    # write goal 2304 = 00 09 at 30 (1E): ~(01+05+03+1E+00+09) = CF; answer as to the ping
    assert exchange(bus1, bytes.fromhex("ffff0105031e0009cf"), 6) == bytes.fromhex("ffff010200fc")
    assert bus1.servos[1].get("goal") == 2304


def test_a_wrong_checksum_is_refused_and_the_goal_stays(bus1):
    answer = exchange(bus1, bytes.fromhex("ffff0105031e0009ce"), 6)
    assert answer[4] == CHECKSUM and bus1.servos[1].get("goal") == 2048


def test_protocol_2_crc_vector_and_stuffing():
    assert packets.frame2(1, b"\x01") == bytes.fromhex("fffffd000103000119 4e".replace(" ", ""))
    stream = bytearray(packets.frame2(7, b"\x03\x00\x01" + b"\xff\xff\xfd" * 3))
    packet = packets.take2(stream)
    assert packet == packets.Packet(7, 3, b"\x00\x01" + b"\xff\xff\xfd" * 3) and not stream


@given(st.binary(min_size=1, max_size=60), st.binary(max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_instruction_is_found_again_behind_noise(data, noise):
    noise = noise.replace(b"\xff", b"\x11")
    body = bytes((9, len(data) + 2, 3)) + data
    assert packets.take1(bytearray(noise + b"\xff\xff" + body + bytes((packets.checksum(body),)))) == packets.Packet(9, 3, data)
    assert packets.take2(bytearray(noise + packets.frame2(9, b"\x03" + data))) == packets.Packet(9, 3, data)


def test_a_servo_moves_at_its_moving_speed_and_zero_means_as_fast_as_it_can(bus1):
    servo = bus1.servos[1]
    servo.write(30, MX.targets(MX.to_count(1.0), MX.to_speed(0.5)))
    servo.advance(100.0)
    servo.advance(101.0)
    assert servo.angle == pytest.approx(0.5, abs=0.01)  # one count of speed is 0.012 rad/s
    servo.advance(110.0)
    assert servo.angle == pytest.approx(1.0, abs=0.002)
    servo.write(32, b"\x00\x00")
    servo.write(30, MX["goal"].encode(MX.to_count(-2.0)))
    servo.advance(110.1)
    assert servo.fastest == pytest.approx(MX.no_load)
    with pytest.raises(ValueError, match="not a limit"):
        MX.targets(2048, 0)
    assert MX.to_speed(0.0) == MX.to_speed(1e-9) == MX.to_speed(math.nan) == 1


def test_torque_off_falls_and_a_goal_switches_the_torque_on_in_protocol_1_only(bus1):
    servo = bus1.servos[5]
    servo.surroundings = Surroundings(falls=-0.5, walls=(-1.0, 1.0))
    servo.advance(100.0)
    servo.advance(101.0)
    assert servo.angle == pytest.approx(-0.5) and not servo.torque
    servo.write(30, MX["goal"].encode(2048))
    assert servo.torque
    other = SimServo(1, PH)
    other.write(560, PH.targets(1000, 10))
    assert other.get("goal") == 1000 and not other.torque


def test_the_real_sdk_pings_reads_writes_and_hears_errors(bus1):
    port, handler = opened(bus1, 1.0)
    assert handler.ping(port, 5) == (310, sdk.COMM_SUCCESS, 0)
    assert handler.ping(port, 77)[1] == sdk.COMM_RX_TIMEOUT
    assert handler.write2ByteTxRx(port, 5, 30, 1000)[0] == sdk.COMM_SUCCESS
    assert handler.read2ByteTxRx(port, 5, 30)[0] == 1000
    bus1.servos[5].put("upper_limit", 3000)
    assert handler.write2ByteTxRx(port, 5, 30, 3500)[1] == ANGLE
    assert handler.read2ByteTxRx(port, 5, 30)[0] == 1000
    bus1.servos[5].temperature_c = 85.0
    assert handler.read1ByteTxRx(port, 5, 43) == (85, sdk.COMM_SUCCESS, OVERHEAT)
    assert handler.read1ByteTxRx(port, 5, 24)[0] == 0  # the servo protects itself
    port.closePort()


@pytest.mark.parametrize(("level", "ping", "read", "write"), [(0, True, False, False), (1, True, True, False), (2, True, True, True)])
def test_status_return_level(bus1, level, ping, read, write):
    bus1.servos[1].put("status_level", level)
    port, handler = opened(bus1, 1.0)
    assert (handler.txRxPacket(port, [0, 0, 1, 2, 1, 0])[1] == sdk.COMM_SUCCESS) == ping
    assert (handler.read1ByteTxRx(port, 1, 43)[1] == sdk.COMM_SUCCESS) == read
    assert (handler.write2ByteTxRx(port, 1, 30, 1500)[0] == sdk.COMM_SUCCESS) == write
    assert bus1.servos[1].get("goal") == 1500  # obeyed all the same
    port.closePort()


def test_the_sdk_s_bulk_read_group_fails_with_protocol_1_and_the_way_round_works(bus1):
    port, handler = opened(bus1, 1.0)
    group = sdk.GroupBulkRead(port, handler)
    group.addParam(1, 36, 8)
    with pytest.raises(TypeError):  # the day this passes the SDK is mended, and our detour can go
        group.txRxPacket()
    assert handler.bulkReadTx(port, [8, 1, 36, 8, 5, 36, 8, 6, 36], 9) == sdk.COMM_SUCCESS
    for ident in (1, 5, 6):
        data, result, _ = handler.readRx(port, ident, 8)
        assert result == sdk.COMM_SUCCESS and MX.measured(bytes(data)).count == 2048
    bus1.servos[5].dead = True
    handler.bulkReadTx(port, [8, 1, 36, 8, 5, 36, 8, 6, 36], 9)
    assert handler.readRx(port, 1, 8)[1] == sdk.COMM_SUCCESS
    assert handler.readRx(port, 6, 8)[1] == sdk.COMM_RX_TIMEOUT  # behind the silent one
    port.closePort()


def test_protocol_2_sync_read_and_alert_with_the_real_sdk():
    with BusSim([SimServo(ident, PH, 0.1) for ident in (1, 2)]) as bus:
        port, handler = opened(bus, 2.0)
        assert handler.ping(port, 2)[0] == 2020
        assert handler.broadcastPing(port)[0].keys() == {1, 2}
        goal = PH.to_count(-0.2)
        assert handler.write4ByteTxRx(port, 1, 564, goal & 0xFFFFFFFF) == (sdk.COMM_SUCCESS, 0)
        assert PH["goal"].decode(handler.read4ByteTxRx(port, 1, 564)[0].to_bytes(4, "little")) == goal == -31953
        start, length = PH.block
        group = sdk.GroupSyncRead(port, handler, start, length)
        assert group.addParam(1) and group.addParam(2) and group.txRxPacket() == sdk.COMM_SUCCESS
        assert group.getData(2, 580, 4) == PH.to_count(0.1)
        bus.servos[2].temperature_c = 95.0
        _, result, error = handler.read1ByteTxRx(port, 2, 594)
        assert result == sdk.COMM_SUCCESS and error & 0x80
        assert handler.read1ByteTxRx(port, 2, 518)[0] == OVERHEAT
        port.closePort()


def test_corruption_and_loss_have_the_shares_asked_for_and_repeat_with_the_seed():
    def count(seed: int) -> tuple[int, int]:
        with BusSim([SimServo(1, MX)], seed=seed) as bus:
            bus.faults.corrupt, bus.faults.drop = 0.2, 0.1
            port, handler = opened(bus, 1.0)
            port.setPacketTimeout = lambda length: port.setPacketTimeoutMillis(60.0)
            for _ in range(40):
                handler.readTxRx(port, 1, 36, 8)
            port.closePort()
            return bus.counts.corrupted, bus.counts.dropped

    first = count(3)
    assert first == count(3) and 6 <= first[0] <= 30 and first[1] >= 1


def test_unplugged_the_open_device_fails_and_the_link_leads_to_the_new_one(bus1):
    port, handler = opened(bus1, 1.0)
    old = os.path.realpath(bus1.path)
    bus1.unplug()
    assert not os.path.exists(bus1.path)
    with pytest.raises((OSError, termios.error)):
        handler.ping(port, 1)
    bus1.replug()
    again, handler = opened(bus1, 1.0)
    assert handler.ping(again, 1)[0] == 310
    assert os.path.realpath(bus1.path).startswith(os.path.dirname(old))
    again.closePort()


def test_wire_time_is_that_of_one_megabaud():
    with BusSim([SimServo(ident, MX, return_delay=250) for ident in range(1, 15)], wire_time=True) as bus:
        port, handler = opened(bus, 1.0)
        begin = time.monotonic()
        handler.bulkReadTx(port, [value for ident in range(1, 15) for value in (8, ident, 36)], 42)
        port.setPacketTimeoutMillis(2000.0)
        for ident in range(1, 15):
            assert handler.readRx(port, ident, 8)[1] == sdk.COMM_SUCCESS
        # 49 bytes there, 14 x 14 back, 14 x 500 us return delay = 9.45 ms
        assert time.monotonic() - begin >= 9.4e-3
        port.closePort()


def test_every_motors_file_builds_a_bus_and_the_process_serves_it():
    names = sorted(path.stem for path in resources.path("config/motors").glob("*.yaml"))
    assert len(names) >= 6
    for name in names:
        bus = make(motor_map.load(name))
        assert len(bus.servos) == len(motor_map.load(name).owners())
        bus.close()
    process = BusProcess("nico_rh4d")
    try:
        port = sdk.PortHandler(process.path)
        port.openPort()
        handler = sdk.PacketHandler(1.0)
        assert handler.ping(port, 21)[0] == 310
        process.tell("unplug 0.2")
        wait_until(lambda: not os.path.exists(process.path), 10.0, "unplugged")
        wait_until(lambda: os.path.exists(process.path), 10.0, "plugged in again")
    finally:
        process.close()

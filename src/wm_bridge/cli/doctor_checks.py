"""The checks behind `./wm doctor`. Each really tries the thing it reports on."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from wm_bridge.cli import doctor_troubles as trouble
from wm_bridge.cli import environment, system_packages, venv_setup
from wm_bridge.cli.doctor_troubles import Finding, State

_TRY_SECONDS = 60
_SHARED_MEMORY_BYTES = 256 << 20  # a 16 MB segment for each of about ten processes, and room

_RENDER = """
import os, sys
os.environ["MUJOCO_GL"] = os.environ["PYOPENGL_PLATFORM"] = sys.argv[1]
import mujoco
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom type="sphere" size=".5" rgba="1 0 0 1"/>'
    '<camera name="c" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(data, "c")
    picture = renderer.render()
print(int(picture[8, 8, 0]) > int(picture[8, 8, 1]) + 20)
"""

_SEGMENT = """
import pathlib, rclpy
memory = pathlib.Path("/dev/shm")
before = {path.name for path in memory.iterdir()}
rclpy.init()
node = rclpy.create_node("wm_doctor")
sizes = [path.stat().st_size for path in memory.iterdir() if path.name not in before and path.name.startswith(("fastrtps_", "fastdds_"))]
node.destroy_node()
rclpy.shutdown()
print(max(sizes, default=0))
"""

_INTERFACES = """
from wm_interfaces.msg import PlanReport, SafetyState, SafetyVerdict
from wm_interfaces.action import ReachGoal
from tf2_msgs.msg import TFMessage
assert PlanReport().header and SafetyVerdict.BRAKE == 3 and ReachGoal.Goal() and TFMessage() and SafetyState()
"""


def python() -> Finding:
    """The interpreter of the environment."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", State.OK, f"{version} in {sys.prefix}")


def set_up() -> Finding:
    """Whether everything in the stamp is as the files here ask for."""
    root, venv = _root(), Path(sys.prefix)
    if not (root / "requirements").is_dir():
        return Finding("set-up", State.ABSENT, "installed package, not a checkout")
    wanted = venv_setup.steps(root, venv, dev=True, native=environment.wants_native_ros(os.environ))
    stale = [step.title for step in venv_setup.pending(wanted, venv) if step.name != "dev"]
    if stale:
        return trouble.STALE.found(steps=", ".join(stale))
    return Finding("set-up", State.OK, f"{venv.name} is up to date ({len(wanted)} steps)")


def system() -> Finding:
    """Libraries and tools of the system."""
    lacking = system_packages.missing()
    if not lacking:
        return Finding("system", State.OK, "compiler, headers, GL, GLib and libusb are here")
    packages = sorted({package for item in lacking for package in item.packages})
    return trouble.SYSTEM.found(names=", ".join(item.name for item in lacking), packages=" ".join(packages))


def ros() -> Finding:
    """rclpy, its origin and the middleware."""
    done = _python("import rclpy, rclpy.utilities as u; print(rclpy.__file__, u.get_rmw_implementation_identifier())")
    if done.returncode:
        return trouble.NO_ROS.found(error=_last(done))
    file, middleware = done.stdout.rsplit(maxsplit=1)
    native = not Path(file).is_relative_to(sys.prefix)
    origin = f"ROS 2 {os.environ.get('ROS_DISTRO', '?')} of this machine" if native else "ROS 2 Jazzy from wheels"
    domain = os.environ.get("ROS_DOMAIN_ID", "0 (default)")
    return Finding("ros", State.OK, f"{origin}, {middleware}, domain {domain}, range {os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE', 'default')}")


def interfaces() -> Finding:
    """Our messages and tf2_msgs."""
    done = _python(_INTERFACES)
    if done.returncode:
        return trouble.NO_INTERFACES.found(error=_last(done))
    return Finding("interfaces", State.OK, "wm_interfaces and tf2_msgs import")


def fast_dds() -> Finding:
    """Starts a participant and looks at the shared-memory segment it makes."""
    profile = next((os.environ[name] for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE") if os.environ.get(name)), "")
    if profile and not Path(profile).is_file():
        return trouble.NO_PROFILE.found(file=profile)
    done = _python(_SEGMENT)
    if done.returncode:
        return trouble.NO_PARTICIPANT.found(error=_last(done))
    size = int(done.stdout.split()[-1])
    if size < 16 << 20:
        return trouble.SMALL_SEGMENT.found(size=size >> 10)
    return Finding("fast dds", State.OK, f"profile in use, shared-memory segment of {size >> 20} MB")


def shared_memory() -> Finding:
    """/dev/shm: one 16 MB segment per process; killed processes leave theirs behind."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return trouble.NO_SHARED_MEMORY.found()
    usage = shutil.disk_usage(folder)
    free, total = usage.free >> 20, usage.total >> 20
    if usage.free < _SHARED_MEMORY_BYTES:
        return trouble.FULL_SHARED_MEMORY.found(free=free, total=total)
    return Finding("shared memory", State.OK, f"{free} of {total} MB free in /dev/shm")


def render() -> Finding:
    """Draws a red ball with each backend and looks at the pixel in its middle."""
    answers = {backend: _python(_RENDER, backend) for backend in ("egl", "osmesa")}
    working = [name for name, done in answers.items() if done.returncode == 0 and done.stdout.split()[-1:] == ["True"]]
    if working:
        rest = [name for name in answers if name not in working]
        return Finding("render", State.OK, f"{' and '.join(working)} draw{'' if len(working) > 1 else 's'}" + (f" ({rest[0]} does not)" if rest else ""))
    return trouble.NO_RENDERER.found(error=_last(answers["egl"]))


def cameras() -> Finding:
    """Video devices and RealSense cameras."""
    devices = sorted(str(path) for path in Path("/dev").glob("video*"))
    done = _python("import pyrealsense2 as rs; print(len(rs.context().query_devices()))")
    if done.returncode:
        return trouble.NO_REALSENSE.found(count=len(devices), error=_last(done))
    count = int(done.stdout.split()[-1])
    locked = [device for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    text = f"{', '.join(devices) or 'no /dev/video*'}; {count} RealSense"
    if locked:
        return trouble.LOCKED_CAMERA.found(found=text, devices=", ".join(locked))
    return Finding("cameras", State.OK if devices or count else State.ABSENT, text)


def serial_ports() -> Finding:
    """USB serial adapters, as used by servo buses."""
    ports = sorted(str(path) for pattern in ("ttyUSB*", "ttyACM*") for path in Path("/dev").glob(pattern))
    locked = [port for port in ports if not os.access(port, os.R_OK | os.W_OK)]
    if locked:
        return trouble.LOCKED_PORT.found(ports=", ".join(locked))
    return Finding("serial ports", State.OK if ports else State.ABSENT, ", ".join(ports) or "no /dev/ttyUSB* or /dev/ttyACM*")


def gpu() -> Finding:
    """What torch computes on."""
    done = _python("import torch; c = torch.cuda; print(torch.__version__, [c.get_device_name(i) for i in range(c.device_count())] if c.is_available() else [])")
    if done.returncode:
        return trouble.NO_TORCH.found(error=_last(done))
    version, _, names = done.stdout.strip().partition(" ")
    return Finding("gpu", State.ABSENT if names == "[]" else State.OK, f"torch {version}, {'no GPU: the CPU plans' if names == '[]' else names}")


def checkpoints() -> Finding:
    """The trained models that ship with the planner; each file's header is read."""
    found = importlib.util.find_spec("wm_planner")
    folder = Path(found.origin).parent / "checkpoints" if found and found.origin else _root()
    good: list[str] = []
    bad: list[str] = []
    for file in sorted(folder.glob("*.safetensors")):
        (good if _reads_as_safetensors(file) else bad).append(f"{file.name} ({file.stat().st_size / 1e6:.1f} MB)")
    if bad:
        return trouble.BAD_CHECKPOINT.found(files=", ".join(bad))
    if not good:
        return trouble.NO_CHECKPOINT.found(folder=folder)
    return Finding("checkpoints", State.OK, ", ".join(good))


def processor() -> Finding:
    """Cores that this process may use, and how busy they are."""
    cores, busy = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    if cores < 2:
        return trouble.ONE_CORE.found(cores=cores, load=busy)
    if busy > cores - 0.5:
        return trouble.BUSY.found(cores=cores, load=busy)
    return Finding("processor", State.OK, f"{cores} cores, load {busy:.1f} over the last minute")


ALL_CHECKS: tuple[Callable[[], Finding], ...] = (
    python, set_up, system, ros, interfaces, fast_dds, shared_memory, render, cameras, serial_ports, gpu, checkpoints, processor,
)  # fmt: skip


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter: a crash in a driver must not end the doctor."""
    command = [sys.executable, "-c", code, *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TRY_SECONDS, cwd="/")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer in {_TRY_SECONDS} s")


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = [text for text in (done.stderr or done.stdout).splitlines() if text.strip()]
    return lines[-1].strip() if lines else f"exit code {done.returncode}"


def _reads_as_safetensors(file: Path) -> bool:
    """The format: 8 bytes of little-endian header length, a JSON header, then exactly the tensors' bytes."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length < min(file.stat().st_size, 100 << 20):
            return False
        try:
            header = json.loads(stream.read(length))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=-1)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return False
    return bool(8 + length + end == file.stat().st_size)


def _root() -> Path:
    return Path(__file__).resolve().parents[3]

"""What `./wm doctor` can find wrong, and the remedy for each: the doctor and the documentation read this one table."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(str, enum.Enum):
    """How a finding stands."""

    OK = "ok"
    ABSENT = "absent"  # optional and not here
    WARN = "warn"  # works, but not as it should
    FAIL = "fail"  # the demo cannot run


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        name: what was looked at.
        state: how it stands.
        text: what was found, with numbers.
        remedy: what to do; empty when nothing is to be done.
    """

    name: str
    state: State
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Trouble:
    """One thing that can be wrong.

    Attributes:
        name: what was looked at.
        state: WARN or FAIL.
        sign, remedy: what is shown; words in braces are filled in.
    """

    name: str
    state: State
    sign: str
    remedy: str

    def found(self, **values: object) -> Finding:
        """The finding, with its values filled in."""
        return Finding(self.name, self.state, self.sign.format(**values), self.remedy.format(**values))


_ANEW = "remove .venv and start ./wm again"
_PROFILE = "unset FASTRTPS_DEFAULT_PROFILES_FILE and FASTDDS_DEFAULT_PROFILES_FILE: ./wm then names config/fastdds.xml"
_CHECKOUT = "git checkout -- src/wm_planner/checkpoints"

STALE = Trouble("set-up", State.WARN, "outdated: {steps}", "any ./wm command brings it up to date")
SYSTEM = Trouble("system", State.FAIL, "lacks {names}", "sudo apt-get install -y {packages}")
NO_ROS = Trouble("ros", State.FAIL, "rclpy does not import: {error}", _ANEW)
NO_INTERFACES = Trouble(
    "interfaces", State.FAIL, "do not import: {error}", "remove build and .venv/wm-stamp.json, start ./wm again; with WM_ROS=native: colcon build"
)
NO_PROFILE = Trouble("fast dds", State.FAIL, "the profile {file} does not exist", _PROFILE)
NO_PARTICIPANT = Trouble("fast dds", State.FAIL, "no participant: {error}", "see the line above; is /dev/shm writable?")
SMALL_SEGMENT = Trouble("fast dds", State.WARN, "shared-memory segment of {size} KB: camera images will be lost", _PROFILE)
NO_SHARED_MEMORY = Trouble("shared memory", State.FAIL, "/dev/shm does not exist", "mount -t tmpfs tmpfs /dev/shm")
FULL_SHARED_MEMORY = Trouble(
    "shared memory", State.WARN, "{free} of {total} MB free in /dev/shm",
    "docker: --shm-size=512m or --ipc=host; else remove stale /dev/shm/fastrtps_* while no node runs",
)  # fmt: skip
NO_RENDERER = Trouble("render", State.FAIL, "neither backend draws: {error}", "sudo apt-get install -y libegl1 libgl1-mesa-dri (or libosmesa6)")
NO_REALSENSE = Trouble("cameras", State.WARN, "{count} video devices; pyrealsense2: {error}", "sudo apt-get install -y libusb-1.0-0")
LOCKED_CAMERA = Trouble("cameras", State.WARN, "{found}; no permission for {devices}", "sudo usermod -aG video $USER, then log in again")
LOCKED_PORT = Trouble("serial ports", State.WARN, "no permission for {ports}", "sudo usermod -aG dialout $USER, then log in again")
NO_TORCH = Trouble("gpu", State.FAIL, "torch does not import: {error}", _ANEW)
BAD_CHECKPOINT = Trouble("checkpoints", State.FAIL, "unreadable: {files}", _CHECKOUT)
NO_CHECKPOINT = Trouble("checkpoints", State.FAIL, "none in {folder}", f"{_CHECKOUT}, or ./wm train")
ONE_CORE = Trouble("processor", State.WARN, "{cores} core, load {load:.1f} over the last minute", "the demo wants two cores; with one the planner misses its deadline")
BUSY = Trouble("processor", State.WARN, "{cores} cores, load {load:.1f} over the last minute", "other programs use the cores: timing figures will be worse than they should")
BROKEN_CHECK = Trouble("any other", State.FAIL, "{kind}: {error}", "report this with the output of ./wm doctor --json")

TROUBLES = tuple(value for value in list(globals().values()) if isinstance(value, Trouble))

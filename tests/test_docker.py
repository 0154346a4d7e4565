"""The container files hold together: what is copied exists, what compose starts is known, rules are well formed."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from wm_bridge import arguments

DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
RULES = ROOT / "docker" / "udev" / "99-wm-robot.rules"
SERVICES = COMPOSE["services"]
STAGES = re.findall(r"^FROM \S+ AS (\w+)", DOCKERFILE, re.MULTILINE)


def instructions(name: str) -> list[str]:
    """Arguments of an instruction, continuation lines joined."""
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def ignored(path: str) -> bool:
    """Does docker/Dockerfile.dockerignore keep a path out of the build? The last line that fits decides."""
    out = False
    for line in (ROOT / "docker" / "Dockerfile.dockerignore").read_text().split():
        pattern = line.removeprefix("!")
        above = [path, *map(str, Path(path).parents)]
        if any(fnmatch.fnmatch(part, pattern) for part in above if part != "."):
            out = not line.startswith("!")
    return out


def default(text: str) -> str:
    """A compose value with no variable set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_everything_that_is_copied_exists_and_is_sent_to_the_build() -> None:
    copied = [word for line in instructions("COPY") for word in line.split()[:-1] if not word.startswith("--")]
    assert {"config", "src", "ros2_ws", "urdf", "launch"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
        files = [str(path.relative_to(ROOT)) for path in (ROOT / source).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        for path in files or [source]:
            outside = path.startswith("ros2_ws/") and not path.startswith("ros2_ws/src/") or ".egg-info" in path
            assert ignored(path) is outside, path
    assert ignored(".venv/bin/python") and ignored("docs/robots.md")


def test_links_of_the_workspace_lead_to_what_is_copied() -> None:
    for link in (ROOT / "ros2_ws" / "src").rglob("*"):
        if link.is_symlink():
            target = str(link.resolve().relative_to(ROOT))
            assert not ignored(target), f"{link} leads to {target}"


def test_requirements_are_split_into_torch_and_all_else() -> None:
    lines = (ROOT / "requirements" / "base.txt").read_text().splitlines()
    assert [line.split("==")[0] for line in lines if line.startswith("torch")] == ["torch"], "grep '^torch' finds more than torch"


def test_both_images_stop_on_sigint_and_the_entry_point_runs() -> None:
    assert STAGES == ["robot", "cuda"]
    assert instructions("STOPSIGNAL") == ["SIGINT", "SIGINT"]
    assert "robot.launch.py" in instructions("CMD")[0] and "sim.launch.py" in instructions("CMD")[1]
    script = ROOT / "docker" / "entrypoint.sh"
    assert os.access(script, os.X_OK) and script.read_text().splitlines()[-1] == 'exec "$@"', "signals would not reach ros2 launch"
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_stops_the_arm_first_and_has_room_for_pictures(name: str) -> None:
    service: dict[str, Any] = SERVICES[name]
    assert service["stop_signal"] == "SIGINT" and service["init"] is True
    assert float(service["stop_grace_period"].removesuffix("s")) >= 15.0
    assert service["ipc"] == "host" or service["shm_size"], "Docker's 64 MB of shared memory are too few"
    build = service["build"]
    assert (ROOT / "docker" / build["context"] / build["dockerfile"]).resolve() == ROOT / "docker" / "Dockerfile"
    assert build["target"] in STAGES


@pytest.mark.parametrize("name", SERVICES)
def test_every_command_is_a_launch_file_with_arguments_that_it_knows(name: str) -> None:
    words = default(" ".join(SERVICES[name]["command"].split())).split()
    assert words[:3] == ["ros2", "launch", "wm_bringup"] and (ROOT / "launch" / words[3]).is_file()
    profile = words[3].removesuffix(".launch.py")
    given = dict(word.split(":=") for word in words[4:])
    assert set(given) <= set(arguments.PROFILES[profile]) and all(given.values()), "an empty one is malformed for ros2 launch"
    arguments.plan(profile, given)


def test_the_robot_is_dry_may_be_real_time_and_finds_its_cables_again() -> None:
    robot = SERVICES["robot"]
    assert "dry_run:=true" in default(robot["command"])
    for name in ("sim", "robot"):
        assert SERVICES[name]["ulimits"] == {"rtprio": 95, "memlock": -1}
        assert {"SYS_NICE", "IPC_LOCK"} <= set(SERVICES[name]["cap_add"])
    majors = {int(rule.split()[1].split(":")[0]) for rule in robot["device_cgroup_rules"]}
    assert majors == {188, 81, 189} and "/dev:/dev" in robot["volumes"]


def test_the_planner_gets_the_gpu_and_nothing_that_moves() -> None:
    planner = SERVICES["planner"]
    (device,) = planner["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia" and "gpu" in device["capabilities"]
    given = dict(word.split(":=") for word in default(planner["command"]).split()[4:])
    plan = arguments.plan("robot", given)
    assert {"driver", "safety", "camera"} <= set(plan.skip) and "planner" not in plan.skip
    assert "devices" not in planner and "volumes" not in planner
    hosts = [set(default(SERVICES[name]["command"]).split("nodes:=")[1].split()[0].split(",")) for name in ("robot", "planner")]
    assert not hosts[0] & hosts[1], "a node would run twice"


def test_the_entry_point_takes_the_distribution_of_the_image(tmp_path: Path) -> None:
    """BASE may be another one than Jazzy; the script is run with its folders moved."""
    for folder, name in (("opt/ros/kilted", "setup.bash"), ("opt/wm/ros2_ws/install", "setup.bash")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text(f"export SOURCED=$SOURCED:{folder}\n")
    script = (ROOT / "docker" / "entrypoint.sh").read_text().replace("/opt/", f"{tmp_path}/opt/")
    done = subprocess.run(["bash", "-c", script, "entrypoint", "printenv", "SOURCED"], env={"PATH": os.environ["PATH"], "ROS_DISTRO": "kilted"}, capture_output=True, text=True)
    assert done.stdout == ":opt/ros/kilted:opt/wm/ros2_ws/install\n", done.stderr


def test_udev_rules_are_well_formed_and_set_the_latency_timer() -> None:
    pair = re.compile(r'(ACTION|SUBSYSTEM|DRIVER|ATTRS?\{\w+\}|ENV\{\w+\}|GROUP|MODE|SYMLINK)(==|=|\+=)"([^"]+)"$')
    rules = [line for line in RULES.read_text().splitlines() if line and not line.startswith("#")]
    for rule in rules:
        found = [pair.match(part.strip()) for part in rule.split(",")]
        assert all(found), rule
        assert any(match[2] == "==" for match in found) and any(match[2] != "==" for match in found), f"matches or sets nothing: {rule}"
        for match in found:
            if match[1].startswith("ATTRS{id"):
                assert re.fullmatch(r"[0-9a-f]{4}", match[3]), rule
            if match[1] == "MODE":
                assert int(match[3], 8) <= 0o660, f"open to everybody: {rule}"
    assert 'ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"' in rules
    assert any("8086" in rule for rule in rules)


def test_the_documents_name_the_rules_file() -> None:
    assert "docker/udev/99-wm-robot.rules" in (ROOT / "docs" / "robots.md").read_text()

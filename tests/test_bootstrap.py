"""`./wm` from a bare checkout: help, unknown words, stamp, lock, environment."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, wait_until

from wm_bridge.cli import bootstrap, commands, environment, system_packages, venv_setup
from wm_bridge.cli.domain import claim_domain_id
from wm_bridge.cli.progress import Progress
from wm_bridge.errors import UserError

EMPTY = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """What `./wm` reads, in a folder with spaces and without an environment."""
    place = tmp_path / "a path with spaces"
    shutil.copytree(ROOT / "src" / "wm_bridge" / "cli", place / "src" / "wm_bridge" / "cli", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("wm", "src/wm_bridge/__init__.py", "src/wm_bridge/errors.py"):
        shutil.copy(ROOT / name, place / name)
    for name in venv_setup.COMPILED:
        file = Path("src/wm_bridge") / f"{name}.py"
        (place / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, place / file)
    shutil.copytree(ROOT / "requirements", place / "requirements")
    for package in venv_setup.INTERFACES:
        shutil.copytree(ROOT / package, place / package)
    return place


def wm(place: Path, *arguments: str, env: dict[str, str] = EMPTY, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", str(place / "wm"), *arguments], capture_output=True, text=True, env=env, timeout=60, **options)


def test_help_lists_every_command_and_makes_no_environment(bare, tmp_path):
    done = wm(bare, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, command in commands.COMMANDS.items():
        assert f"  {name} " in done.stdout and command.help in done.stdout
    assert not (bare / ".venv").exists() and not (bare / ".wm.lock").exists()


def test_the_bootstrap_imports_the_standard_library_only():
    code = "import sys; sys.path.insert(0, sys.argv[1]); import wm_bridge.cli.bootstrap; print('\\n'.join(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(ROOT / "src")], capture_output=True, text=True, env=EMPTY, check=True)
    assert set(done.stdout.split()) - {"wm_bridge", "__main__"} <= set(sys.stdlib_module_names)


def test_an_unknown_command_names_the_nearest(bare):
    done = wm(bare, "docter")
    assert (done.returncode, done.stderr) == (2, "wm: there is no command 'docter'\n  what to do: did you mean: ./wm doctor\n")


def test_a_reader_that_goes_away_sees_no_traceback(bare):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, str(bare / "wm"), "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, env=EMPTY)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_closed_stdout_sees_no_traceback(bare):
    done = subprocess.run(["sh", "-c", f"'{sys.executable}' '{bare}/wm' --help >&-"], stderr=subprocess.PIPE, text=True, env=EMPTY)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_is_not_writable_is_named_with_the_remedy(bare):
    for folder in (bare, *bare.parents):
        if folder == Path("/tmp"):
            break
        folder.chmod(0o755)
    other_user = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    if not other_user:
        bare.chmod(0o555)
    python = shutil.which("python3", path=EMPTY["PATH"])
    done = subprocess.run([python, str(bare / "wm"), "doctor"], capture_output=True, text=True, env=EMPTY, timeout=60, cwd="/", **other_user)
    assert done.returncode == 2
    assert f"the folder {bare} is not writable" in done.stderr and "what to do: clone into" in done.stderr
    assert "Traceback" not in done.stderr


def make_steps(ran: list[str], keys: dict[str, str], fails: str = "") -> list[venv_setup.Step]:
    def runner(name):
        def run(progress):
            if name == fails:
                raise UserError("no network", "connect")
            ran.append(name)

        return run

    return [venv_setup.Step(name, name, key, runner(name)) for name, key in keys.items()]


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    folder = tmp_path / ".venv"
    folder.mkdir()
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    return folder


def test_finished_steps_are_not_repeated_and_a_changed_key_repeats_its_step_only(venv, tmp_path):
    ran: list[str] = []
    wanted = make_steps(ran, {"venv": "a", "base": "b", "wm_interfaces": "c"})
    venv_setup.perform(venv_setup.pending(wanted, venv), venv, tmp_path / "log")
    assert ran == ["venv", "base", "wm_interfaces"]
    assert venv_setup.pending(wanted, venv) == []
    changed = make_steps(ran, {"venv": "a", "base": "b", "wm_interfaces": "C"})
    assert [step.name for step in venv_setup.pending(changed, venv)] == ["wm_interfaces"]


def test_an_interrupted_set_up_goes_on_where_it_stopped(venv, tmp_path):
    ran: list[str] = []
    keys = {"venv": "a", "base": "b", "ros": "c"}
    with pytest.raises(UserError):
        venv_setup.perform(make_steps(ran, keys, fails="ros"), venv, tmp_path / "log")
    assert [step.name for step in venv_setup.pending(make_steps(ran, keys), venv)] == ["ros"]


def test_a_new_environment_repeats_everything(venv, tmp_path):
    ran: list[str] = []
    venv_setup.perform(make_steps(ran, {"venv": "a", "base": "b"}), venv, tmp_path / "log")
    assert len(venv_setup.pending(make_steps(ran, {"venv": "moved", "base": "b"}), venv)) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", "null"])
def test_a_damaged_stamp_counts_as_none(venv, damage):
    (venv / venv_setup.STAMP).write_text(damage)
    assert venv_setup.read_stamp(venv) == {}


def test_the_keys_follow_what_the_steps_depend_on(bare):
    def keys() -> dict[str, str]:
        return {step.name: step.key for step in venv_setup.steps(bare, bare / ".venv", dev=True, native=False)}

    before = keys()
    assert keys() == before
    message = bare / "ros2_ws/src/wm_interfaces/msg/PlanReport.msg"
    message.write_text(message.read_text() + "# one more line\n")
    assert {name for name, key in keys().items() if key != before[name]} == {"wm_interfaces"}
    dev = bare / "requirements/dev.txt"
    dev.write_text(dev.read_text() + "\n")
    assert {name for name, key in keys().items() if key != before[name]} == {"wm_interfaces", "dev"}
    compiled = bare / "src" / "wm_bridge" / f"{venv_setup.COMPILED[0]}.py"
    compiled.write_text(compiled.read_text() + "\n")
    assert {name for name, key in keys().items() if key != before[name]} == {"wm_interfaces", "dev", "compiled"}


def test_the_stamp_check_of_a_second_start_is_fast():
    venv = Path(sys.prefix)
    best = math.inf
    for _ in range(5):  # of its own processor time: other programs share the machine
        begin = time.process_time()
        venv_setup.pending(venv_setup.steps(ROOT, venv, dev=True, native=False), venv)
        best = min(best, time.process_time() - begin)
    assert best < 0.3


def test_two_set_ups_at_once_take_turns(tmp_path):
    holder = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from wm_bridge.cli import bootstrap\n"
    holder += "with bootstrap._lock(Path(sys.argv[2])):\n    print('held', flush=True); sys.stdin.read()\n"
    command = [sys.executable, "-c", holder, str(ROOT / "src"), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first, subprocess.Popen(command, **pipes) as second:
        lines = {}
        by_stdout = {process.stdout: process for process in (first, second)}
        import selectors

        selector = selectors.DefaultSelector()
        for stream in by_stdout:
            selector.register(stream, selectors.EVENT_READ)
        winner = by_stdout[selector.select(timeout=30)[0][0].fileobj]
        waiter = second if winner is first else first
        assert "waiting for it" in waiter.stderr.readline()
        selector.unregister(winner.stdout)
        assert not selector.select(timeout=0.2), "both hold the lock"
        winner.kill()
        assert selector.select(timeout=30), "the lock of a killed process was not freed"
        lines["second"] = waiter.stdout.readline()
        waiter.kill()
    assert lines["second"] == "held\n"


def test_a_failing_program_is_reported_with_its_last_words(tmp_path):
    progress = Progress(1, tmp_path / "log")
    with pytest.raises(UserError, match="(?s)ended with code 3.*no space left.*goes on where it stopped"):
        progress.run([sys.executable, "-c", "print('no space left'); raise SystemExit(3)"], EMPTY)


def test_missing_libraries_give_the_exact_command_when_nothing_may_be_installed(monkeypatch):
    lacking = system_packages.Requirement("libGL.so.1", "OpenCV", lambda: False, ("libgl1",))
    monkeypatch.setattr(system_packages, "requirements", lambda: [lacking])
    monkeypatch.setattr(system_packages, "_privilege", lambda: None)
    with pytest.raises(UserError) as caught:
        system_packages.ensure(lambda command, environ: pytest.fail("must not run anything"))
    assert caught.value.exit_code == 2 and "libGL.so.1 (for OpenCV)" in caught.value.message
    assert caught.value.remedy.startswith("sudo apt-get install -y --no-install-recommends libgl1")


def test_missing_libraries_are_installed_where_allowed_and_looked_for_again(monkeypatch):
    ran: list[list[str]] = []
    lacking = system_packages.Requirement("g++", "the interfaces", lambda: len(ran) == 2, ("g++",))
    monkeypatch.setattr(system_packages, "requirements", lambda: [lacking])
    monkeypatch.setattr(system_packages, "_privilege", lambda: [])
    system_packages.ensure(lambda command, environ: ran.append(command))
    assert ran == [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "--no-install-recommends", "g++"]]


def test_a_sourced_ros_does_not_shadow_the_wheels():
    sourced = {
        "AMENT_PREFIX_PATH": "/opt/ros/jazzy",
        "PYTHONPATH": "/opt/ros/jazzy/lib/python3.12/site-packages:/home/me/lib",
        "LD_LIBRARY_PATH": "/opt/ros/jazzy/lib",
        "PATH": "/opt/ros/jazzy/bin:/usr/bin",
        "ROS_DISTRO": "jazzy",
        "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
        "ROS_DOMAIN_ID": "7",
    }
    clean = environment.without_native_ros(sourced)
    assert clean == {"PYTHONPATH": "/home/me/lib", "PATH": "/usr/bin", "ROS_DOMAIN_ID": "7"}


def test_what_the_user_has_set_stays(tmp_path):
    mine = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "OMP_NUM_THREADS": "7", "FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml", "ROS_DOMAIN_ID": "5"}
    env = environment.run_environment(ROOT, tmp_path, mine)
    assert {name: env[name] for name in mine} == mine
    assert env["FASTDDS_DEFAULT_PROFILES_FILE"] == str(ROOT / "config" / "fastdds.xml")


def test_an_environment_that_was_moved_is_not_kept(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "old")], check=True)
    site = next((tmp_path / "old").glob("lib/python3.*/site-packages"))
    (site / "pip.py").write_text("")
    assert venv_setup._is_whole(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    assert not venv_setup._is_whole(tmp_path / "new")


def test_native_ros_without_a_sourced_ros_says_so(monkeypatch):
    monkeypatch.setenv("WM_ROS", "native")
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    with pytest.raises(UserError, match="no ROS 2 is sourced"):
        bootstrap._require_native_ros()


def test_ctrl_c_in_a_command_gives_130_and_a_user_error_two_lines():
    code = (
        "import sys, types; m = types.ModuleType('wm_bridge.cli.bench')\n"
        "def main(argv):\n"
        "    if argv == ['stop']: raise KeyboardInterrupt\n"
        "    from wm_bridge.errors import UserError; raise UserError('no data', 'collect some', 4)\n"
        "m.main = main; sys.modules[m.__name__] = m\n"
        "from wm_bridge.cli.main import main as wm; sys.exit(wm(['bench', *sys.argv[1:]]))\n"
    )
    stop = subprocess.run([sys.executable, "-c", code, "stop"], capture_output=True, text=True)
    assert (stop.returncode, stop.stderr) == (130, "")
    error = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (error.returncode, error.stderr) == (4, "no data\n  what to do: collect some\n")


def test_two_processes_never_get_the_same_domain(tmp_path):
    code = "import sys; from pathlib import Path; from wm_bridge.cli.domain import claim_domain_id\n"
    code += "with claim_domain_id(Path(sys.argv[1])) as d:\n    print(d, flush=True); sys.stdin.read()\n"
    others = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        taken = [int(other.stdout.readline()) for other in others]
        with claim_domain_id(tmp_path) as mine, claim_domain_id(tmp_path) as second:
            assert len({*taken, mine, second}) == 5 and all(1 <= domain <= 101 for domain in taken)
        others[0].kill()
        others[0].wait()
        freed = []
        wait_until(lambda: freed.append(_can_lock(tmp_path / f"{taken[0]}.lock")) or freed[-1], what="the lock of a killed process is free")
    finally:
        for other in others:
            other.kill()
            other.communicate()


def _can_lock(file: Path) -> bool:
    import fcntl

    with file.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_tf2_msgs_has_the_official_type_hash():
    """So that /tf from these wheels is readable by a real RViz."""
    description = Path(sys.prefix) / "share" / "tf2_msgs" / "msg" / "TFMessage.json"
    if not description.is_file():
        pytest.skip("tf2_msgs is the native one")
    hashes = {entry["type_name"]: entry["hash_string"] for entry in json.loads(description.read_text())["type_hashes"]}
    assert hashes["tf2_msgs/msg/TFMessage"].startswith("RIHS01_e369d0f0") and hashes["tf2_msgs/msg/TFMessage"].endswith("f087")

"""`./wm doctor` really tries things, and each trouble comes with its remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wm_bridge.cli import doctor, doctor_checks
from wm_bridge.cli.doctor_troubles import Finding, State


@pytest.fixture(scope="module")
def findings() -> dict[str, dict[str, str]]:
    done = subprocess.run([sys.executable, "-m", "wm_bridge.cli.main", "doctor", "--json"], capture_output=True, text=True, timeout=200)
    assert done.returncode in (0, 1), done.stderr
    return {finding["name"]: finding for finding in json.loads(done.stdout)}


def test_it_looks_at_everything(findings):
    names = "python set-up system ros interfaces|fast dds|shared memory|render|cameras|serial ports|gpu|checkpoints|processor"
    first, *rest = names.split("|")
    assert list(findings) == [*first.split(), *rest]


@pytest.mark.parametrize("name", ["python", "system", "ros", "interfaces", "render"])
def test_what_the_suite_itself_needs_is_ok(findings, name):
    assert findings[name]["state"] == "ok", findings[name]


def test_whatever_is_not_ok_has_a_remedy(findings):
    assert [finding for finding in findings.values() if finding["state"] in ("warn", "fail") and not finding["remedy"]] == []


def test_the_shipped_profile_gives_large_segments(ros_env, monkeypatch):
    for name, value in ros_env.items():
        monkeypatch.setenv(name, value)
    assert doctor_checks.fast_dds().state is State.OK


def test_without_a_profile_the_segment_is_too_small(ros_env, monkeypatch):
    for name, value in ros_env.items():
        monkeypatch.setenv(name, value)
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name)
    finding = doctor_checks.fast_dds()
    assert finding.state is State.WARN and "will be lost" in finding.text


def test_a_profile_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/no/such/profile.xml")
    finding = doctor_checks.fast_dds()
    assert finding.state is State.FAIL and "/no/such/profile.xml" in finding.text and "unset" in finding.remedy


def test_a_renderer_that_draws_nothing_is_a_failure(monkeypatch):
    monkeypatch.setattr(doctor_checks, "_RENDER", "print(False)")
    assert doctor_checks.render().state is State.FAIL


def test_truncated_weights_are_unreadable(tmp_path: Path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(16)
    file = tmp_path / "a.safetensors"
    file.write_bytes(whole)
    assert doctor_checks._reads_as_safetensors(file)
    for damaged in (whole[:-1], whole + b"x", b"", b"\0" * 8, b"PK\x03\x04" + whole, whole[:20]):
        file.write_bytes(damaged)
        assert not doctor_checks._reads_as_safetensors(file), damaged


def test_a_check_that_dies_is_a_finding_and_not_the_end():
    def broken() -> Finding:
        raise RuntimeError("odd driver")

    finding = doctor.run_check(broken)
    assert finding.state is State.FAIL and "odd driver" in finding.text and finding.remedy


def test_a_line_shows_the_remedy_below():
    text = doctor.line(Finding("camera", State.WARN, "dark", "switch on the light"))
    assert text.splitlines()[0].startswith("warn  camera") and text.splitlines()[1].strip() == "-> switch on the light"

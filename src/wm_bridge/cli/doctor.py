"""`./wm doctor`: what is here, one line each, with the remedy for what is not."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace

from wm_bridge.cli.doctor_checks import ALL_CHECKS
from wm_bridge.cli.doctor_troubles import BROKEN_CHECK, Finding, State

_MARK = {State.OK: "ok  ", State.ABSENT: "-   ", State.WARN: "warn", State.FAIL: "FAIL"}


def main(argv: list[str]) -> int:
    """Print every finding; exit code 1 when something that the demo needs fails."""
    parser = argparse.ArgumentParser(prog="./wm doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    options = parser.parse_args(argv)
    findings = []
    for check in ALL_CHECKS:
        findings.append(run_check(check))
        if not options.json:
            print(line(findings[-1]), flush=True)
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    return 1 if any(finding.state is State.FAIL for finding in findings) else 0


def run_check(check: Callable[[], Finding]) -> Finding:
    """One check; an unexpected error in it is a finding, not the end of the doctor."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a doctor must not die of a symptom
        name = getattr(check, "__name__", "check").replace("_", " ")
        return replace(BROKEN_CHECK.found(kind=type(error).__name__, error=error), name=name)


def line(finding: Finding) -> str:
    """One line; a second one with the remedy when something is to be done."""
    text = f"{_MARK[finding.state]}  {finding.name:<16} {finding.text}"
    return f"{text}\n{'':<23}-> {finding.remedy}" if finding.remedy else text

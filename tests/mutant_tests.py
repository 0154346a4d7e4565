"""Which tests can notice a change of a function of the safety filter, and how long they take.

One run of all tests under coverage says which test enters which function. A mutant is then tried with those alone,
likely ones first: a test that never enters a function cannot notice a change inside of it. What runs when a module is
imported is noticed by any test, and so may be what numba compiles, which coverage does not see: there all are run.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SAFETY = ROOT / "src" / "wm_bridge" / "safety"
FILES = (  # quick ones first: most mutants do not get far
    "boundaries filter supervision settings planner_clearance rare replay compiled oracle distance streams ladder limits fast"
).split()
FIRST = {  # where a change of a file is seen soonest; then the others
    "compiled": ["compiled", "distance"], "sweep": ["compiled", "distance"], "surroundings": ["distance"],
    "chain": ["settings", "distance"], "shapes": ["settings", "distance"], "obstacles": ["distance"], "guard": ["distance", "rare"],
    "lanes": ["fast"], "brake": ["oracle", "fast", "limits"], "box": ["fast"], "limits": ["oracle", "limits"], "postcheck": ["limits"],
    "replay": ["replay"], "journal": ["replay"], "packing": ["replay"], "qp": ["rare", "distance"], "chooser": ["rare", "distance", "fast"],
    "stricter": ["supervision"], "supervision": ["supervision"], "watching": ["supervision", "rare"], "filter": ["filter", "rare"],
    "outputs": ["filter"], "follower": ["filter"], "inputs": ["filter"],
    "clearance": ["planner_clearance"], "config": ["settings"], "scene": ["settings"], "settings": ["settings"],
}  # fmt: skip
ELSEWHERE = (  # these start processes of their own, in which nothing is changed
    "test_an_installation_that_cannot_be_written_has_its_cache_with_the_user",
    "test_a_node_that_starts_takes_what_the_set_up_compiled",
    "test_no_tick_imports_anything",
)
COMPILED = "compiled.py"
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--hypothesis-seed=0", "--rootdir", str(ROOT)]
_CACHE = ROOT / "build" / "mutant_tests.json"


class Tests:
    """All tests with their seconds, and which of them enter a function.

    Args:
        seconds: by node id; of the run under coverage, so rather too long.
        entered: node ids by "file:line of def"; a key that is missing was entered by none.
    """

    __test__ = False  # of pytest

    def __init__(self, seconds: dict[str, float], entered: dict[str, list[str]]) -> None:
        self.seconds, self.entered = seconds, entered

    def of(self, file: str, line: int | None) -> list[list[str]]:
        """Node ids to run: the likely ones, then the others; short ones first.

        Args:
            file: name of the changed file. line: of the function's def; None = outside of all.
        """
        every = line is None or file == COMPILED
        chosen = list(self.seconds) if every else [test for test in self.entered.get(f"{file}:{line}", []) if test in self.seconds]
        likely = {_file(_path(name)) for name in FIRST.get(Path(file).stem, FILES[:1])}
        chosen.sort(key=lambda test: self.seconds[test])
        first = [test for test in chosen if _file(test) in likely]
        return [part for part in (first, [test for test in chosen if _file(test) not in likely]) if part]


def _file(test: str) -> str:
    return Path(test.partition("::")[0]).name


def functions(tree: ast.Module) -> dict[int, int | None]:
    """Line of the innermost def around each node, by id; None outside. A def's own defaults lie outside of it."""
    found: dict[int, int | None] = {}

    def walk(node: ast.AST, line: int | None) -> None:
        found[id(node)] = line
        inside = node.body if isinstance(node, ast.FunctionDef) else []
        for child in ast.iter_child_nodes(node):
            walk(child, node.lineno if child in inside else line)  # type: ignore[attr-defined]

    walk(tree, None)
    return found


def state_of_code() -> str:
    """Hash of the filter and its tests."""
    digest = hashlib.sha256()
    for path in sorted([*SAFETY.glob("*.py"), *(ROOT / "tests").glob("*.py")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def load() -> Tests:
    """From an earlier run of the same code, or measured now in a process of its own.

    Raises:
        RuntimeError: a test fails without any change, or is not found again by its id.
    """
    state = state_of_code()
    kept = json.loads(_CACHE.read_text()) if _CACHE.is_file() else {}
    if kept.get("state") != state:
        _in_a_child(lambda: _measure(state), "the tests fail without any change: mend them first")
        kept = json.loads(_CACHE.read_text())
    found = Tests(kept["seconds"], kept["entered"])
    # else a mutant would count as found because pytest does not know a test
    _in_a_child(lambda: pytest.main([*OPTIONS, "--collect-only", *found.seconds]), "pytest does not find all tests by their ids")
    return found


def _in_a_child(work: Callable[[], int], wrong: str) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        with open(os.devnull, "w") as nothing, contextlib.suppress(BaseException):
            os.dup2(nothing.fileno(), 1)
            code = int(work())
        os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError(wrong)


class _Watch:
    """A pytest plugin that tells coverage whose turn it is; module fixtures count for all of a file."""

    def __init__(self, cover: Any) -> None:
        self._cover = cover
        self.seconds: dict[str, float] = defaultdict(float)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: Any) -> None:
        self._cover.switch_context(f"file {_file(item.nodeid)}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: Any) -> None:
        self._cover.switch_context(item.nodeid)

    def pytest_runtest_teardown(self, item: Any) -> None:
        self._cover.switch_context(f"file {_file(item.nodeid)}")

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration


def _measure(state: str) -> int:
    import coverage

    cover = coverage.Coverage(data_file=None, source=[str(SAFETY)], config_file=False)
    cover.start()
    watch = _Watch(cover)
    others = " and ".join(f"not {name}" for name in ELSEWHERE)
    failed = pytest.main([*OPTIONS, "-k", others, *map(_path, FILES)], [watch])
    cover.stop()
    if failed:
        return 1
    entered: dict[str, list[str]] = {}
    data = cover.get_data()
    for path in sorted(SAFETY.glob("*.py")):
        contexts = data.contexts_by_lineno(str(path))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                lines = range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)
                names = {name for line in lines for name in contexts.get(line, [])}
                tests = [test for test in watch.seconds if test in names or f"file {_file(test)}" in names]
                entered[f"{path.name}:{node.lineno}"] = tests
    _CACHE.parent.mkdir(exist_ok=True)
    _CACHE.write_text(json.dumps({"state": state, "seconds": watch.seconds, "entered": entered}))
    return 0


def _path(name: str) -> str:
    path = ROOT / "tests" / f"test_safety_{name}.py"
    return str(path if path.is_file() else path.with_name(f"test_{name}.py"))

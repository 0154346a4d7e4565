"""Mutation test of the safety filter: small changes of its code, one at a time; the tests must notice each.

    .venv/bin/python tests/mutants.py --count 200 --seed 1 --json build/mutants.json

Mutants are drawn at random from all there are (`--only FILE` of one file). Each is tried in a process of its
own, forked when the libraries are loaded, with the tests that enter its function (`mutant_tests.py`); the changed
module exists only there, no file is touched. With ``--json`` a run that was interrupted, or stopped by ``--minutes``,
goes on where it was. The score comes with its 95 % confidence interval (Wilson). Survivors are printed;
docs/safety-case.md explains those that stay.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.util
import json
import math
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mutant_tests import COMPILED, OPTIONS, ROOT, SAFETY, Tests, functions, load, state_of_code

OTHERS = {"__init__.py", "viability.py"}  # viability.py is itself a test: the fuzzer of the box
_SPARE_S, _COMPILING_S = 20.0, 120.0  # processor time over three times that of the tests, until a mutant counts as going round for ever
_READY = "numpy pytest hypothesis pinocchio coal quadprog cvxpy mujoco yaml cv2 hypothesis.extra.numpy hypothesis.stateful"

_COMPARE = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
_BINARY = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,), ast.BitOr: (ast.BitAnd,), ast.BitAnd: (ast.BitOr,),
}  # fmt: skip
_NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any",
          "argmin": "argmax", "argmax": "argmin", "floor": "ceil", "ceil": "floor"}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: the number of a node in `ast.walk` of a file, which of its changes, and in which def (its line; None: in none)."""

    file: str
    node: int
    choice: int
    line: int
    column: int
    function: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}  {self.text}"


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that could stand in the place of ``node``."""
    if isinstance(node, ast.Compare):
        for k, operator in enumerate(node.ops):
            for other in _COMPARE[type(operator)]:
                yield ast.Compare(node.left, [*node.ops[:k], other(), *node.ops[k + 1 :]], node.comparators)
    elif isinstance(node, ast.BinOp):
        for other in _BINARY.get(type(node.op), ()):
            yield ast.BinOp(node.left, other(), node.right)
    elif isinstance(node, ast.AugAssign):
        for other in _BINARY.get(type(node.op), ()):
            yield ast.AugAssign(node.target, other(), node.value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        yield node.operand
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield ast.Constant(node.value + 1 if isinstance(node.value, int) else node.value * 1.5 + (node.value == 0.0))
    elif isinstance(node, ast.Attribute) and node.attr in _NAMES:
        yield ast.Attribute(node.value, _NAMES[node.attr], node.ctx)
    elif isinstance(node, ast.Name) and node.id in _NAMES and isinstance(node.ctx, ast.Load):
        yield ast.Name(_NAMES[node.id], node.ctx)
    elif isinstance(node, (ast.If, ast.IfExp)):
        negated = copy.copy(node)
        negated.test = ast.UnaryOp(ast.Not(), node.test)
        yield negated
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()
    elif isinstance(node, ast.Break):
        yield ast.Continue()


def _left_alone(tree: ast.AST) -> set[int]:
    """Ids of nodes that decide nothing: annotations, texts of errors and answers, decorators, asserts, `zip(strict=True)`."""
    alone: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            parts += node.decorator_list
        if isinstance(node, ast.FunctionDef):
            parts += [node.returns, *(argument.annotation for argument in (*node.args.args, *node.args.kwonlyargs))]
        if isinstance(node, ast.AnnAssign):
            parts.append(node.annotation)
        if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Assert)) or (isinstance(node, ast.keyword) and node.arg == "strict"):
            parts.append(node)
        for part in parts:
            if part is not None:
                alone.update(id(inner) for inner in ast.walk(part))
    return alone


def mutants(only: str | None = None) -> list[Mutant]:
    """All there are, in a fixed order."""
    found = []
    for path in sorted(SAFETY.glob("*.py")):
        if path.name in OTHERS or (only and path.name != only):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        alone, inside = _left_alone(tree), functions(tree)
        for number, node in enumerate(ast.walk(tree)):
            if id(node) in alone:
                continue
            for choice, other in enumerate(changes(node)):
                before, after = (_short(ast.unparse(ast.fix_missing_locations(ast.copy_location(part, node)))) for part in (node, other))
                found.append(Mutant(path.name, number, choice, node.lineno, node.col_offset, inside[id(node)], f"{before}  ->  {after}"))  # type: ignore[attr-defined]
    return found


def _short(text: str) -> str:
    return text.partition("\n")[0][:90]


def mutated(mutant: Mutant) -> ast.Module:
    """The changed module."""
    path = SAFETY / mutant.file
    tree = ast.parse(path.read_text(encoding="utf-8"))
    target = list(ast.walk(tree))[mutant.node]
    other = list(changes(target))[mutant.choice]

    class Change(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return ast.copy_location(other, node) if node is target else self.generic_visit(node)

    return ast.fix_missing_locations(Change().visit(tree))


class Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the changed module when it is imported."""

    def __init__(self, mutant: Mutant) -> None:
        self._name, self._mutant = f"wm_bridge.safety.{Path(mutant.file).stem}", mutant

    def find_spec(self, name, path=None, target=None):  # noqa: ANN001, ANN201
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, SAFETY / self._mutant.file, loader=self)

    def create_module(self, spec):  # noqa: ANN001, ANN201
        return None

    def exec_module(self, module):  # noqa: ANN001, ANN201
        exec(compile(mutated(self._mutant), str(SAFETY / self._mutant.file), "exec"), module.__dict__)  # noqa: S102


def attempt(mutant: Mutant, tests: Tests) -> tuple[str, float]:
    """"killed", "timeout" or "survived", and the seconds it took."""
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = _run(mutant, tests)
        os._exit(code)
    _, status = os.waitpid(child, 0)
    result = "timeout" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU else "survived" if status == 0 else "killed"
    return result, time.monotonic() - begin


def _run(mutant: Mutant, tests: Tests) -> int:
    import pytest

    groups = tests.of(mutant.file, mutant.function)
    most = 3.0 * sum(tests.seconds[test] for group in groups for test in group) + _SPARE_S
    most += _COMPILING_S * (mutant.file == COMPILED)
    resource.setrlimit(resource.RLIMIT_CPU, (round(most), round(most) + 5))
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    sys.meta_path.insert(0, Loader(mutant))
    if mutant.file == COMPILED:  # numba's cache knows a function by its file and its own code, not by those it calls
        os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()
    os.chdir(ROOT)
    return next((1 for group in groups if pytest.main([*OPTIONS, *group])), 0)


def interval(killed: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, p = 1.959964, killed / count
    middle, half = p + z * z / (2 * count), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def report(results: dict[str, str], count: int, of: int) -> dict[str, object]:
    """Figures so far."""
    tried, survivors = len(results), [text for text, result in results.items() if result == "survived"]
    low, high = interval(tried - len(survivors), tried)
    return {
        "tried": tried, "drawn": count, "of": of, "killed": tried - len(survivors), "low": low, "high": high,
        "survivors": survivors, "results": results,
    }  # fmt: skip


def main(argv: list[str]) -> int:
    """0 when the score reaches ``--least``, or the time is over before all were tried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="mutants to try; 0 = all (many hours)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one file of src/wm_bridge/safety")
    parser.add_argument("--again", type=Path, help="try the survivors of a JSON file of an earlier run")
    parser.add_argument("--json", type=Path, help="keep the results there, and go on with those that it has of this code and seed")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further mutant after this time")
    parser.add_argument("--least", type=float, default=0.95)
    arguments = parser.parse_args(argv)
    begin = time.monotonic()
    every = mutants(arguments.only)
    count = min(arguments.count or len(every), len(every))
    chosen = random.Random(arguments.seed).sample(every, count)
    if arguments.again:
        texts = set(json.loads(arguments.again.read_text())["survivors"])
        chosen = [mutant for mutant in every if str(mutant) in texts]
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = tempfile.mkdtemp()
    for name in _READY.split():
        importlib.import_module(name)
    head = {"state": state_of_code(), "seed": arguments.seed, "only": arguments.only, "again": bool(arguments.again)}
    results: dict[str, str] = {}
    if arguments.json and arguments.json.is_file():
        kept = json.loads(arguments.json.read_text())
        if {key: kept.get(key) for key in head} == head:
            results = kept["results"]
    tests = load()
    print(f"{len(chosen)} of {len(every)} mutants, {len(results)} of them done; all tests take {sum(tests.seconds.values()):.0f} s", flush=True)
    for k, mutant in enumerate(chosen, 1):
        if str(mutant) in results:
            continue
        if time.monotonic() - begin > 60.0 * arguments.minutes:
            print("the time is over; the same command goes on from here")
            return 0
        results[str(mutant)], seconds = attempt(mutant, tests)
        print(f"{k:4d} {results[str(mutant)]:8s} {seconds:5.1f} s  {mutant}", flush=True)
        if arguments.json:
            figures = report(results, len(chosen), len(every))
            arguments.json.write_text(json.dumps({**head, **figures}, indent=1) + "\n")
    killed = sum(result != "survived" for result in results.values())
    low, high = interval(killed, len(results))
    print(f"{killed} of {len(results)} killed: {killed / len(results):.1%} (95 % interval {low:.1%} to {high:.1%})")
    for text, result in results.items():
        if result == "survived":
            print(f"survived: {text}")
    return int(killed / len(results) < arguments.least)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

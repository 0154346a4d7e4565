"""Mutation test of the safety filter: small changes of its code, one at a time; the tests must notice each.

    .venv/bin/python tests/mutants.py --count 200 --seed 1

Mutants are drawn at random from all there are (`--only FILE` of one file). Each is tried in a process of its
own, forked when the libraries are loaded; the changed module exists only there, no file is touched. The score
comes with its 95 % confidence interval (Wilson). Survivors are printed; docs/safety-case.md explains those that stay.
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

ROOT = Path(__file__).resolve().parents[1]
SAFETY = ROOT / "src" / "wm_bridge" / "safety"
OTHERS = {"__init__.py", "viability.py"}  # viability.py is itself a test: the fuzzer of the box
TESTS = (  # quick ones first: most mutants do not get far
    "boundaries filter supervision settings rare replay compiled oracle distance streams ladder limits fast"
).split()
FIRST = {  # where a change of a file is seen soonest; then the others
    "compiled": ["compiled", "distance"], "sweep": ["compiled", "distance"], "surroundings": ["distance"],
    "chain": ["settings", "distance"], "shapes": ["settings", "distance"], "obstacles": ["distance"], "guard": ["distance", "rare"],
    "lanes": ["fast"], "brake": ["oracle", "fast", "limits"], "box": ["fast"], "limits": ["oracle", "limits"], "postcheck": ["limits"],
    "replay": ["replay"], "journal": ["replay"], "packing": ["replay"], "qp": ["rare", "distance"], "chooser": ["rare", "distance", "fast"],
    "stricter": ["supervision"], "supervision": ["supervision"], "watching": ["supervision", "rare"], "filter": ["filter", "rare"],
    "outputs": ["filter"], "follower": ["filter"], "inputs": ["filter"],
    "config": ["settings"], "scene": ["settings"], "settings": ["settings"],
}  # fmt: skip
LIMIT_S = 180.0  # processor time of one mutant

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
    """One change: the number of a node in `ast.walk` of a file, and which of its changes."""

    file: str
    node: int
    choice: int
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}  {self.text}"


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
        alone = _left_alone(tree)
        for number, node in enumerate(ast.walk(tree)):
            if id(node) in alone:
                continue
            for choice, other in enumerate(changes(node)):
                before, after = (_short(ast.unparse(ast.fix_missing_locations(ast.copy_location(part, node)))) for part in (node, other))
                found.append(Mutant(path.name, number, choice, node.lineno, f"{before}  ->  {after}"))  # type: ignore[attr-defined]
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


def groups(names: list[str], mutant: Mutant | None) -> list[list[str]]:
    """Test files in the order in which they are collected and run."""
    first = FIRST.get(Path(mutant.file).stem, names[:1]) if mutant else []
    parts = [name for name in first if name in names], [name for name in names if name not in first]
    return [[str(ROOT / "tests" / f"test_safety_{name}.py") for name in part] for part in parts if part]


def try_tests(mutant: Mutant | None, names: list[str]) -> tuple[str, float]:
    """"killed", "timeout" or "survived" of one mutant (None: nothing is changed), and the seconds it took."""
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = _run(mutant, names)
        os._exit(code)
    _, status = os.waitpid(child, 0)
    result = "timeout" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU else "survived" if status == 0 else "killed"
    return result, time.monotonic() - begin


def _run(mutant: Mutant | None, names: list[str]) -> int:
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (round(LIMIT_S), round(LIMIT_S) + 5))  # one that goes round for ever is seen
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    if mutant is not None:
        sys.meta_path.insert(0, Loader(mutant))
        if mutant.file == "compiled.py":  # numba's cache knows a function by its file and its own code, not by those it calls
            os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--hypothesis-seed=0"]
    return next((1 for group in groups(names, mutant) if pytest.main([*options, "--rootdir", str(ROOT), *group])), 0)


def interval(killed: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, p = 1.959964, killed / count
    middle, half = p + z * z / (2 * count), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def main(argv: list[str]) -> int:
    """0 when the score reaches ``--least``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="mutants to try; 0 = all (many hours)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one file of src/wm_bridge/safety")
    parser.add_argument("--tests", nargs="*", default=list(TESTS), help="names of tests/test_safety_*.py, in order")
    parser.add_argument("--again", type=Path, help="try the survivors of a JSON file of an earlier run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--least", type=float, default=0.95)
    arguments = parser.parse_args(argv)
    every = mutants(arguments.only)
    count = min(arguments.count or len(every), len(every))
    chosen = random.Random(arguments.seed).sample(every, count)
    if arguments.again:
        texts = set(json.loads(arguments.again.read_text())["survivors"])
        chosen = [mutant for mutant in every if str(mutant) in texts]
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = tempfile.mkdtemp()
    for name in "numpy pytest hypothesis pinocchio coal quadprog cvxpy mujoco yaml cv2 hypothesis.extra.numpy hypothesis.stateful".split():
        importlib.import_module(name)
    result, seconds = try_tests(None, arguments.tests)
    if result != "survived":
        print("the tests fail without any change: mend them first")
        return 2
    print(f"{len(chosen)} of {len(every)} mutants; the tests take {seconds:.0f} s without any", flush=True)
    survivors: list[str] = []
    for k, mutant in enumerate(chosen, 1):
        result, seconds = try_tests(mutant, arguments.tests)
        if result == "survived":
            survivors.append(str(mutant))
        print(f"{k:4d} {result:8s} {seconds:5.1f} s  {mutant}", flush=True)
        if arguments.json:
            figures = {"tried": k, "killed": k - len(survivors), "of": len(every), "seed": arguments.seed, "survivors": survivors}
            arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    killed = len(chosen) - len(survivors)
    low, high = interval(killed, len(chosen))
    print(f"{killed} of {len(chosen)} killed: {killed / len(chosen):.1%} (95 % interval {low:.1%} to {high:.1%})")
    for survivor in survivors:
        print(f"survived: {survivor}")
    return int(killed / len(chosen) < arguments.least)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

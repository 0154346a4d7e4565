"""CUDA graphs without a GPU: a tape of operations that are done again on the same memory stands for them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from wm_planner.vjepa import captured, energy
from wm_planner.vjepa.captured import Captured, capture_on
from wm_planner.vjepa.config import ACConfig
from wm_planner.vjepa.energy import Energy
from wm_planner.vjepa.pose import integrate
from wm_planner.vjepa.predictor import ACPredictor, normalise

torch.set_num_threads(1)
SMALL = ACConfig(embed_dim=48, width=64, depth=3, heads=4, grid=4)
CPU = torch.device("cpu")


class Tape(TorchDispatchMode):
    """As a CUDA graph: the same operations on the same memory again, whatever Python would do by then; no value can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Callable[..., object], tuple[object, ...], dict[str, object], object]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() in ("aten::_local_scalar_dense", "aten::nonzero"):
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
        result = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, result))
        return result

    def repeat(self) -> None:
        for func, args, kwargs, result in self.done:
            again = func(*args, **kwargs)
            for here, there in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(here, Tensor) and here.data_ptr() != there.data_ptr():
                    here.copy_(there)


class Taping:
    """Captures on tapes and counts."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def __call__(self, run):
        self.captures += 1
        tape = Tape()
        with tape:
            result = run()

        def repeat() -> None:
            self.replays += 1
            tape.repeat()

        return repeat, result


@pytest.fixture
def taping(monkeypatch) -> Taping:
    """Energies capture on tapes, whose time does not count."""
    found = Taping()
    monkeypatch.setattr(energy, "capture_on", lambda device: found)
    monkeypatch.setattr(captured, "WORTH_IT", 1e9)
    return found


def observe(asked: Energy, seed: int, known: int = 0, weight: Tensor | None = None) -> None:
    draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(seed))
    frames = normalise(draw(known + 2, SMALL.patches, SMALL.embed_dim))
    states, actions = draw(known + 1, 7), 0.1 * draw(known, 7)
    asked.observe(frames[:-1], states, frames[-1], actions if known else None, weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("known", [0, 2])
@torch.no_grad()
def test_energies_of_a_graph_are_the_plain_ones_whatever_is_seen_and_asked(taping: Taping, dtype: torch.dtype, known: int) -> None:
    torch.manual_seed(0)
    model = ACPredictor(SMALL).eval().requires_grad_(False)
    model.action_encoder.weight.mul_(20)
    make = functools.partial(Energy, model, 3, integrate, dtype, known + 1, chunk=2)
    graphed, plain = make(), make(graphs=False)
    weight = torch.rand(SMALL.patches)
    for seed in range(8):
        masked = weight + seed if seed % 3 == 0 else None
        for one in (graphed, plain):
            observe(one, seed, known, masked)
        for count, horizon in ((5, 3), (3, 1)):
            actions = 0.05 * torch.randn(count, horizon, 7, generator=torch.Generator().manual_seed(100 + seed))
            torch.testing.assert_close(graphed(actions), plain(actions), rtol=1e-6, atol=0.0)
            torch.testing.assert_close(graphed.exactly(actions), plain.exactly(actions), rtol=1e-6, atol=0.0)
            kept = graphed(actions)
            before = kept.clone()
            graphed(actions + 1.0)  # writes the graph's memory again
            assert torch.equal(kept, before)
    assert taping.captures == (4 if dtype == torch.float32 else 8)  # two shapes, with and without a mask; exact and fast are one in float32
    assert taping.replays > 60


def test_what_comes_once_is_not_captured() -> None:
    taping = Taping()
    double = Captured(lambda x: 2 * x, CPU, taping)
    for size in range(1, 9):
        assert torch.equal(double(torch.ones(size)), 2 * torch.ones(size))
    assert taping.captures == 0


def test_there_are_only_so_many_graphs(monkeypatch) -> None:
    monkeypatch.setattr(captured, "MOST", 3)
    taping = Taping()
    double = Captured(lambda x: 2 * x, CPU, taping)
    for size in (1, 2, 3, 4, 5) * 3:
        assert torch.equal(double(torch.ones(size)), 2 * torch.ones(size))
    assert taping.captures == 3


def test_a_graph_that_is_slower_is_not_kept(monkeypatch) -> None:
    for worth, kept in ((0.0, False), (1e9, True)):
        monkeypatch.setattr(captured, "WORTH_IT", worth)
        taping = Taping()
        double = Captured(lambda x: 2 * x, CPU, taping)
        for value in range(6):
            assert double(torch.tensor([float(value)])).item() == 2 * value
        assert taping.captures == 1
        assert (double.graphs[((torch.Size([1]), torch.float32),)] is not None) == kept


def test_a_graph_that_gives_something_else_is_not_kept(monkeypatch) -> None:
    monkeypatch.setattr(captured, "WORTH_IT", 1e9)

    def capture(run):
        wrong = run() + 1e-3
        return lambda: None, wrong

    double = Captured(lambda x: 2 * x, CPU, capture)
    for value in (1.0, 2.0, 3.0):
        assert double(torch.tensor([value])).item() == 2 * value


def test_what_cannot_be_captured_is_computed_plainly_and_told_once() -> None:
    taping = Taping()
    reads = Captured(lambda x: x * float(x.max()), CPU, taping)
    reads(torch.tensor([2.0]))
    with pytest.warns(UserWarning, match="without a CUDA graph: operation not permitted when stream is capturing$"):
        assert reads(torch.tensor([3.0])).item() == 9.0
    assert reads(torch.tensor([4.0])).item() == 16.0 and taping.captures == 1


def test_a_cpu_captures_nothing() -> None:
    assert capture_on(CPU) is None
    double = Captured(lambda x: 2 * x, CPU, capture_on(CPU))
    assert [double(torch.ones(1)).item() for _ in range(4)] == [2.0] * 4 and not double.graphs


def test_a_gpu_captures_under_its_device_and_leaves_other_threads_alone(monkeypatch) -> None:
    """What is asked of torch, for want of a GPU."""
    done: list[object] = []

    class Graph:
        def replay(self) -> None:
            done.append("replay")

    @contextlib.contextmanager
    def entered(*what: object, **how: object):
        done.append((*what, how))
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **how: entered("graph", type(graph), **how))
    monkeypatch.setattr(torch.cuda, "device", lambda device: entered("device", device))
    gpu = torch.device("cuda:1")
    capture = capture_on(gpu)
    assert capture is not None
    repeat, result = capture(lambda: done.append("run") or torch.ones(2))
    repeat()
    assert torch.equal(result, torch.ones(2))
    assert done == [("device", gpu, {}), ("graph", Graph, {"capture_error_mode": "thread_local"}), "run", "replay"]

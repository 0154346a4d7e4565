"""Functions of tensors as CUDA graphs, where a graph is faster and gives the same.

Energies of a few candidates are some thousand small kernels, and starting them one by one takes a GPU longer than computing them.
A graph starts all of them at once. It reads and writes the same memory every time, so what is given is copied there first.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Run = Callable[[], Tensor]
Capture = Callable[[Run], tuple[Callable[[], None], Tensor]]  # -> what repeats the run, and where its result will lie
Shapes = tuple[tuple[torch.Size, torch.dtype] | None, ...]

WORTH_IT = 0.95  # share of the time without a graph, at most
SAME = 1e-5  # relative difference of the results
MOST = 32  # graphs of a function: each keeps memory


@dataclass(frozen=True)
class Graph:
    """A captured run: the memory that it reads and writes, and what repeats it."""

    given: tuple[Tensor | None, ...]
    result: Tensor
    repeat: Callable[[], None]

    def __call__(self, given: tuple[Tensor | None, ...]) -> Tensor:
        """The function's value, in memory of its own."""
        for here, there in zip(self.given, given, strict=True):
            if here is not None and there is not None:
                here.copy_(there)
        self.repeat()
        return self.result.clone()


class Captured:
    """A function of tensors on one device; its value does not depend on whether a graph computes it.

    Shapes that come once are computed plainly. When they come again a graph is captured, timed against the plain way and kept if it
    is worth it and gives the same; that call takes some four times as long. What cannot be captured goes on plainly, with a warning.

    Args:
        function: reads no value back from the device, and depends on nothing that changes but what it is given.
        capture: None: never.
    """

    def __init__(self, function: Callable[..., Tensor], device: torch.device, capture: Capture | None) -> None:
        self.function, self.device, self.capture = function, device, capture
        self.graphs: dict[Shapes, Graph | None] = {}
        self.seen: set[Shapes] = set()

    def __call__(self, *given: Tensor | None) -> Tensor:
        """The function of these."""
        if self.capture is None:
            return self.function(*given)
        shapes = tuple(None if t is None else (t.shape, t.dtype) for t in given)
        if shapes in self.seen and shapes not in self.graphs and len(self.graphs) < MOST:
            self.graphs[shapes] = self._worthy(self.capture, given)
        self.seen.add(shapes)
        graph = self.graphs.get(shapes)
        return self.function(*given) if graph is None else graph(given)

    def _worthy(self, capture: Capture, given: tuple[Tensor | None, ...]) -> Graph | None:
        held = tuple(None if t is None else t.clone() for t in given)

        def plainly() -> Tensor:
            return self.function(*held)

        expected, plain_s = self._timed(plainly)
        try:
            repeat, result = capture(plainly)
            graph = Graph(held, result, repeat)
            graph(given)  # the first replay brings the graph to the device
            found, graph_s = self._timed(lambda: graph(given))
        except RuntimeError as error:  # out of memory, too
            warnings.warn(f"energies are computed without a CUDA graph: {str(error).splitlines()[0]}", stacklevel=2)
            return None
        same = torch.allclose(found, expected, rtol=SAME, atol=0.0, equal_nan=True)
        return graph if same and graph_s <= WORTH_IT * plain_s else None

    def _timed(self, run: Run) -> tuple[Tensor, float]:
        """Value and seconds."""
        finish(self.device)
        started = time.perf_counter()
        value = run()
        finish(self.device)
        return value, time.perf_counter() - started


def finish(device: torch.device) -> None:
    """Wait until the device has computed all."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def capture_on(device: torch.device) -> Capture | None:
    """How runs are captured on a device; None: not at all, as on a CPU."""
    if device.type != "cuda":
        return None

    def capture(run: Run) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = run()
        return graph.replay, result

    return capture

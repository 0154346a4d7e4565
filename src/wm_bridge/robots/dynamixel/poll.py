"""Reads all servos once per cycle, whatever single ones do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from wm_bridge.robots.dynamixel.bus import Block, ServoBus

_ALONE_AFTER = 20  # cycles in a row in which a servo answered alone but not in the common read
_SILENT_S, _SILENT_CYCLES = 0.05, 3  # after this time and so many misses it is not waited for any more ...
_PROBE_S = 0.2  # ... but asked this often


class Poll:
    """One common read for all, then the way round those that broke it.

    | servo  | asked                                    | becomes                                          |
    |--------|------------------------------------------|--------------------------------------------------|
    | CHAIN  | in the common read; alone when missing   | ALONE after 20 cycles of answering only alone;   |
    |        |                                          | SILENT after 50 ms without any answer            |
    | ALONE  | by a read of its own                     | SILENT as above                                  |
    | SILENT | every 0.2 s by a read of its own         | CHAIN when it answers                            |

    In a chain a silent servo silences all behind it: the rest is asked again without it, and it goes last from then on.

    Args:
        blocks: one per servo, in the order asked. budget_s: no further request begins after it.
    """

    def __init__(self, bus: ServoBus, blocks: Sequence[Block], budget_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus, self._budget_s, self._clock = bus, budget_s, clock
        self._blocks = {block.ident: block for block in blocks}
        self._heard: dict[int, float] = {}
        self._probed: dict[int, float] = {}
        self._alone_count = dict.fromkeys(self._blocks, 0)
        self._missed = dict.fromkeys(self._blocks, 0)
        self.alone: set[int] = set()
        self.silent: set[int] = set()

    def cycle(self) -> dict[int, bytes]:
        """What came back intact, by id."""
        begin = self._clock()
        found: dict[int, bytes] = {}
        broken: list[int] = []
        chain = [ident for ident in self._blocks if ident not in self.alone and ident not in self.silent]
        chain.sort(key=lambda ident: self._missed[ident] > 0)  # who was missing goes last: nobody is behind it
        while chain and self._clock() - begin < self._budget_s:
            if broken:
                self._bus.counts.retries += 1
            found |= self._bus.read_many([self._blocks[ident] for ident in chain])
            rest = [ident for ident in chain if ident not in found]
            broken += rest[:1]
            chain = rest[1:]
        for ident in (*broken, *(self.alone - self.silent)):
            if self._clock() - begin < self._budget_s and (data := self._bus.read(self._blocks[ident])) is not None:
                found[ident] = data
        self._sort(found, broken, begin)
        found |= self._probe(begin)
        return found

    def _sort(self, found: dict[int, bytes], broken: list[int], now: float) -> None:
        for ident in self._blocks:
            if ident in found:
                self._heard[ident], self._missed[ident] = now, 0
                self._alone_count[ident] = self._alone_count[ident] + 1 if ident in broken[:1] else 0
                if self._alone_count[ident] >= _ALONE_AFTER:
                    self.alone.add(ident)
                continue
            if ident not in broken and ident not in self.alone:
                continue  # its turn never came
            self._missed[ident] += 1
            late = now - self._heard.setdefault(ident, now) > _SILENT_S
            if ident not in self.silent and late and self._missed[ident] >= _SILENT_CYCLES:
                self.silent.add(ident)
                self.alone.discard(ident)
                self._probed[ident] = now

    def _probe(self, now: float) -> dict[int, bytes]:
        """Ask one of the silent ones whose turn it is."""
        for ident in sorted(self.silent, key=lambda ident: self._probed[ident]):
            if now - self._probed[ident] < _PROBE_S:
                break
            self._probed[ident] = now
            data = self._bus.read(self._blocks[ident])
            if data is not None:
                self.silent.discard(ident)
                self._heard[ident], self._missed[ident] = now, 0
                return {ident: data}
            break
        return {}

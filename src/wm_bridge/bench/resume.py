"""Finished episodes, kept line by line, so that a benchmark of hours goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge.bench.reach import Job
from wm_bridge.errors import UserError
from wm_bridge.sim.closed_loop import LoopSettings
from wm_planner.config import PlannerConfig
from wm_planner.weights import weights_hash

Row = dict[str, Any]


def settings_key(checkpoint: Path, seed: int, config: PlannerConfig, settings: LoopSettings) -> dict[str, Any]:
    """What the result of a closed-loop episode depends on, besides the code."""
    return {
        "weights": weights_hash(checkpoint),
        "seed": seed,
        "planner": dataclasses.asdict(config),
        "loop": dataclasses.asdict(settings),
    }


class Finished:
    """Rows of finished episodes in a file of JSON lines.

    The first line holds the key: all that the results depend on. A last line that was cut off
    when the program was killed is dropped.

    Args:
        path: of the file; made when missing.
        key: settings of this run, JSON values.

    Raises:
        UserError: the file holds results of other settings.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        self.path = path
        self._rows: dict[tuple[str, int], Row] = {}
        wanted = json.loads(json.dumps(dict(key)))
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        whole = [line for line in lines if line.endswith("\n")]
        if not whole:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = [json.dumps(wanted) + "\n"]
        held = json.loads(whole[0])
        if held != wanted:
            other = sorted(name for name in {*held, *wanted} if held.get(name) != wanted.get(name))
            raise UserError(
                f"{path} holds episodes of other settings: {', '.join(other)}",
                "remove it, or name another file with --state",
                exit_code=2,
            )
        path.write_text("".join(whole))
        for line in whole[1:]:
            entry = json.loads(line)
            self._rows[entry["row"], entry["number"]] = entry["result"]

    def get(self, row: str, number: int) -> Row | None:
        """What episode ``number`` of a row of the table gave; None when it has not been run."""
        return self._rows.get((row, number))

    def add(self, row: str, number: int, result: Row) -> None:
        """Keep the result of an episode, on the disk as well."""
        result = {name: value.item() if isinstance(value, np.generic) else value for name, value in result.items()}
        self._rows[row, number] = result
        with self.path.open("a") as file:
            file.write(json.dumps({"row": row, "number": number, "result": result}) + "\n")

    def rows(self, row: str, count: int) -> list[Row]:
        """The first ``count`` episodes of a row of the table."""
        return [self._rows[row, number] for number in range(count)]

    def complete(self, row: str, jobs: Sequence[Job], play: Callable[[Sequence[Job]], Iterable[Row]]) -> list[Row]:
        """Results of all ``jobs`` of a row, numbered from 0; only those not yet finished are played."""
        todo = [job for job in jobs if self.get(row, job.number) is None]
        print(f"{row}: {len(todo)} of {len(jobs)} episodes to run")
        for job, result in zip(todo, play(todo), strict=True):
            self.add(row, job.number, result)
        return self.rows(row, len(jobs))

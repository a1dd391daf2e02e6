"""Runs that are kept: an experiment that was interrupted repeats nothing, and comes to the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from experiments import _kept


@dataclass(frozen=True)
class Task:
    seed: int


@dataclass(frozen=True)
class Run:
    loss: float


def known(task: dict[str, Any], run: dict[str, Any]) -> tuple[Task, Run]:
    return Task(**task), Run(**run)


def test_an_interrupted_experiment_goes_on_where_it_stopped(tmp_path: Path) -> None:
    done: list[int] = []

    def run(task: Task) -> Run:
        if task.seed == 2 and len(done) == 2:
            raise KeyboardInterrupt
        done.append(task.seed)
        return Run(task.seed / 3)

    tasks, keep = [Task(seed) for seed in range(4)], str(tmp_path / "runs.jsonl")
    with pytest.raises(KeyboardInterrupt):
        _kept.runs(run, tasks, 1, 1, keep, known)
    done.append(-1)
    found = _kept.runs(run, tasks, 1, 1, keep, known)
    assert done == [0, 1, -1, 2, 3]
    assert found == {Task(seed): Run(seed / 3) for seed in range(4)}
    assert _kept.runs(run, tasks[1:3], 1, 1, keep, known) == {task: found[task] for task in tasks[1:3]}
    assert done == [0, 1, -1, 2, 3]


def test_without_a_file_everything_is_run() -> None:
    assert _kept.runs(lambda task: Run(1.0), [Task(0)], 1, 1, "", known) == {Task(0): Run(1.0)}

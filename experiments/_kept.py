"""Runs of an experiment that are kept in a file, so that an interrupted experiment goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from experiments import _processes

Task = TypeVar("Task")
Result = TypeVar("Result")


def runs(
    run: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, chunk: int, keep: str,
    known: Callable[[Any, Any], tuple[Task, Result]],
) -> dict[Task, Result]:  # fmt: skip
    """`run(task)` of every task, those that the file `keep` holds taken from it and all others added to it.

    Tasks and results are dataclasses. A line of the file is `[task, result]`, as `dataclasses.asdict` has them; `known`
    makes both of them again. An empty `keep` names no file.
    """
    lines = Path(keep).read_text().splitlines() if keep and Path(keep).exists() else []
    found = dict(known(*json.loads(line)) for line in lines)
    missing = [task for task in tasks if task not in found]
    for task, result in zip(missing, _processes.each(run, missing, jobs, chunk)):
        found[task] = result
        if keep:
            with Path(keep).open("a") as file:
                file.write(json.dumps([asdict(task), asdict(result)]) + "\n")  # type: ignore[call-overload]
    return {task: found[task] for task in tasks}

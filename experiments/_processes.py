"""Independent runs of an experiment over several processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def each(run: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, chunk: int = 1) -> list[Result]:
    """`run(task)` of every task, in their order, in `jobs` fresh processes that take `chunk` at a time; 1 is this one.

    >>> each(abs, [-1, 2, -3], jobs=1)
    [1, 2, 3]
    """
    if jobs < 2:
        return [run(task) for task in tasks]
    # Fresh ones: a fork would copy the locks of threads that numba and torch have started.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return list(pool.map(run, tasks, chunksize=chunk))

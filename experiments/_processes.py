"""Independent runs of an experiment over several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def each(run: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, chunk: int = 1) -> Iterator[Result]:
    """`run(task)` of every task, in their order, in `jobs` fresh processes that take `chunk` at a time; 1 is this one.

    Results come as they are there.

    >>> list(each(abs, [-1, 2, -3], jobs=1))
    [1, 2, 3]
    """
    if jobs < 2:
        yield from map(run, tasks)
        return
    # Fresh ones: a fork would copy the locks of threads that numba and torch have started.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run, tasks, chunksize=chunk)

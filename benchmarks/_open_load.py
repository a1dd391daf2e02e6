"""Load that is sent in time whatever the answers do, and what it costs the process that answers."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nearline.cli._http import Answer

_VERSION = b'"version":"'
_TICKS = os.sysconf("SC_CLK_TCK")


async def every(seconds: float, until: float, work: Callable[[float], Coroutine[Any, Any, None]]) -> None:
    """Start `work(due)` every so many seconds until a time (of `time.perf_counter`), then wait for all of it.

    What is due while the client sleeps too long starts at once, so that a request counts from when it was due.
    """
    tasks: set[asyncio.Task[None]] = set()
    start, n = time.perf_counter(), 0
    while (due := start + n * seconds) < until:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(work(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        n += 1
    if tasks:
        await asyncio.wait(tasks)


@dataclass
class Asked:
    """Requests of one kind: when each was due, how long its answer took from then, and what failed.

    Attributes
    ----------
    due
        Seconds of `time.perf_counter`, one per answer.
    ms
        Milliseconds from due to answered.
    """

    due: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    async def ask(self, due: float, request: Awaitable[Answer]) -> Answer | None:
        """The answer, its latency noted; None where there is none or it is no success."""
        try:
            answer = await request
        except OSError as error:
            self.failed[type(error).__name__] += 1
            return None
        if answer.status != 200:
            self.failed[str(answer.status)] += 1
            return None
        self.due.append(due)
        self.ms.append(1e3 * (time.perf_counter() - due))
        return answer

    def percentiles(self, *which: float, begin: float = 0.0, end: float = float("inf")) -> list[float]:
        """Percentiles of the milliseconds of requests that were due in [begin, end); NaN where there were none."""
        held = [ms for due, ms in zip(self.due, self.ms) if begin <= due < end]
        return [float(x) for x in np.percentile(held, which)] if held else [float("nan")] * len(which)


def learned(body: bytes) -> int:
    """Examples behind the oldest version that an answer of /predict names.

    >>> learned(b'[{"version":"1.0.19"},{"version":"1.0.7"}]')
    7
    """
    parts = {part[: part.index(b'"')] for part in body.split(_VERSION)[1:]}
    return min(int(part.rsplit(b".", 1)[1]) for part in parts)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory in MB: all of it, what is the process's own (anonymous), and pages of files it has mapped."""
    lines = (
        line.split()
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith(("VmRSS", "Rss"))
    )
    found = {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines}
    return {"all": found["VmRSS"], "own": found["RssAnon"], "files": found["RssFile"]}

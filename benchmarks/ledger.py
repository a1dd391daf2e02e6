"""The ledger: what recording costs the interpreter, how fast rows become durable, are taken, sealed; ids resolved.

A submission is 100 rows × 12 columns as a server hands them over (three columns of strings, five of floats, one of
integers, times, score and version), beside the made column of prediction ids.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa

from benchmarks import _report
from nearline.store import Log, Recorder, Run, Runs, predictions_schema
from nearline.store._columns import to_batch

ROWS = 100
STRINGS, FLOATS = ("city", "device", "campaign"), ("hour", "price", "age", "rank", "ctr")
SCHEMA = predictions_schema(
    {**dict.fromkeys(STRINGS, pa.string()), **dict.fromkeys(FLOATS, pa.float64()), "user_id": pa.int64()}
)
RUN = Run("aaaaaaaa", 0.0, 0)
MADE = {"prediction_id": RUN}


def submission(rng: np.random.Generator) -> dict[str, Any]:
    return {
        **{name: [f"value{i}" for i in rng.integers(0, 1000, ROWS).tolist()] for name in STRINGS},
        **{name: rng.random(ROWS).tolist() for name in FLOATS},
        "user_id": rng.integers(0, 100_000, ROWS).tolist(),
        "time": rng.random(ROWS).tolist(),
        "received": 1.7e9,
        "score": rng.normal(size=ROWS),
        "version": "1.0.5",
    }


def cpu(call: Callable[[], object], times: int) -> float:
    """Processor seconds of this thread per call, the median of seven rounds."""
    rounds = []
    for _ in range(7):
        begun = time.thread_time()
        for _ in range(times):
            call()
        rounds.append((time.thread_time() - begun) / times)
    return float(np.median(rounds))


def wall(call: Callable[[], object], times: int) -> float:
    """Seconds of a call, the median."""
    spent = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        spent.append(time.perf_counter() - begun)
    return float(np.median(spent))


def recording(log: Log, parts: list[Any], clients: int, count: int) -> tuple[float, float, float]:
    """Durable rows/s, the median wait in seconds and submissions per group, so many always waiting."""
    waits: list[float] = []
    slots = threading.Semaphore(clients)
    with Recorder(log, made=MADE) as recorder:
        begun = time.perf_counter()
        for i in range(count):
            slots.acquire()
            at = time.perf_counter()

            def done(error: BaseException | None, at: float = at) -> None:
                assert error is None
                waits.append(time.perf_counter() - at)
                slots.release()

            recorder.submit(ROWS, parts[i % len(parts)], done)
    return count * ROWS / (time.perf_counter() - begun), float(np.median(waits)), count / recorder.groups


def main() -> None:
    args = _report.arguments(__doc__)
    rng = np.random.default_rng(0)
    parts = [submission(rng) for _ in range(64)]
    count = 600 if args.quick else 4000
    table = []
    convert = {}
    for group in (1, 8, 16):
        batch = [(ROWS, part) for part in parts[:group]]
        convert[group] = cpu(lambda b=batch: to_batch(SCHEMA, 10**6, b, MADE), 40) / group * 1e6
        table.append((f"conversion per submission, groups of {group}", f"{convert[group]:.1f} µs"))
    with tempfile.TemporaryDirectory() as folder, Log.open(folder, SCHEMA) as log:
        for clients in (1, 16):
            rate, wait, group = recording(log, parts, clients, count)
            table.append((f"durable rows/s, {clients} waiting (groups of {group:.1f})", f"{rate:,.0f}"))
            table.append((f"median wait, {clients} waiting", f"{wait * 1e3:.2f} ms"))
        recent = min(300_000, log.end)
        take = wall(lambda: log.take(rng.integers(log.end - recent, log.end, 500)), 100) * 1e3
        table.append((f"take of 500 among the last {recent:,} rows", f"{take:.2f} ms"))
        begun = time.perf_counter()
        log.seal(active=True)
        table.append(("sealed rows/s", f"{log.end / (time.perf_counter() - begun):,.0f}"))
        size = sum(path.stat().st_size for path in Path(folder).glob("*.parquet")) / log.end
        table.append(("bytes per sealed row", f"{size:.0f}"))
        runs = Runs(Path(folder) / "runs.jsonl")
        ids = runs.start(0, 0.0).ids(0, min(10_000, log.end))
        resolve = cpu(lambda: runs.resolve(ids, first=0, end=log.end), 3) / len(ids) * 1e9
        table.append(("resolving an id", f"{resolve:.0f} ns"))
    bars = [
        _report.Bar("conversion_us_per_submission_in_groups_of_8", convert[8], 40.0, "µs", "<="),
        _report.Bar("durable_rows_per_s_16_waiting", rate, 100_000.0, "rows/s", ">="),
        _report.Bar("take_500_recent_ms", take, 3.0, "ms", "<="),
        _report.Bar("resolve_ns_per_id", resolve, 1000.0, "ns", "<="),
    ]
    _report.finish(bars, args.json, [_report.table("Ledger", ("what", "measured"), table)])


if __name__ == "__main__":
    main()

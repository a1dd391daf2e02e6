"""What selection costs and what it saves: choosing from a window, training end to end, forward passes for choosing.

Choosing: 1,000 of 10,000 rows with fresh losses and scores each time, and 100,000 of a million by `pps`. Times are the
processor's own (one thread, nothing else is waited for), which another process on the machine does not lengthen; the
clock's are printed beside them.

Training: a deep effect (DCN-v2) learns the same windows of a simulated click stream twice, from the same start and in
mini-batches of the same size: every row, and a tenth of them by `pps`. Rows lie in an uncompressed Arrow file that is
mapped into memory; both sides load what they train on from there, the second one after choosing by what was recorded at
serving. Its time includes pricing the records once labels are known, choosing, loading, training, and learning how far
to trust the records. What both share, scoring for the users, is in neither. A forward hook on the module counts rows.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa

import nearline as nl
from benchmarks import _report
from nearline import select

COLUMNS = ["country", "device", "age_group", "interests", "category", "advertiser", "price", "formats", "ad_id"]
RATIO = 0.1


@dataclass
class Counter:
    """Rows that went forward through a module: its forward hook."""

    rows: int = 0

    def __call__(self, module: Any, inputs: Any, output: Any) -> None:  # noqa: D102
        self.rows += len(output[0] if isinstance(output, tuple) else output)


def main() -> None:
    args = _report.arguments(__doc__, window=8192)
    with tempfile.TemporaryDirectory() as folder:
        chosen, choosing = choice(20 if args.quick else 200)
        trained, training = end_to_end(Path(folder), args.window, 3 if args.quick else 12)
    _report.finish([*chosen, *trained], args.json, [choosing, training])


def choice(times: int) -> tuple[list[_report.Bar], Any]:
    """Milliseconds to choose, by rule."""
    cases = [("swap", {}), ("pps", {}), ("pps", {"order": "signed_error"}), ("pps", {"sampler": "pivotal"}),
             ("pps", {"sampler": "cube", "balance": ("loss", "error")}), ("uniform", {}), ("stride", {})]  # fmt: skip
    found = {" ".join([n, *map(str, p.values())]): choose_ms(n, p, 10_000, 1000, times) for n, p in cases}
    million = choose_ms("pps", {}, 1_000_000, 100_000, max(times // 20, 3))
    rows = [(f"{name}: 1,000 of 10,000", str(cpu), str(wall)) for name, (cpu, wall) in found.items()]
    rows.append(("pps: 100,000 of 1,000,000", *map(str, million)))
    worse = max(found["swap"][0].median, found["pps"][0].median)
    bars = [
        _report.Bar("select_ms_1000_of_10000", worse, 2.0, "ms", "<="),
        _report.Bar("pps_s_million", million[0].median / 1e3, 1.0, "s", "<="),
    ]
    return bars, _report.table("Choosing", ("rule", "processor, ms", "clock, ms"), rows)


def choose_ms(
    name: str, parameters: dict[str, Any], n: int, b: int, times: int
) -> tuple[_report.Spread, _report.Spread]:
    """Spreads of the processor's and the clock's milliseconds; the first call, which may compile, is not counted."""
    rule, rng, seen = select.by_name(name, **parameters), np.random.default_rng(0), []
    for _ in range(times + 1):
        error = rng.normal(size=n)
        scores = select.Scores(loss=rng.exponential(size=n), score=np.abs(error), error=error)
        seen.append(timed(lambda scores=scores: rule(scores, b, rng))[:2])
    cpu, wall = zip(*seen[1:], strict=True)
    return _report.Spread.of(np.array(cpu) * 1e3), _report.Spread.of(np.array(wall) * 1e3)


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Processor seconds, seconds by the clock, result."""
    start, cpu = time.perf_counter(), time.thread_time()
    result = work()
    return time.thread_time() - cpu, time.perf_counter() - start, result


def end_to_end(folder: Path, window: int, windows: int) -> tuple[list[_report.Bar], Any]:
    """Training seconds of a tenth of the rows over those of all, window by window in turn."""
    stream = nl.simulate.stream(nl.simulate.Marketplace(events=window * (windows + 2), seed=5))
    with pa.OSFile(str(folder / "stream.arrow"), "wb") as sink, pa.ipc.new_file(sink, stream.schema) as writer:
        writer.write_table(stream.combine_chunks(), max_chunksize=window)
    mapped = pa.ipc.open_file(pa.memory_map(str(folder / "stream.arrow")))
    full = nl.deep.Network(
        nl.Schema(label="clicked", time="timestamp"), COLUMNS, architecture=nl.deep.DCN(embedding=16), seed=1
    )
    full.fit(stream.slice(0, window), epochs=1)
    part, label = full.fork(), stream.column("clicked").to_numpy().astype(np.float64)
    hook = Counter()
    part.module.register_forward_hook(hook)
    learner = Tenth(part, select.SelectorState(), hook)
    seconds, clock, choosing, training = [], [], 0, 0
    for t in range(1, windows + 2):
        recorded = part.information(stream.slice(t * window, window))  # what serving has paid for already
        batch, y = t, label[t * window : (t + 1) * window]
        ours = timed(lambda batch=batch, y=y, recorded=recorded: learner(mapped, batch, recorded, y))
        theirs = timed(lambda batch=batch: full.partial_fit(pa.Table.from_batches([mapped.get_batch(batch)])))
        if t > 1:  # the first window warms both up
            seconds.append((ours[0], theirs[0]))
            clock.append(ours[1] / theirs[1])
            choosing, training = choosing + ours[2][0], training + ours[2][1]
    ratio = _report.Spread.of([a / b for a, b in seconds])
    rows = [
        ("a tenth by pps, s a window", str(_report.Spread.of([a for a, _ in seconds]))),
        ("all rows, s a window", str(_report.Spread.of([b for _, b in seconds]))),
        ("ratio, processor", str(ratio)),
        ("ratio, clock", str(_report.Spread.of(clock))),
        ("rows forward for choosing, all windows", choosing),
        (f"rows forward for training, of {windows * window:,} seen", training),
    ]
    bars = [
        _report.Bar("train_time_vs_full", ratio.median, 0.2, "", "<="),
        _report.Bar("selection_forwards", float(choosing), 0.0, "rows", "<="),
        _report.Bar("training_forwards_vs_budget", training / (windows * round(RATIO * window)), 1.0, "", "<="),
    ]
    return bars, _report.table(f"Training, windows of {window:,}", ("", "measured"), rows)


@dataclass
class Tenth:
    """The trainer that chooses first and loads then."""

    network: Any
    state: select.SelectorState
    hook: Counter

    def __call__(self, stream: Any, batch: int, recorded: Any, y: Any) -> tuple[int, int]:
        """Rows that went forward to choose, and to train."""
        rule, before = select.by_name("pps"), self.hook.rows
        scores = recorded.scores(y)
        chosen = rule(scores, RATIO, np.random.default_rng(batch), self.state)
        chose = self.hook.rows
        rows = stream.get_batch(batch).take(pa.array(chosen.index))
        trained = self.network.partial_fit(pa.Table.from_batches([rows]), weight=chosen.weight)
        fresh = np.abs(1 / (1 + np.exp(-trained.margin)) - y[chosen.index]) * trained.norm
        self.state = rule.learn(chosen.state, chosen, fresh)
        return chose - before, self.hook.rows - chose


if __name__ == "__main__":
    main()

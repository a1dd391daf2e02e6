"""Speed and memory: nearline against VW (events), lambda-learner and bayesianbandits (entity updates), in one run.

Every ratio is measured ours, rival, ours, rival, … on the same data with pinned threads, and printed with its spread.
Our event job runs from Arrow columns in memory to predictions (check, encode, predict and learn each event); VW reads
its own cache, built before the clock starts, and hands out its predictions (to the null device: its cheapest way), or,
as `silent`, learns without handing them out at all.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import _movielens, _report
from benchmarks._rivals import _bayesianbandits, _entities, _lambda_learner, _vw, _vw_search
from benchmarks._rivals._events import from_table
from nearline.glmix._block import LocalDesign, update_block
from nearline.glmix._links import by_name
from nearline.glmix._packed import pack, packed_size

LOGIT = by_name("logit")


def main() -> None:
    args = _report.arguments(__doc__, numba_threads=2, times=5, only="")
    parts: dict[str, Callable[[Any], tuple[list[_report.Bar], list[Any]]]] = {
        "event": event_mode, "threads": minibatch_threads, "entities": entity_updates, "memory": memory,
        "growth": growth,
    }  # fmt: skip
    bars, tables = [], []
    for name, part in parts.items():
        if not args.only or name in args.only.split(","):
            new_bars, new_tables = part(args)
            bars += new_bars
            tables += new_tables
    _report.finish(bars, args.json, tables)


def event_mode(args: Any) -> tuple[list[_report.Bar], list[Any]]:
    """Events per second of the quality benchmark's model and of its best VW."""
    table = _movielens.events()
    if args.quick:
        table = table.slice(0, 100_000)
    stream = from_table(table)
    settings = _vw_search.search(stream.tenth(), args.quick).linear.settings
    float32 = {"dtype": "float32"}
    _job(table.slice(0, 1000))
    _job(table.slice(0, 1000), **float32)
    _vw.seconds(settings, stream)
    ratio = _report.alternate(
        lambda: len(stream) / _job(table), lambda: len(stream) / _vw.seconds(settings, stream), args.times
    )
    narrow = _report.alternate(
        lambda: len(stream) / _job(table, **float32), lambda: len(stream) / _vw.seconds(settings, stream), args.times
    )
    silent = _report.alternate(
        lambda: len(stream) / _job(table),
        lambda: len(stream) / _vw.seconds(settings, stream, predictions=False),
        args.times,
    )
    rows = [
        ("nearline, float64 posteriors", ratio.ours.median, str(ratio.ratio)),
        ("nearline, float32 posteriors", narrow.ours.median, str(narrow.ratio)),
        (f"VW {_vw.described(settings)}", ratio.rival.median, "1"),
        ("VW, the same, learning only, no predictions out", silent.rival.median, str(silent.ratio)),
    ]
    return [
        _report.Bar("events_per_s_vs_vw", ratio.ratio.median, 1.5, "x"),
        _report.Bar("events_per_s_vs_vw_float32", narrow.ratio.median, 1.5, "x"),
        _report.Bar("events_per_s_vs_vw_silent", silent.ratio.median, 1.5, "x"),
    ], [_report.table("Event mode, one thread, columns to predictions", ("tool", "events/s", "nearline / VW"), rows)]


def _job(table: Any, **options: Any) -> float:
    """Seconds from columns to predictions, with a fresh model."""
    start = time.perf_counter()
    model = _movielens.model(**options)
    margin = model.progressive(table).margin
    p = 1 / (1 + np.exp(-margin))
    seconds = time.perf_counter() - start
    assert np.isfinite(p).all()
    return seconds


def minibatch_threads(args: Any) -> tuple[list[_report.Bar], list[Any]]:
    """Minibatch mode on two threads against one, same bits."""
    task = _entities.task(20_000 if not args.quick else 2_000, 20, 12, seed=1)
    prepared = _prepared(task)
    one, two = (lambda: _rate(prepared, 1)), (lambda: _rate(prepared, 2))
    one(), two()
    assert np.array_equal(_update(prepared, 1)[0], _update(prepared, 2)[0]), "bits depend on the number of threads"
    ratio = _report.alternate(two, one, args.times)
    return [_report.Bar("threads_2_vs_1", ratio.ratio.median, 1.4, "x")], [
        _report.table("Minibatch mode, 20 rows x 12 features", ("threads", "entity updates/s", "2 / 1"), [
            ("1", ratio.rival.median, ""), ("2", ratio.ours.median, str(ratio.ratio)),
        ])
    ]  # fmt: skip


def entity_updates(args: Any) -> tuple[list[_report.Bar], list[Any]]:
    """Per-entity posterior updates against lambda-learner and bayesianbandits."""
    wide, narrow = _entities.task(20_000, 20, 12, seed=2), _entities.task(50_000, 2, 31, seed=3)
    few = 100 if args.quick else 300
    _check_agreement(wide.head(50), _lambda_learner.fit(wide.head(50)))
    prepared = _prepared(wide)
    for threads in (1, 2):
        _rate(prepared, threads)
    by_threads = {t: _report.repeat(lambda t=t: _rate(wide, t), args.times) for t in (1, 2)}
    ll = _report.alternate(
        lambda: _rate(wide, 2), lambda: _lambda_learner.fit(wide.head(few)).entity_updates_per_s, args.times
    )
    bb = _report.alternate(
        lambda: _rate(wide, 2), lambda: _bayesianbandits.fit(wide.head(few)).entity_updates_per_s, args.times
    )
    dual = _report.alternate(
        lambda: 2 * _rate(narrow, 1), lambda: _lambda_learner.fit(narrow.head(few)).rows_per_s, args.times
    )
    last = _lambda_learner.fit(wide.head(few))
    shown = _report.table("Entity updates, full covariance, conversions included", ("tool", "per second", "ratio"), [
        ("nearline, 20 x 12, 2 threads", ll.ours.median, ""),
        ("nearline, 20 x 12, 1 thread", by_threads[1].median, ""),
        ("nearline, 20 x 12, 2 threads, grouping shown apart", _rate(prepared, 2), ""),
        ("lambda-learner, 20 x 12", ll.rival.median, str(ll.ratio)),
        ("lambda-learner, conversion left out", last.update_only_per_s, ""),
        ("lambda-learner, conversion as its guide shows", last.documented_per_s, ""),
        ("bayesianbandits, 20 x 12", bb.rival.median, str(bb.ratio)),
        ("nearline, 2 x 31, 1 thread, rows", dual.ours.median, ""),
        ("lambda-learner, 2 x 31, rows", dual.rival.median, str(dual.ratio)),
    ])  # fmt: skip
    return [
        _report.Bar("entity_updates_vs_lambda_learner", ll.ratio.median, 300, "x"),
        _report.Bar("entity_updates_vs_bayesianbandits", bb.ratio.median, 40, "x"),
        _report.Bar("rows_vs_lambda_learner_d31_n2", dual.ratio.median, 3_000, "x"),
    ], [shown]


def _prepared(task: _entities.Task) -> tuple[Any, ...]:
    """A task's arrays, which the rivals convert to records of their own, as rows with an entity code each."""
    E, n, d = task.x.shape
    codes = np.repeat(np.arange(E, dtype=np.int32), n)
    return codes, LocalDesign.dense(task.x.reshape(E * n, d)), task.label.reshape(E * n), E, d


def _update(prepared: tuple[Any, ...], threads: int) -> tuple[Any, Any, float]:
    codes, design, y, E, d = prepared
    # Full, not zeros: a state that is in memory before the clock starts, as lambda-learner's models are.
    mean, cov = np.full((E, d), 0.0), np.tile(pack(np.eye(d)), (E, 1))
    ones, zeros = np.ones(len(y)), np.zeros(len(y))
    start = time.perf_counter()
    result = update_block(codes, design, y, ones, zeros, mean, cov, link=LOGIT, threads=threads)
    seconds = time.perf_counter() - start
    assert not len(result.failed_rows)
    return mean, cov, seconds


def _rate(task: Any, threads: int) -> float:
    """Entity updates per second; for a `Task`, building our rows from its arrays is on the clock too."""
    if not isinstance(task, _entities.Task):
        return task[3] / _update(task, threads)[2]
    start = time.perf_counter()
    prepared = _prepared(task)
    conversion = time.perf_counter() - start
    return task.entities / (conversion + _update(prepared, threads)[2])


def _check_agreement(task: _entities.Task, rival: _entities.Fitted) -> None:
    mean, cov, _ = _update(_prepared(task), 1)
    from nearline.glmix._packed import unpack

    assert np.abs(mean - rival.theta).max() < 1e-3, "modes differ from lambda-learner's"
    ours = np.stack([np.linalg.inv(unpack(row)) for row in cov])
    assert np.abs(ours - rival.hessian).max() < 1e-2, "Hessians differ from lambda-learner's"


def memory(args: Any) -> tuple[list[_report.Bar], list[Any]]:
    """Bytes per entity, and the peak of a process that grows to a million entities in steps: what the model and its
    vocabulary add to the loaded libraries, and the whole process.
    """
    entities, d = (100_000 if args.quick else 1_000_000), 20
    code = Path(__file__).with_name("_memory_child.py")
    out = subprocess.run([sys.executable, str(code), str(entities), str(d)], check=True, capture_output=True, text=True)
    held, grown, whole = (float(number) for number in out.stdout.split()[-3:])
    floor = (packed_size(d) + d) * 4
    return [
        _report.Bar("bytes_per_entity_ratio", held / entities / floor, 1.15, "x", "<="),
        _report.Bar("peak_gb_1e6_d20", grown, 1.1, "GB", "<="),
        _report.Bar("peak_gb_1e6_d20_whole_process", whole, 1.1, "GB", "<="),
    ], []


def growth(args: Any) -> tuple[list[_report.Bar], list[Any]]:
    """Time per event with a million known entities against ten thousand, same dimensions: the whole job from columns,
    and the update of encoded rows alone, which is where memory latency shows.
    """
    import nearline as nl

    sizes = (10_000, 100_000 if args.quick else 1_000_000)
    events, d = 200_000, 12
    jobs = []
    rng = np.random.default_rng(0)
    for entities in sizes:
        model = nl.GLMix(nl.Schema(label="y"), random=[nl.Random("key", on=["v"])], dtype="float32")
        model.partial_fit(_random_events(rng, np.arange(entities), d))
        table = _random_events(rng, rng.integers(0, entities, events), d)
        jobs.append((model, table, model.design(table, learn=True)[0]))

    def rate(k: int, encoded: bool) -> float:
        model, table, design = jobs[k]
        start = time.perf_counter()
        model.progressive(design if encoded else table)
        return events / (time.perf_counter() - start)

    measured = []
    for encoded in (False, True):
        rate(0, encoded), rate(1, encoded)
        measured.append(_report.alternate(lambda e=encoded: rate(0, e), lambda e=encoded: rate(1, e), args.times))
    whole, update = measured
    rows = [
        (f"{size:,}", getattr(whole, side).median, getattr(update, side).median)
        for size, side in zip(sizes, ("ours", "rival"))
    ]
    rows.append(("time ratio", str(whole.ratio), str(update.ratio)))
    return [
        _report.Bar("time_per_event_1e6_vs_1e4", whole.ratio.median, 1.5, "x", "<="),
        _report.Bar("time_per_event_1e6_vs_1e4_encoded_rows", update.ratio.median, 1.5, "x", "<="),
    ], [
        _report.table("Growth, one random effect, d = 13", ("entities", "events/s, columns", "events/s, encoded"), rows)
    ]


def _random_events(rng: np.random.Generator, keys: Any, d: int) -> Any:
    import pyarrow as pa

    values = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=len(keys) * d)), d)
    return pa.table({"key": keys, "v": values, "y": rng.integers(0, 2, len(keys))})


if __name__ == "__main__":
    main()

"""What surviving a crash costs: a learner's tick on disk, its replica, a restart, a published version seen elsewhere.

100,000 entities of 20 dimensions (1.9 KB each in float64) lie over a base version. A tick touches 1,000 of them, drawn
at random: its delta is taken, packed, committed with the positions (one synchronous LMDB transaction) and applied to a
replica. A restart loads all 100,000 from the store. A follower in another process polls the registry. Times are the
clock's; the processor's own are printed beside them, which another process on the machine does not lengthen.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import _report
from nearline import Fixed, GLMix, Random, Schema
from nearline.glmix import Delta, Mark
from nearline.store import LmdbStateStore, Registry, Version, new_line, restore, save_delta

D, TOUCHED, LINE = 20, 1000, "1.0.0"
FOLLOWER = """
import sys, time
from nearline.store import Registry
follower = Registry(sys.argv[1], clock=time.time).follow()
print("ready", flush=True)
while True:
    change = follower.poll()
    if change is not None:
        print(time.time(), flush=True)
    time.sleep(0.05)
"""


def main() -> None:
    args = _report.arguments(__doc__)
    entities, ticks = (10_000, 20) if args.quick else (100_000, 100)
    with tempfile.TemporaryDirectory() as folder:
        bars = [*state(Path(folder), entities, ticks), *registry(Path(folder), 5 if args.quick else 20)]
    _report.finish(bars, args.json)


def population(entities: int) -> tuple[GLMix, GLMix]:
    """(base, learner): a model of many entities, and a copy that has learned something of each."""
    base = GLMix(Schema(label="y"), Fixed("genre"), [Random("user", on=["genre"], posterior="full")])
    n = np.arange(entities)
    base.design({"user": n, "genre": [f"g{k}" for k in n % (D - 1)], "y": n % 2}, learn=True)
    learner, block = base.replica(), base.block("user")
    rng = np.random.default_rng(0)
    learner.block("user").mean[:entities] = rng.normal(size=(entities, block.d))
    learner.block("user").counts[:entities] = 1
    return base, learner


def state(folder: Path, entities: int, ticks: int) -> list[_report.Bar]:
    base, learner = population(entities)
    replica, store = learner.replica(), LmdbStateStore(folder / "live")
    mark, rng = Mark.of(learner), np.random.default_rng(1)
    store.commit(new_line(LINE), {"examples": 0})
    store.commit(save_delta(Delta.of(learner, {"user": np.arange(entities)}, mark)), {"examples": 0})
    times, busy = [], 0.0
    for tick in range(ticks):
        touched = {"user": np.sort(rng.choice(entities, TOUCHED, replace=False)), "fixed": np.zeros(1, np.int64)}
        learner.block("user").mean[touched["user"]] += 0.1
        stamps = [time.perf_counter()]
        delta = Delta.of(learner, touched, mark)
        stamps.append(time.perf_counter())
        changes = save_delta(delta)
        stamps.append(time.perf_counter())
        busy -= time.process_time()
        store.commit(changes, {"examples": tick})
        busy += time.process_time()
        stamps.append(time.perf_counter())
        delta.apply(replica)
        times.append(np.diff([*stamps, time.perf_counter()]))
    taken, packed, committed, applied = 1e3 * np.median(times, axis=0)
    slowest = 1e3 * np.quantile([row[2] for row in times], 0.99)
    print(f"tick: taken {taken:.2f}, packed {packed:.2f}, committed {committed:.2f} (p99 {slowest:.1f}; ", end="")
    print(f"processor {1e3 * busy / ticks:.1f}), ", end="")
    print(f"applied {applied:.2f} ms; {store.nbytes / 1e6:.0f} MB on disk")
    store.close()
    loads, restores = [], []
    for _ in range(3):
        began, busy = time.perf_counter(), time.process_time()
        store = LmdbStateStore(folder / "live", read_only=True)
        with store.snapshot() as found:
            rows = found.table("rows")
            loads.append(time.perf_counter() - began)
            processor = [time.process_time() - busy]
            assert len(rows) == entities + 1
            del rows
            began, busy = time.perf_counter(), time.process_time()
            restored = restore(base, found, line=LINE)
            restores.append(time.perf_counter() - began)
            processor.append(time.process_time() - busy)
        store.close()
        assert np.array_equal(restored.block("user").mean[:entities], learner.block("user").mean[:entities])
        del restored
    print(f"load {np.median(loads):.3f} s (processor {processor[0]:.3f}), ", end="")
    print(f"restored model {np.median(restores):.3f} s (processor {processor[1]:.3f})")
    return [
        _report.Bar("state_tick_ms", float(committed), 20.0, "ms", "<="),
        _report.Bar("delta_ms", float(taken + packed + applied), 10.0, "ms", "<="),
        _report.Bar("state_load_s", float(np.median(loads)), 0.5, "s", "<="),
        _report.Bar("restore_s", float(np.median(restores)), 1.0, "s", "<="),
    ]


def registry(folder: Path, publishes: int) -> list[_report.Bar]:
    versions = Registry(folder, clock=time.time)
    follower = subprocess.Popen([sys.executable, "-c", FOLLOWER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    follower.stdout.readline()
    seen = []
    for number in range(publishes):
        staged = versions.stage()
        (staged / "manifest.json").write_text("{}")
        versions.register(staged, Version(number), who="benchmark", why="measured")
        began = time.time()
        versions.publish(Version(number), who="benchmark", why="measured")
        seen.append(1e3 * (float(follower.stdout.readline()) - began))
    follower.kill()
    follower.wait()
    poll = versions.follow()
    began = time.perf_counter()
    for _ in range(1000):
        poll.poll()
    print(f"publish seen after {np.median(seen):.0f} ms (slowest {max(seen):.0f}); a poll takes ", end="")
    print(f"{1e3 * (time.perf_counter() - began):.1f} µs")
    versions.close()
    return [_report.Bar("follow_ms", float(max(seen)), 200.0, "ms", "<=")]


if __name__ == "__main__":
    main()

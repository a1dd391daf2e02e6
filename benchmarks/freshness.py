"""Freshness: from the acknowledgement of an outcome to a prediction that used it, under load.

A real `nearline run` process answers one client process on the same machine: 100 requests a second of 20 rows to
/predict, and 5,000 outcomes a second to /outcome in posts of 50. As so many outcomes need predictions, 300,000 rows are
predicted before the clock starts. Both streams are sent in time whatever the answers do.

    fresh_p50_ms, fresh_p99_ms   acknowledged -> answered from a version that has learned it

Every version is named after the examples it has learned, and as the attribution window outlasts the run every example
is an outcome of this client. An outcome counts as used with the first answer of /predict whose version, in every row,
has learned as many examples as were sent before its acknowledgement; so its freshness includes the wait for the next
request and that request's own latency. Outcomes that were never used would count as infinitely stale.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import _report
from benchmarks._live_market import LiveMarket
from benchmarks._open_load import Asked, cpu_seconds, every, learned
from benchmarks._service import Client, Service

ROWS, POST, BULK, DRAIN = 20, 50, 1_000, 10.0


@dataclass
class Run:
    """What one client saw."""

    predicts: Asked = field(default_factory=Asked)
    posts: Asked = field(default_factory=Asked)
    fresh_ms: list[float] = field(default_factory=list)
    sent: int = 0
    accepted: int = 0
    waiting: deque[tuple[int, float, int]] = field(default_factory=deque)  # (examples, acknowledged, outcomes)

    def acknowledged(self, n: int) -> None:
        """So many outcomes were accepted just now."""
        self.accepted += n
        self.waiting.append((self.sent, time.perf_counter(), n))

    def used(self, examples: int) -> None:
        """An answer came from a version that has learned so many examples of this run."""
        now = time.perf_counter()
        while self.waiting and self.waiting[0][0] <= examples:
            _, at, n = self.waiting.popleft()
            self.fresh_ms += [1e3 * (now - at)] * n

    def percentiles(self, *which: float) -> list[float]:
        """Of freshness; outcomes that no prediction used are infinitely stale."""
        never = [float("inf")] * sum(n for _, _, n in self.waiting)
        values = np.sort([*self.fresh_ms, *never])
        return [float(values[min(len(values) - 1, int(len(values) * p / 100))]) for p in which] if len(values) else []


def main() -> None:
    args = _report.arguments(__doc__, seconds=60.0, outcomes=5_000, predicts=100, members=20_000, seed=0)
    seconds = 10.0 if args.quick else args.seconds
    with tempfile.TemporaryDirectory() as folder:
        market = LiveMarket(members=args.members, ads=1_000, events=100_000, seed=args.seed)
        with Service(market.prepare(Path(folder), window="1d")) as service:
            service.start()
            posts = outcome_posts(service.port, market, int(seconds * args.outcomes), args.seed)
            rows = predict_posts(market, 500, args.seed + 1)
            found = asyncio.run(measure(service, posts, rows, seconds, args.outcomes, args.predicts))
    report(*found, args.outcomes, args.predicts, args.json)


def outcome_posts(port: int, market: LiveMarket, n: int, seed: int) -> list[bytes]:
    """Predict n rows in bulk; bodies of `POST` outcomes each, in random order, a fifth of them positive."""
    rng, client = np.random.default_rng(seed), Client(port, timeout=60.0)
    ids: list[str] = []
    while len(ids) < n:
        answer = client.post("/predict", {"rows": market.rows(min(BULK, n - len(ids)), rng)})
        ids += [row["prediction_id"] for row in answer["predictions"]]
    client.close()
    labels = (rng.random(n) < 0.2).astype(float).tolist()
    pairs = [{"prediction_id": ids[place], "label": labels[place]} for place in rng.permutation(n).tolist()]
    return [json.dumps({"outcomes": pairs[at : at + POST]}).encode() for at in range(0, n, POST)]


def predict_posts(market: LiveMarket, n: int, seed: int) -> list[bytes]:
    """Bodies of `ROWS` rows each."""
    rng = np.random.default_rng(seed)
    return [json.dumps({"rows": market.rows(ROWS, rng)}).encode() for _ in range(n)]


async def measure(
    service: Service, posts: list[bytes], rows: list[bytes], seconds: float, outcomes: int, predicts: int
) -> tuple[Run, float, float, float, dict[str, Any]]:
    """Run, seconds it took, processor seconds of server and client, and the server's status at its end."""
    from nearline.cli._http import Http

    run, pid = Run(), service.process.pid if service.process else 0
    async with Http(f"http://127.0.0.1:{service.port}", connections=64, timeout=30.0) as http:
        first = learned((await http.post("/predict", rows[0])).body)
        bodies, asked = iter(posts), _around(rows)

        async def post(due: float) -> None:
            body = next(bodies, None)
            if body is None:
                return
            run.sent += POST
            answer = await run.posts.ask(due, http.post("/outcome", body))
            if answer is None:
                return
            said = answer.json()
            run.sent -= len(said["rejected"])
            if said["accepted"]:
                run.acknowledged(said["accepted"])

        async def predict(due: float) -> None:
            answer = await run.predicts.ask(due, http.post("/predict", next(asked)))
            if answer is not None:
                run.used(learned(answer.body) - first)

        gc.collect()
        gc.disable()
        began, server, client = time.perf_counter(), cpu_seconds(pid), time.process_time()
        end = began + seconds
        await asyncio.gather(every(POST / outcomes, end, post), every(1.0 / predicts, end, predict))
        took, server, client = time.perf_counter() - began, cpu_seconds(pid) - server, time.process_time() - client
        gc.enable()
        status = (await http.get("/api/status")).json()
        while run.waiting and time.perf_counter() < end + DRAIN:
            await predict(time.perf_counter())
            await asyncio.sleep(0.01)
    return run, took, server, client, status


def _around(bodies: list[bytes]) -> Iterator[bytes]:
    while True:
        yield from bodies


def report(
    run: Run, took: float, server: float, client: float, status: dict[str, Any], outcomes: int, predicts: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Print rates, latencies and bars; say where the offered load was not reached."""
    p50, p90, p99 = run.percentiles(50, 90, 99)
    reached = [("outcomes", run.accepted / took, outcomes), ("predict requests", len(run.predicts.ms) / took, predicts)]
    for name, rate, offered in reached:
        if rate < 0.99 * offered:
            print(f"NOT REACHED: {rate:,.0f} {name}/s of {offered:,} offered; freshness below is that of less load")
    for name, asked in (("predict", run.predicts), ("outcome", run.posts)):
        if asked.failed:
            print(f"failed {name} requests: {dict(asked.failed)}")
    rows = [
        ("freshness, client's clock", "", p50, p90, p99),
        ("freshness, server's own", "", status["freshness"]["p50_ms"], "", status["freshness"]["p99_ms"]),
        ("predict request", f"{len(run.predicts.ms) / took:,.1f}", *run.predicts.percentiles(50, 90, 99)),
        (f"post of {POST} outcomes", f"{len(run.posts.ms) / took:,.1f}", *run.posts.percentiles(50, 90, 99)),
    ]
    shown = _report.table(f"{took:.1f} s, milliseconds", ("", "a second", "p50", "p90", "p99"), rows)
    print(f"{run.accepted:,} outcomes at {run.accepted / took:,.0f}/s; cores used: server {server / took:.2f}, client "
          f"{client / took:.2f}; joins {status['joins']}; guard {status['guard']}")  # fmt: skip
    bars = [
        _report.Bar("fresh_p50_ms", p50, 200.0, "ms", "<="),
        _report.Bar("fresh_p99_ms", p99, 1000.0, "ms", "<="),
        _report.Bar("outcomes_per_s", run.accepted / took, 0.99 * outcomes, "1/s", ">="),
        _report.Bar("predicts_per_s", len(run.predicts.ms) / took, 0.99 * predicts, "1/s", ">="),
    ]
    _report.finish(bars, as_json, [shown])


if __name__ == "__main__":
    main()

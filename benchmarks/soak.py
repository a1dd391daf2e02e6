"""Soak: at half of saturation for ten minutes, memory, file handles and latency stay where they were.

A real `nearline run` process answers one client process on the same machine: requests of 20 rows to /predict, and a
second later a post with the outcomes of 16 of them, once more a repeat of two; the other four become negatives when
their window closes. Saturation is found first, as requests/s of eight connections that never wait, until everything is
learned; half of that is then sent in time. `--rate` gives the rate instead.

    rss_growth_share     growth of the process's own memory (anonymous pages) from the second minute to the last
    p99_growth_share     growth of the p99 of /predict (median of its five-second slices), between the same windows
    files_growth         file handles more, between the same windows

The windows are the second and the last tenth of `--seconds`. State that the configuration asks to be kept is
stationary: predictions can be labelled for 15 s, the ledger keeps 30 s and 4 MB a log of it in memory, entities are
known from the start. Mapped pages of files (ledger segments, LMDB) are the operating system's cache, which it takes
back when it needs it, and are shown apart.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import _report
from benchmarks._live_market import LiveMarket
from benchmarks._open_load import Asked, cpu_seconds, every, memory_mb
from benchmarks._service import Service
from nearline.cli._http import Http

ROWS, LABELLED, REPEATED, DELAY, BODIES, SLICE = 20, 16, 2, 1.0, 500, 5.0
KEPT = 'horizon = "15s"\n\n[ledger]\nretention = "30s"\nsegment_rows = 20_000\nmemory_mb = 4\n'


@dataclass
class Client:
    """Predicts, and posts what happened."""

    http: Http
    bodies: Iterator[bytes]
    rng: np.random.Generator
    predicts: Asked = field(default_factory=Asked)
    posts: Asked = field(default_factory=Asked)

    async def predict(self, due: float) -> list[str]:
        """Ids of a request's rows; none when it failed."""
        answer = await self.predicts.ask(due, self.http.post("/predict", next(self.bodies)))
        return [] if answer is None else [row["prediction_id"] for row in answer.json()["predictions"]]

    async def tell(self, ids: list[str]) -> None:
        """Post the outcomes of some."""
        labels = (self.rng.random(LABELLED) < 0.2).astype(float).tolist()
        rows = [{"prediction_id": name, "label": label} for name, label in zip(ids, labels)]
        body = json.dumps({"outcomes": rows + rows[:REPEATED]}).encode()
        await self.posts.ask(time.perf_counter(), self.http.post("/outcome", body))

    async def turn(self, due: float) -> None:
        """One request, and its outcomes a while later."""
        ids = await self.predict(due)
        if ids:
            await asyncio.sleep(DELAY)
            await self.tell(ids)

    async def ceaselessly(self, until: float) -> int:
        """Requests and outcomes one after the other; how many."""
        n = 0
        while time.perf_counter() < until:
            ids = await self.predict(time.perf_counter())
            if ids:
                await self.tell(ids)
                n += 1
        return n

    async def waiting(self) -> int:
        """Outcomes that are not learned yet."""
        return int((await self.http.get("/api/status")).json()["freshness"]["waiting"])


@dataclass
class Samples:
    """What the process held, once a second: seconds, memory in MB, file handles."""

    at: list[float] = field(default_factory=list)
    memory: list[dict[str, float]] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    async def watch(self, service: Service, until: float) -> None:
        """Look once a second."""
        assert service.process is not None
        while (now := time.perf_counter()) < until:
            self.at.append(now)
            self.memory.append(memory_mb(service.process.pid))
            self.files.append(service.open_files())
            await asyncio.sleep(1.0)

    def medians(self, begin: float, end: float) -> dict[str, float]:
        """Median of each in [begin, end)."""
        held = [i for i, at in enumerate(self.at) if begin <= at < end]
        found = {name: float(np.median([self.memory[i][name] for i in held])) for name in ("own", "files", "all")}
        return found | {"handles": float(np.median([self.files[i] for i in held]))}


def main() -> None:
    args = _report.arguments(__doc__, seconds=600.0, rate=0.0, members=20_000, seed=0)
    seconds = 60.0 if args.quick else args.seconds
    with tempfile.TemporaryDirectory() as folder:
        market = LiveMarket(members=args.members, ads=1_000, events=100_000, seed=args.seed)
        rng = np.random.default_rng(args.seed)
        bodies = [json.dumps({"rows": market.rows(ROWS, rng)}).encode() for _ in range(BODIES)]
        with Service(
            market.prepare(Path(folder), window="5s", live='snapshot = "30s"\nkeep = 3', extra=KEPT)
        ) as service:
            service.start()
            found = asyncio.run(soak(service, bodies, rng, seconds, args.rate))
            said = service.tail(1000)
    for line in said.splitlines():
        if "ERROR" in line or "WARNING" in line:
            print(line)
    report(*found, seconds, args.json)


async def soak(
    service: Service, bodies: list[bytes], rng: np.random.Generator, seconds: float, rate: float
) -> tuple[Client, Samples, float, float, float, float]:
    """Client, samples, when the clock started, rate, and cores that server and client used."""
    pid = service.process.pid if service.process else 0
    async with Http(f"http://127.0.0.1:{service.port}", connections=64, timeout=30.0) as http:
        client = Client(http, _around(bodies), rng)
        await saturation(client, 3.0)
        saturated = await saturation(client, 8.0)
        rate = rate or saturated / 2
        print(f"saturation: {saturated:,.0f} requests/s of {ROWS} rows; sent: {rate:,.0f}/s", flush=True)
        client.predicts, client.posts, samples = Asked(), Asked(), Samples()
        gc.collect()
        gc.disable()
        began, server, own = time.perf_counter(), cpu_seconds(pid), time.process_time()
        end = began + seconds
        await asyncio.gather(every(1.0 / rate, end, client.turn), samples.watch(service, end))
        took, server, own = time.perf_counter() - began, cpu_seconds(pid) - server, time.process_time() - own
        gc.enable()
    return client, samples, began, rate, server / took, own / took


async def saturation(client: Client, seconds: float) -> float:
    """Requests/s of eight connections that never wait, counted until all their outcomes are learned."""
    began = time.perf_counter()
    done = sum(await asyncio.gather(*(client.ceaselessly(began + seconds) for _ in range(8))))
    while await client.waiting():
        await asyncio.sleep(0.02)
    return done / (time.perf_counter() - began)


def _around(bodies: list[bytes]) -> Iterator[bytes]:
    while True:
        yield from bodies


def sliced_p99(asked: Asked, begin: float, end: float) -> float:
    """Median of the p99 of the five-second slices of [begin, end)."""
    edges = np.arange(begin, end - SLICE + 1e-6, SLICE)
    return float(np.median([asked.percentiles(99, begin=edge, end=edge + SLICE)[0] for edge in edges]))


def report(
    client: Client, samples: Samples, began: float, rate: float, server: float, own: float, seconds: float,
    as_json: bool,
) -> None:  # fmt: skip
    """Print both windows and the growth between them."""
    tenth = seconds / 10
    windows = [(began + k * tenth, began + (k + 1) * tenth) for k in (1, 9)]
    held = [samples.medians(*window) for window in windows]
    p99 = [sliced_p99(client.predicts, *window) for window in windows]
    whole = [client.predicts.percentiles(50, 99, begin=begin, end=end) for begin, end in windows]
    for name, asked in (("predict", client.predicts), ("outcome", client.posts)):
        if asked.failed:
            print(f"failed {name} requests: {dict(asked.failed)}")
    reached = len(client.predicts.ms) / seconds
    if reached < 0.99 * rate:
        print(f"NOT REACHED: {reached:,.0f} requests/s of {rate:,.0f} offered")
    print(f"{reached:,.0f} requests/s for {seconds:g} s; cores used: server {server:.2f}, client {own:.2f}")
    names = {"own": "own memory, MB", "files": "mapped files, MB", "all": "resident, MB", "handles": "file handles"}
    rows: list[tuple[Any, ...]] = [(shown, *(part[name] for part in held)) for name, shown in names.items()]
    rows += [(f"p{p} of /predict, ms", *(part[i] for part in whole)) for i, p in enumerate((50, 99))]
    rows.append(("p99, median of slices, ms", *p99))
    for k in range(10):
        part = samples.medians(began + k * tenth, began + (k + 1) * tenth)
        print(f"{(k + 0.5) * tenth:5.0f} s: " + ", ".join(f"{shown} {part[name]:.0f}" for name, shown in names.items()))
    growth = [_growth(*(part["own"] for part in held)), _growth(*p99)]
    bars = [
        _report.Bar("rss_growth_share", growth[0], 0.1, "", "<="),
        _report.Bar("p99_growth_share", growth[1], 0.1, "", "<="),
        _report.Bar("files_growth", held[1]["handles"] - held[0]["handles"], 0.1 * held[0]["handles"], "files", "<="),
        _report.Bar("resident_growth_share", _growth(*(part["all"] for part in held)), 0.1, "", "<="),
    ]
    _report.finish(bars, as_json, [_report.table("second and last tenth", ("", "second", "last"), rows)])


def _growth(before: float, after: float) -> float:
    return after / before - 1.0


if __name__ == "__main__":
    main()

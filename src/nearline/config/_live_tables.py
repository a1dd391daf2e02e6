"""The tables of `nearline.toml` that describe a running system, one struct each."""

from __future__ import annotations

from typing import Literal

from nearline.config._tables import Duration, Table


class LiveTable(Table, frozen=True):
    """`[live]`: where the state lives and how often it learns, as `nearline.loop.Pace`."""

    folder: str = "nearline-state"
    tick: Duration = 0.05
    batch: int = 5_000
    snapshot: Duration = "10min"
    keep: int = 20
    follow: Duration = 0.1


class JoinTable(Table, frozen=True):
    """`[join]`: how outcomes are attributed to predictions, as `nearline.join.Policy`."""

    window: Duration = "10min"
    lateness: Duration = "10s"
    no_outcome: Literal["negative", "discard"] = "negative"
    late: Literal["correct", "drop"] = "correct"
    horizon: Duration = "1d"
    skew: Duration = "1min"


class LedgerTable(Table, frozen=True):
    """`[ledger]`: when a row counts as recorded and how long it is kept, as `nearline.loop.Recording`."""

    durable: bool = True
    flush: Duration = 0.1
    waiting: int = 200_000
    segment_rows: int = 1_000_000
    retention: Duration | None = None


class ServeTable(Table, frozen=True):
    """`[serve]`: address, tokens and limits of the HTTP service, as `nearline.serve.Limits`."""

    host: str = "127.0.0.1"
    port: int = 8080
    tokens: str | None = None
    max_rows: int = 10_000
    max_body: int = 16_777_216
    max_open: int = 256

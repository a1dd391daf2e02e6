"""The tables of `nearline.toml` that describe a running system, one struct each."""

from __future__ import annotations

from typing import Literal

from nearline.config._tables import Duration, PriorsTable, Table


class LiveTable(Table, frozen=True):
    """`[live]`: where the state lives and how often it learns, as `nearline.loop.Pace`."""

    folder: str = "nearline-state"
    tick: Duration = 0.05
    batch: int = 5_000
    snapshot: Duration = "10min"
    keep: int = 20
    follow: Duration = 0.1
    lag: int = 1_000


class JoinTable(Table, frozen=True):
    """`[join]`: how outcomes are attributed to predictions, as `nearline.join.Policy`.

    `horizon` None is an hour, or the window where that is longer: every prediction within it costs memory.
    """

    window: Duration = "10min"
    lateness: Duration = "10s"
    no_outcome: Literal["negative", "discard"] = "negative"
    late: Literal["correct", "drop"] = "correct"
    horizon: Duration | None = None
    skew: Duration = "1min"


class LedgerTable(Table, frozen=True):
    """`[ledger]`: when a row counts as recorded and how long it is kept, as `nearline.loop.Recording`."""

    durable: bool = True
    flush: Duration = 0.1
    waiting: int = 200_000
    segment_rows: int = 1_000_000
    memory_mb: int = 64
    retention: Duration | None = None


class SafetyTable(Table, frozen=True):
    """`[safety]`: limits beyond which events are quarantined, as `nearline.glmix.Safety`."""

    step: float = 6.0
    margin: float = 30.0
    alpha: float = 1e-6
    excess: float = 0.3
    shift: float = 0.4
    refused: float = 0.5


class GuardTable(Table, frozen=True):
    """`[guard]`: when the live model counts as worse than its base, as `nearline.gate.GuardSettings`."""

    enabled: bool = True
    alpha: float = 0.01
    bound: float = 2.0
    tolerance: float = 0.0
    minimum: int = 100
    window: int = 5_000
    coverage: float = 0.95
    threshold: float = 0.5
    max_weight: float = 1.0


class ChangeTable(Table, frozen=True):
    """`[change]`: when the world counts as changed, as `nearline.gate.ChangeSettings`."""

    enabled: bool = True
    alpha: float = 0.001
    tolerance: float = 0.02
    bound: float = 2.0
    minimum: int = 1_000
    cooldown: int = 20_000
    share: float = 1.0


class ServeTable(Table, frozen=True):
    """`[serve]`: address, tokens and limits of the HTTP service, as `nearline.serve.Limits`."""

    host: str = "127.0.0.1"
    port: int = 8080
    tokens: str | None = None
    body_bytes: int = 8 << 20
    rows: int = 10_000
    open_requests: int = 1024
    draws: int = 1024
    explained_rows: int = 100


class TuneTable(Table, frozen=True):
    """`[tune]`: how settings are searched, as `nearline.tune.tune`."""

    on: Literal["data", "ledger"] = "data"
    rows: int = 200_000
    share: float = 0.5
    trials: int = 60
    seed: int = 0
    every: tuple[int | str, ...] = ()
    structures: bool = True
    pruning: Literal["halving", "hyperband", "none"] = "halving"
    folder: str | None = None


class FitTable(Table, frozen=True):
    """`[fit]`: how a whole model is made, and of what."""

    on: Literal["data", "ledger", "both"] = "data"
    method: Literal["events", "batch"] = "events"
    cycles: int = 20
    tolerance: float = 1e-6
    learn_priors: bool = True
    prior_rows: int = 50_000
    priors: PriorsTable = PriorsTable()

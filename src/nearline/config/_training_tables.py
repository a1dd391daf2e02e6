"""The tables of `nearline.toml` that say how models are trained beside a running service."""

from __future__ import annotations

from typing import Literal

from nearline.config._tables import Duration, Table


class TrainingTable(Table, frozen=True):
    """`[training]`: what a fit or re-fit may take of the machine, and what it leaves to the gate."""

    nice: int = 10
    memory_gb: float | None = None
    judge: int = 2_000


class RefitTable(Table, frozen=True):
    """`[refit]`: how random effects are re-fitted from the ledger, and how often `nearline run` does so by itself."""

    every: Duration | None = None
    fixed: Literal["learned", "kept"] = "learned"
    publish: bool = True

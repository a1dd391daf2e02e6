"""The table of `nearline.toml` that says how a network that is the fixed effect goes on learning as it serves."""

from __future__ import annotations

from typing import Any, Literal

from nearline.config._tables import Duration, Table


class DeepTable(Table, frozen=True):
    """`[deep]`: how `nearline train` goes on training the network from the ledger, and which rows it chooses."""

    select: str | dict[str, Any] = "pps"
    budget: float | int = 0.1
    window: int = 10_000
    every: Duration | None = None
    examples: int | None = None
    trim: Literal["mad"] | None = None
    clip: float | None = None
    max_age: Duration | None = None
    max_version_lag: float | None = None
    sketch: int | None = None
    slices: str | None = None
    leverage: tuple[str, ...] | None = None
    seed: int = 0
    publish: bool = True
    shadow: str | dict[str, Any] | None = None

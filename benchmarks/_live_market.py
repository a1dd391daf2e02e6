"""The marketplace that the live benchmarks serve: a history, a configuration, and rows to predict."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._service import PINNED
from nearline import simulate

FEATURES = ("country", "device", "category", "price")
KEYS = ("member_id", "ad_id", "campaign_id")

CONFIG = """
[data]
path = "history.parquet"

[schema]
label = "clicked"
time = "timestamp"

[fixed]
on = ["country", "device", "category", "price"]

[[random]]
key = "member_id"
on = ["category", "price"]

[[random]]
key = "ad_id"
on = ["country", "device"]
parent = "campaign_id"

[live]
folder = "state"
{live}

[fit]
learn_priors = false

[join]
window = "{window}"
lateness = "1s"
{extra}
"""


class LiveMarket:
    """Members and ads with their features, as JSON rows that name real pairs.

    Parameters
    ----------
    members
        All of them are in the history, so the model knows so many entities at least.
    """

    def __init__(self, members: int = 2_000, ads: int = 300, events: int = 50_000, seed: int = 0) -> None:
        self.config = simulate.Marketplace(members=members, ads=ads, events=events, seed=seed)
        self.market = simulate.Market(self.config)
        self.members = members
        self.live = self.market.at(simulate._config.START).live
        self.seed = seed

    def history(self) -> pa.Table:
        """Every member once, then the configured events."""
        rng = np.random.default_rng(self.seed)
        seen = self.market.next_events(self.config.events)
        once = self.market.features(np.arange(self.members), rng.choice(self.live, self.members))
        first = seen["timestamp"][0].as_py()
        once = once.append_column("timestamp", pa.array(np.full(self.members, first)))
        once = once.append_column("clicked", pa.array((rng.random(self.members) < 0.2).astype(np.int8)))
        names = [*KEYS, *FEATURES, "timestamp", "clicked"]
        return pa.concat_tables([once.select(names), seen.select(names)])

    def rows(self, n: int, rng: np.random.Generator, time: float | None = None) -> list[dict[str, Any]]:
        """N rows of random pairs as they are sent to /predict."""
        pairs = self.market.features(rng.integers(0, self.members, n), rng.choice(self.live, n))
        rows = pairs.select([*KEYS, *FEATURES]).to_pylist()
        return rows if time is None else [{**row, "timestamp": time} for row in rows]

    def prepare(self, folder: Path, *, window: str = "1h", live: str = "", extra: str = "") -> Path:
        """Write history and `nearline.toml`, fit and publish version 1.0.0; the path of the configuration."""
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.history(), folder / "history.parquet")
        config = folder / "nearline.toml"
        config.write_text(CONFIG.format(window=window, live=live, extra=extra))
        fit = [sys.executable, "-m", "nearline", "fit", str(config)]
        done = subprocess.run(fit, capture_output=True, text=True, env={**os.environ, **PINNED})
        if done.returncode:
            raise RuntimeError(f"{' '.join(fit)} failed:\n{done.stderr}")
        return config

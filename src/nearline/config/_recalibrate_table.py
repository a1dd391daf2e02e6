"""The table of `nearline.toml` that says how served probabilities are recalibrated."""

from __future__ import annotations

from nearline.config._tables import Duration, Table


class RecalibrateTable(Table, frozen=True):
    """`[recalibrate]`: a map of served scores, applied while it is shown to help, as `RecalibrationSettings`."""

    enabled: bool = True
    half_life: Duration | None = "7d"
    level: float = 0.5
    slope: float = 0.25
    alpha: float = 0.01
    bound: float = 2.0
    window: int = 200_000

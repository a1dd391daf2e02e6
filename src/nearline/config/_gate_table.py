"""The table of `nearline.toml` that says when a candidate may be published."""

from __future__ import annotations

from nearline.config._tables import Duration, Table


class GateTable(Table, frozen=True):
    """`[gate]`: what a candidate must show, as `nearline.gate.PublishSettings`, and on which examples."""

    enabled: bool = True
    confidence: float = 0.95
    tolerance: float = 0.005
    minimum: int = 500
    calibration: tuple[float, float] = (0.98, 1.02)
    calibration_error: float = 0.02
    negative_flips: float = 0.02
    threshold: float = 0.5
    slices: tuple[str, ...] = ()
    slice_minimum: int = 200
    slice_tolerance: float = 0.01
    entities: tuple[str, ...] = ()
    rows: int = 200_000
    holdout: tuple[str, ...] = ()
    share: float = 0.01
    latency_ratio: float = 1.5
    latency_floor: Duration = 0.001
    size_ratio: float = 2.0
    size_floor_mb: float = 64.0

"""What a user decides about the guard."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nearline._confidence import check
from nearline._errors import ConfigError
from nearline.glmix._links import by_name


@dataclass(frozen=True)
class GuardSettings:
    """When the live model counts as worse than the stale one.

    Parameters
    ----------
    alpha : float
        Probability of ever rolling back a live model that is never worse, per guard (that is, per published version).
    bound : float
        Differences of loss are clipped to ±bound: no example counts for more. Nats for logit and log links.
    tolerance : float
        By how much the live loss may exceed the stale loss, per example, before it counts as worse.
    minimum : int
        No roll back before this many examples.
    window : int
        Examples in the rolling metrics, and after how many the recent confidence sequence starts anew.
    coverage : float
        Coverage of the intervals shown.
    threshold : float
        A prediction is positive above this probability (negative flips).
    max_weight : float
        Weights above count as this.
    points, resolution : int, float
        Points of the time series at most, and seconds between two of them at first; it coarsens as it grows.
    link : str
        Link of the margins. AUC, calibration intervals and flips are for "logit" only.

    Raises `ConfigError` for values that make no sense.
    """

    alpha: float = 0.01
    bound: float = 2.0
    tolerance: float = 0.0
    minimum: int = 100
    window: int = 5000
    coverage: float = 0.95
    threshold: float = 0.5
    max_weight: float = 1.0
    points: int = 300
    resolution: float = 1.0
    link: str = "logit"

    def __post_init__(self) -> None:
        check(self.bound, self.alpha)
        by_name(self.link)
        for name in ("coverage", "threshold"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie between 0 and 1; got {getattr(self, name)}")
        for name in ("max_weight", "resolution"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ConfigError(f"{name} must be positive and finite; got {getattr(self, name)}")
        for name, least in (("minimum", 1), ("window", 2), ("points", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if not 0 <= self.tolerance < self.bound:
            raise ConfigError(f"tolerance must be >= 0 and below bound; got {self.tolerance}")

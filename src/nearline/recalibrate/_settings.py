"""What a user decides about recalibration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nearline._confidence import check
from nearline._errors import ConfigError


@dataclass(frozen=True)
class RecalibrationSettings:
    """How freely the map may move, how fast it forgets, and when it is applied.

    Parameters
    ----------
    level, slope : float
        Prior standard deviation of the map's level (logits) and of its two slopes, around the identity.
    segment : float
        Prior standard deviation of a segment's deviation from the map of all, in each coefficient: small segments stay
        near it.
    half_life : float or None
        Seconds of event time after which what was learned counts half (a week); None never forgets.
    alpha : float
        Probability of ever switching the map on while it does not help, per look-out.
    bound : float
        Differences of loss are clipped to ±bound nats in that comparison. Too low a bound favours scores that are too
        sure: they gain a little often, and lose much seldom.
    window : int
        The comparison starts anew after so many examples: what helped long ago must not speak for today.

    Raises `ConfigError` for values that make no sense.

    >>> RecalibrationSettings(half_life=86_400.0).alpha
    0.01
    """

    level: float = 0.5
    slope: float = 0.25
    segment: float = 0.1
    half_life: float | None = 7 * 86_400.0
    alpha: float = 0.01
    bound: float = 2.0
    window: int = 200_000

    def __post_init__(self) -> None:
        check(self.bound, self.alpha)
        for name in ("level", "slope", "segment", "half_life"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be positive and finite; got {value}")
        if self.window < 1:
            raise ConfigError(f"window must be at least 1; got {self.window}")

"""What a user decides about the publish gate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nearline._errors import ConfigError
from nearline.glmix._links import by_name


@dataclass(frozen=True)
class PublishSettings:
    """When a candidate may replace what is live.

    Parameters
    ----------
    confidence : float
        Of every one-sided statement: a harmless candidate fails a check with at most 1 − confidence.
    tolerance : float
        The candidate's loss must be shown to exceed the live loss by at most this share of it; 0 demands a proven gain.
    minimum : int
        No candidate passes on fewer examples.
    calibration : tuple of float
        Allowed range of mean prediction over mean outcome.
    calibration_error : float
        Largest expected calibration error (mean gap over ten bins of equal counts).
    negative_flips : float
        Largest share of examples that live gets right and the candidate wrong.
    threshold : float
        A prediction is positive above this probability (negative flips).
    slice_minimum : int
        Slices with fewer examples are not judged.
    slice_tolerance : float
        No slice may be shown to lose more than this share of its live loss.
    latency_ratio, latency_floor : float
        p99 of scoring may be so many times the live one; up to `latency_floor` seconds it may be anything.
    size_ratio, size_floor : float
        As with latency, for bytes in memory.
    link : str
        Link of the margins. Calibration and flips are for "logit" only.

    Raises `ConfigError` for values that make no sense.

    >>> PublishSettings(tolerance=0.0).confidence
    0.95
    """

    confidence: float = 0.95
    tolerance: float = 0.005
    minimum: int = 500
    calibration: tuple[float, float] = (0.98, 1.02)
    calibration_error: float = 0.02
    negative_flips: float = 0.02
    threshold: float = 0.5
    slice_minimum: int = 200
    slice_tolerance: float = 0.01
    latency_ratio: float = 1.5
    latency_floor: float = 0.001
    size_ratio: float = 2.0
    size_floor: float = float(64 << 20)
    link: str = "logit"

    def __post_init__(self) -> None:
        by_name(self.link)
        for name, low, high in _OPEN:
            if not low < getattr(self, name) < high:
                raise ConfigError(f"{name} must lie between {low:g} and {high:g}; got {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"{name} must be finite and >= 0; got {getattr(self, name)}")
        for name in ("minimum", "slice_minimum"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1; got {getattr(self, name)}")
        low, high = self.calibration
        if not 0 <= low < 1 < high:
            raise ConfigError(f"calibration is a range around 1, such as [0.98, 1.02]; got {self.calibration}")


_OPEN = (("confidence", 0.5, 1.0), ("threshold", 0.0, 1.0))
_NOT_NEGATIVE = (
    "tolerance", "calibration_error", "negative_flips", "slice_tolerance", "latency_ratio", "latency_floor",
    "size_ratio", "size_floor",
)  # fmt: skip

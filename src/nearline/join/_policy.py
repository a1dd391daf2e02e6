"""What a user decides about joining outcomes to predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from nearline._errors import ConfigError

NoOutcome = Literal["negative", "discard"]
Late = Literal["correct", "drop"]


@dataclass(frozen=True)
class Policy:
    """How outcomes are attributed to predictions; all durations in seconds of event time.

    Parameters
    ----------
    window : float
        The attribution window: an outcome belongs to a prediction up to prediction time + window.
    lateness : float
        How much later than the newest event an outcome may still arrive before its window counts as closed: the
        watermark is the newest event time seen minus this.
    no_outcome : "negative" or "discard"
        What a prediction becomes when its window closes without an outcome: a negative (label 0), or nothing.
    late : "correct" or "drop"
        What an outcome does whose event time lies beyond the window: it labels its prediction all the same (undoing
        the negative that was learned), or nothing.
    horizon : float
        How long a prediction can be labelled, corrected or retracted, counted from its time. State costs 25 bytes for
        every prediction within it.
    skew : float
        How much earlier than its prediction an outcome may be, for clocks that disagree.

    Raises `ConfigError` for a duration that is negative or not finite, a window of 0, a horizon shorter than the
    window, and a choice that does not exist.

    >>> Policy(window=600.0, late="drop").watermark(10_000.0)
    9990.0
    """

    window: float
    lateness: float = 10.0
    no_outcome: NoOutcome = "negative"
    late: Late = "correct"
    horizon: float = 86_400.0
    skew: float = 60.0

    def __post_init__(self) -> None:
        for name in ("window", "lateness", "horizon", "skew"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} is a finite number of seconds >= 0; got {value}")
        if not 0 < self.window <= self.horizon:
            raise ConfigError(
                f"window must be > 0 and at most horizon; got window {self.window:g} s, horizon {self.horizon:g} s"
            )
        for name, choices in (("no_outcome", get_args(NoOutcome)), ("late", get_args(Late))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is one of {', '.join(map(repr, choices))}; got {getattr(self, name)!r}")

    def watermark(self, latest: float) -> float:
        """The time up to which outcomes count as complete when the newest event seen is at `latest`."""
        return latest - self.lateness

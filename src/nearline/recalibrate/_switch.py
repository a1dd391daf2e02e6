"""Whether the map is applied: on when it is shown to help on examples it had not seen, off when it is shown to harm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nearline._confidence import Bounds, ConfidenceSequence

Floats = NDArray[np.float64]


class Switch:
    """Off at first; turned by a confidence sequence for the mean gain, which starts anew at every turn and window.

    >>> switch = Switch(bound=0.5, alpha=0.01, window=10_000)
    >>> switch.observe(np.random.default_rng(0).normal(0.01, 0.05, 2_000).clip(-0.5, 0.5))
    >>> switch.on
    True
    """

    def __init__(self, bound: float, alpha: float, window: int) -> None:
        self.on, self._bound, self._alpha, self._window = False, bound, alpha, window
        self._gain = ConfidenceSequence(bound, alpha)

    @property
    def gain(self) -> Bounds:
        """Mean gain of the map per example, since the sequence was started."""
        return self._gain.bounds()

    def observe(self, gain: Floats) -> None:
        """Take gains (n) in their order: loss as it is without the map, less the loss with it."""
        self._gain.update(np.clip(gain, -self._bound, self._bound))
        bounds = self._gain.bounds()
        turned = bounds.high < 0 if self.on else bounds.low > 0
        self.on ^= turned
        if turned or bounds.n >= self._window:
            self._gain = ConfidenceSequence(self._bound, self._alpha)

    def state(self) -> dict[str, Any]:
        """For JSON."""
        return {"on": self.on, "gain": self._gain.state()}

    def restore(self, state: Mapping[str, Any]) -> Self:
        """What `state` was of."""
        self.on = bool(state["on"])
        self._gain = ConfidenceSequence.load(self._bound, self._alpha, state["gain"])
        return self

"""Has the world changed? The loss that happened against the loss that the model itself expected.

Symbols: L_t the loss of example t under the model's predictive distribution just before it was learned, H_t the
expectation of L_t under that same distribution, x_t = clip(w_t (L_t − H_t), ±b) its excess.

A model that is right has E[x_t | past] = 0 however little it knows, as its predictive distribution is wide where it
knows little. One that is certain of what no longer holds has E[x_t | past] > 0. No real model is quite right, so the
excess is compared with what is usual for this one: m_t, the mean of the excess over about the last `MEMORY` examples
before t. The decision is `Detector` on

    d_t = clip(x_t − m_t − tolerance, ±b)

and P(ever an alarm) ≤ alpha for as long as no example's expected excess is above the usual one by more than the
tolerance: m_t is known before x_t, so Ville's inequality holds whatever it is. After an alarm the model is given
`cooldown` examples to learn the world as it is now; then the evidence starts anew, with its own alpha.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._confidence import check
from nearline._errors import ConfigError
from nearline.gate._detector import Detector
from nearline.glmix._links import by_name
from nearline.glmix._predictive import excess

Floats = NDArray[np.float64]

MEMORY = 30_000
"""Examples that the usual excess remembers: long beside the hundreds that an alarm takes, so that a change is not
taken for usual before it is seen."""
RECENT = 500
"""Examples over which the excess is averaged for the reason of an alarm."""


@dataclass(frozen=True)
class ChangeSettings:
    """When the world counts as changed, and how far the model then lets go of what it was sure of.

    Parameters
    ----------
    alpha : float
        Probability of ever raising a false alarm, per start of the evidence.
    tolerance : float
        So many nats per example above the model's usual excess are no change.
    bound : float
        The excess is clipped to ±bound: no example counts for more.
    minimum : int
        Examples from which the usual excess is learned before the first alarm can come.
    cooldown : int
        Examples after an alarm that are not judged.
    share : float
        V ← V + share (V0 − V): 1 gives every entity its prior's uncertainty back, 0.5 half of it.
    link : str
        Link of the margins.

    Raises `ConfigError` for values that make no sense.

    >>> ChangeSettings(share=0.0)
    Traceback (most recent call last):
        ...
    nearline._errors.ConfigError: share must lie above 0 and at most at 1; got 0.0
    """

    alpha: float = 0.001
    tolerance: float = 0.02
    bound: float = 2.0
    minimum: int = 1_000
    cooldown: int = 20_000
    share: float = 1.0
    link: str = "logit"

    def __post_init__(self) -> None:
        check(self.bound, self.alpha)
        by_name(self.link)
        if not 0 <= self.tolerance < self.bound:
            raise ConfigError(f"tolerance must be >= 0 and below bound; got {self.tolerance}")
        for name, least in (("minimum", 1), ("cooldown", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if not 0 < self.share <= 1:
            raise ConfigError(f"share must lie above 0 and at most at 1; got {self.share}")


class ChangeDetector:
    """Watches the excess loss of one model; what it remembers is a few numbers, for JSON.

    >>> change, rng = ChangeDetector(ChangeSettings()), np.random.default_rng(0)
    >>> truth = rng.normal(0.0, 1.5, 20_000)
    >>> label = rng.random(20_000) < 1 / (1 + np.exp(-truth))
    >>> change.observe(label, truth, np.zeros(20_000))
    ''
    >>> change.observe(label[:2000], -truth[:2000], np.zeros(2000)).split("; ")[0]
    'the loss is 0.711 nats per example above what the model expects over about the last 500, usually -0.003'
    """

    def __init__(self, settings: ChangeSettings) -> None:
        self.settings, self._link = settings, by_name(settings.link)
        self.seen, self._usual, self._recent, self._resting = 0, 0.0, 0.0, 0
        self._renew()

    def _renew(self) -> None:
        self._detector = Detector(self.settings.bound, self.settings.alpha)

    @property
    def usual(self) -> float:
        """Mean excess of late, nats per example; 0 before any."""
        return self._usual

    def observe(self, label: ArrayLike, margin: ArrayLike, variance: ArrayLike, weight: ArrayLike | None = None) -> str:
        """Take the examples (n) of a tick: label, margin z and its variance s just before each was learned, weight.

        Returns why the world counts as changed, with numbers; empty where it does not. Examples whose margin is not
        finite are passed over.
        """
        y, z, s = (np.asarray(values, np.float64) for values in (label, margin, variance))
        w = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
        sound = np.isfinite(y) & np.isfinite(z) & (w > 0)
        x = excess(self._link, y[sound], z[sound], s[sound], w[sound])
        if self._link.name != "identity":  # there the weight is a precision, and in the excess already
            x = x * np.minimum(w[sound], 1.0)
        return self._take(np.clip(x, -self.settings.bound, self.settings.bound))

    def _take(self, x: Floats) -> str:
        resting = min(self._resting, len(x))
        self._resting, x = self._resting - resting, x[resting:]
        if not len(x):
            return ""
        first = max(0, min(self.settings.minimum - self.seen, len(x)))
        self._learn(x[:first])
        bound, judged = self.settings.bound, x[first:]
        above = judged - self._usual - self.settings.tolerance
        self._detector.update(np.clip(above, -bound, bound))
        self._recent = _moved(self._recent, judged, RECENT)
        if self._detector.alarm is None:
            self._learn(judged)
            return ""
        reason = self._reason()
        self._resting = self.settings.cooldown
        self._renew()
        return reason

    def _learn(self, x: Floats) -> None:
        self.seen += len(x)
        self._usual = _moved(self._usual, x, min(MEMORY, self.seen))

    def _reason(self) -> str:
        s, peak = self.settings, math.exp(min(self._detector.peak, 700.0))
        return (
            f"the loss is {self._recent:.3f} nats per example above what the model expects over about the last "
            f"{RECENT:,}, usually {self._usual:+.3f}; evidence reached {peak:.3g} to 1 after {self._detector.n:,} "
            f"examples, needed {1 / s.alpha:.3g} (false alarm probability {s.alpha:g})"
        )

    def state(self) -> dict[str, Any]:
        """All it remembers, for JSON."""
        return {
            "settings": asdict(self.settings), "seen": self.seen, "usual": self._usual, "recent": self._recent,
            "resting": self._resting, "detector": self._detector.state(),
        }  # fmt: skip

    @classmethod
    def load(cls, settings: ChangeSettings, state: Mapping[str, Any] | None) -> Self:
        """The one that gave this state; a new one where there is none, or it is of other settings."""
        change = cls(settings)
        if state is None or state["settings"] != asdict(settings):
            return change
        change.seen, change._usual, change._recent = state["seen"], state["usual"], state["recent"]
        change._resting = state["resting"]
        change._detector = Detector.load(settings.bound, settings.alpha, state["detector"])
        return change


def _moved(mean: float, x: Floats, memory: int) -> float:
    """A mean after further observations (n), of which about the last `memory` count: by whole ticks."""
    return mean + (float(x.mean()) - mean) * min(1.0, len(x) / memory) if len(x) else mean

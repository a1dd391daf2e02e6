"""The guard: live, stale and fixed effect scored on the same traffic, and the decision to roll back.

Symbols: ℓ(y, η) the link's loss, w the weight, d_t = clip(w_t (ℓ(y_t, live_t) − ℓ(y_t, stale_t)), ±b).

* The decision is `Detector` on d_t − tolerance: with probability at least 1 − alpha it never rolls back a live model
  whose (clipped) loss is never expected to exceed the stale one's by more than the tolerance.
* Lift is a `ConfidenceSequence` for the mean of −d_t: over all examples, and over recent ones, for which two sequences
  start anew every `window` examples, half a window apart; the longer one is shown (window/2 to window examples).
* Calibration is Σ w p / Σ w y; its interval follows from one for the mean of r_t = w_t (y_t − p_t), started anew alike:
  with p̄ the mean of w p, the expected outcome is p̄ + E[r], so the ratio lies between p̄/(p̄ + r_high) and p̄/(p̄ + r_low).

Examples are taken in the order in which they are learned, and margins are those that were, or would have been, served.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._confidence import Bounds, ConfidenceSequence
from nearline._errors import DataError, StateError
from nearline.gate._detector import Detector
from nearline.gate._rolling import MODELS, Rolling
from nearline.gate._series import Series
from nearline.gate._settings import GuardSettings
from nearline.gate._staggered import Staggered
from nearline.glmix._links import by_name

Floats = NDArray[np.float64]

_VERSION = 1
_SUMS = ("weight", *MODELS, "predicted", "actual")


@dataclass(frozen=True)
class GuardVerdict:
    """What the guard says, and why, with numbers."""

    action: Literal["watching", "roll back"]
    reason: str


class Guard:
    """Watches the live model against the stale one; what it has seen fits into a JSON object.

    >>> guard, rng = Guard(GuardSettings(alpha=0.01)), np.random.default_rng(0)
    >>> truth = rng.normal(0.0, 1.5, 1000)
    >>> label = rng.random(1000) < 1 / (1 + np.exp(-truth))
    >>> guard.observe(label, live=truth, stale=0.8 * truth, fixed=np.zeros(1000), time=0.0)
    >>> guard.verdict().action
    'watching'
    >>> guard.observe(~label, live=truth, stale=0.2 * truth, fixed=np.zeros(1000), time=1.0)
    >>> guard.verdict().action
    'roll back'
    """

    def __init__(self, settings: GuardSettings) -> None:
        self.settings, self._link = settings, by_name(settings.link)
        self._rolling = Rolling(settings.window)
        self._series = Series(len(_SUMS), settings.points, settings.resolution)
        self.restart()

    def restart(self) -> None:
        """Forget the evidence, for a new live version; rolling metrics and the series stay."""
        s, alpha = self.settings, 1 - self.settings.coverage
        self._detector = Detector(s.bound + s.tolerance, s.alpha)
        self._lift = ConfidenceSequence(s.bound, alpha)
        self._recent = Staggered(s.bound, alpha, s.window)
        self._residual = Staggered(s.max_weight, alpha, s.window)
        self._reason: str | None = None

    def observe(
        self,
        label: ArrayLike,
        live: ArrayLike,
        stale: ArrayLike,
        fixed: ArrayLike,
        weight: ArrayLike | None = None,
        time: float = 0.0,
    ) -> None:
        """Take the examples (n) of a tick: labels, the margins of the three models, weights; `time` dates the series.

        A live margin that is not finite counts as the worst there is, a stale one for the live model. Raises
        `DataError` for lengths that differ, labels the link does not know and weights that are negative or not finite.
        """
        y = self._link.labels(label)
        margins = np.vstack([_margin(name, values, len(y)) for name, values in zip(MODELS, (live, stale, fixed))])
        w = _weights(weight, len(y), self.settings.max_weight)
        worse = self._difference(y, margins, w)
        self._lift.update(-worse)
        self._recent.update(-worse)
        self._rolling.add(y, margins, w)
        self._calibrate(y, margins, w, time)
        self._detector.update(worse - self.settings.tolerance)
        self._decide()

    def verdict(self) -> GuardVerdict:
        """Watching, or roll back; once it says roll back it does so until `restart`."""
        if self._reason is not None:
            return GuardVerdict("roll back", self._reason)
        lift = self._lift.bounds()
        if not lift.n:
            return GuardVerdict("watching", "no examples yet")
        return GuardVerdict("watching", f"live against stale over {lift.n:,} examples: {_worded(lift)}")

    def summary(self) -> dict[str, Any]:
        """Quality as the service's status shows it, for JSON: NaN is None."""
        s = self.settings
        shown: dict[str, Any] = _plain(
            {
                "window": len(self._rolling),
                **self._rolling.metrics(self._link),
                "calibration_interval": self._calibration(),
                "lift_over_stale": asdict(self._lift.bounds()),
                "lift_recent": asdict(self._recent.bounds()),
                "negative_flips": self._rolling.flips(_logit(s.threshold)) if s.link == "logit" else None,
                "evidence": math.exp(min(self._detector.peak, 700.0)),
                "evidence_needed": 1 / s.alpha,
                "series": [_point(time, sums) for time, sums in self._series.buckets()],
            }
        )
        return shown

    def _difference(self, y: Floats, margins: Floats, w: Floats) -> Floats:
        bound = self.settings.bound
        with np.errstate(invalid="ignore", over="ignore"):
            live, stale = self._link.loss(y, margins[0]), self._link.loss(y, margins[1])
            worse = np.clip(w * (live - stale), -bound, bound)
        worse = np.where(np.isfinite(stale), worse, -bound)
        return np.where(np.isfinite(live), worse, bound)

    def _calibrate(self, y: Floats, margins: Floats, w: Floats, time: float) -> None:
        held = np.isfinite(margins).all(axis=0)
        y, margins, w = y[held], margins[:, held], w[held]
        predicted = w * self._link.mean(margins[0])
        if self.settings.link == "logit":
            self._residual.update(w * y - predicted, predicted)
        if len(y):
            losses = [float(w @ self._link.loss(y, margin)) for margin in margins]
            self._series.add(time, [float(w.sum()), *losses, float(predicted.sum()), float(w @ y)])

    def _calibration(self) -> tuple[float, float] | None:
        residual, predicted = self._residual.bounds(), self._residual.companion()
        if not residual.n:
            return None
        ends = (predicted + residual.high, predicted + residual.low)
        return predicted / ends[0], predicted / ends[1] if ends[1] > 0 else math.inf

    def _decide(self) -> None:
        s, detector = self.settings, self._detector
        if self._reason is not None or detector.alarm is None or detector.n < s.minimum:
            return
        loss = {name: values["log_loss"] for name, values in self._rolling.metrics(self._link).items()}
        self._reason = (
            f"live is worse than stale: mean loss {loss['live']:.4f} against {loss['stale']:.4f} over the last "
            f"{len(self._rolling):,} examples; recently {_worded(self._recent.bounds())}; evidence reached "
            f"{math.exp(min(detector.peak, 700.0)):.3g} to 1 by example {detector.n:,}, needed {1 / s.alpha:.3g} "
            f"(false alarm probability {s.alpha:g})"
        )

    def state(self) -> dict[str, Any]:
        """All it remembers, for JSON."""
        return {
            "version": _VERSION,
            "settings": asdict(self.settings),
            "reason": self._reason,
            **{name: getattr(self, f"_{name}").state() for name in _PARTS},
        }

    @classmethod
    def load(cls, settings: GuardSettings, state: Mapping[str, Any]) -> Self:
        """The guard that gave this state. Raises `StateError` when it was of another format or other settings."""
        if state.get("version") != _VERSION:
            raise StateError(f"guard state is of format {state.get('version')}; this nearline reads {_VERSION}")
        if state["settings"] != asdict(settings):
            raise StateError(
                f"guard state was written under {json.dumps(state['settings'])}: evidence does not carry over to other "
                "settings; start a new Guard"
            )
        guard, s, alpha = cls(settings), settings, 1 - settings.coverage
        guard._reason = state["reason"]
        guard._detector = Detector.load(s.bound + s.tolerance, s.alpha, state["detector"])
        guard._lift = ConfidenceSequence.load(s.bound, alpha, state["lift"])
        guard._recent = Staggered.load(s.bound, alpha, s.window, state["recent"])
        guard._residual = Staggered.load(s.max_weight, alpha, s.window, state["residual"])
        guard._rolling = Rolling.load(s.window, state["rolling"])
        guard._series = Series.load(len(_SUMS), s.points, state["series"])
        return guard


_PARTS = ("detector", "lift", "recent", "residual", "rolling", "series")


def _margin(name: str, values: ArrayLike, n: int) -> Floats:
    margin = np.asarray(values, np.float64)
    if margin.shape != (n,):
        raise DataError(f"shape {margin.shape}, not ({n},)", column=name, fix="pass one margin per label")
    return margin


def _weights(weight: ArrayLike | None, n: int, most: float) -> Floats:
    w = np.ones(n) if weight is None else np.asarray(weight, np.float64)
    if w.shape != (n,) or not ((w >= 0) & np.isfinite(w)).all():
        raise DataError(f"must be {n} finite numbers >= 0", column="weight")
    return np.minimum(w, most)


def _worded(lift: Bounds) -> str:
    if lift.mean < 0:
        return f"worse by {-lift.mean:.4f} per example [{-lift.high:.4f}, {-lift.low:.4f}]"
    return f"better by {lift.mean:.4f} per example [{lift.low:.4f}, {lift.high:.4f}]"


def _point(time: float, sums: Floats) -> dict[str, float]:
    weight, live, stale, fixed, predicted, actual = (float(value) for value in sums)
    losses = (loss / weight if weight else math.nan for loss in (live, stale, fixed))
    return {
        "time": time,
        **dict(zip(MODELS, losses)),
        "calibration": predicted / actual if actual else math.nan,
    }


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _plain(value: Any) -> Any:
    """For JSON: NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

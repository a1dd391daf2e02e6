"""Streaming recalibration: compare, then learn, batch by batch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._confidence import Bounds
from nearline._errors import DataError, StateError
from nearline.recalibrate._belief import Beliefs
from nearline.recalibrate._curve import IDENTITY, Curve, basis, mapped, rising
from nearline.recalibrate._settings import RecalibrationSettings
from nearline.recalibrate._switch import Switch

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_VERSION = 1


class Recalibrator:
    """A monotone map of scores on the logit scale, one for all examples and one for each segment beside it.

    A batch is first compared, then learned (progressive validation): its examples' gain, loss of the raw score less
    loss of the mapped one, decides whether `apply` maps. The map of a segment is that of all plus a deviation, which
    its prior keeps small where it has seen little. Same batches, same bits; the state fits into a JSON object.

    Examples
    --------
    Scores that are twice too sure:

    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(-1.0, 1.0, 20_000)
    >>> label = rng.random(20_000) < 1 / (1 + np.exp(-truth))
    >>> found = Recalibrator(RecalibrationSettings())
    >>> for k in range(0, 20_000, 500):
    ...     found.observe(label[k : k + 500], 2 * truth[k : k + 500])
    >>> found.on, found.apply([-4.0, -2.0, 4.0]).round(1).tolist()
    (True, [-2.0, -1.0, 2.1])
    """

    def __init__(self, settings: RecalibrationSettings) -> None:
        self.settings = settings
        self._all = Beliefs(IDENTITY, np.array([settings.level, settings.slope, settings.slope]), size=1)
        self._segments, self._numbers = Beliefs(np.zeros(3), np.full(3, settings.segment)), dict[str, int]()
        self._switch = Switch(settings.bound, settings.alpha, settings.window)
        self._time: float | None = None
        self.examples = 0

    @property
    def on(self) -> bool:
        """Whether `apply` maps: only after the map was shown to help, until it is shown to harm."""
        return self._switch.on

    @property
    def gain(self) -> Bounds:
        """Mean loss that the map saves per example, with an interval that holds at all times, since the last turn."""
        return self._switch.gain

    def coefficients(self, segment: str | None = None) -> tuple[float, float, float]:
        """θ = (a, b, c) of a segment, of all where it is not known; (0, 1, 1) is the identity."""
        known = None if segment is None else self._numbers.get(segment)
        a, b, c = rising(self._all.mean[0] + (0.0 if known is None else self._segments.mean[known])).tolist()
        return a, b, c

    def transform(self, margin: ArrayLike, segment: ArrayLike | None = None) -> Floats:
        """Mapped scores (n), whether or not the map is on; those that are not finite stay as they are."""
        eta = np.asarray(margin, np.float64)
        return mapped(eta, *self._theta(segment, len(eta)).T)

    def curve(self) -> Curve | None:
        """The map of all as a server applies it; None where it is off."""
        return Curve(*self.coefficients()) if self.on else None

    def apply(self, margin: ArrayLike, segment: ArrayLike | None = None) -> Floats:
        """What is to be served: `transform` where the map is on, the scores themselves (n) where it is off."""
        return self.transform(margin, segment) if self.on else np.asarray(margin, np.float64)

    def observe(
        self, label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None = None,
        segment: ArrayLike | None = None, time: float = 0.0,
    ) -> None:  # fmt: skip
        """Compare a batch, then learn it.

        Parameters
        ----------
        label, weight
            0 or 1 (n), and weights >= 0.
        margin
            Raw scores (n), before any map; rows that are not finite are passed over.
        segment
            Names (n) of what each row belongs to.
        time
            Event time of the batch, seconds: by it earlier batches are forgotten. One that falls back forgets nothing.

        Raises
        ------
        DataError
            Lengths that differ, labels other than 0 and 1, or weights that are negative or not finite.
        """
        y, eta, w, names = _checked(label, margin, weight, segment)
        if not len(y):
            return
        self._switch.observe(w * (_loss(y, eta) - _loss(y, self.transform(eta, names))))
        self._forget(time)
        self._learn(y, eta, w, names)
        self.examples += len(y)

    def _theta(self, segment: ArrayLike | None, n: int) -> Floats:
        """θ of each row, (n, 3)."""
        if segment is None or not self._numbers:
            return np.broadcast_to(rising(self._all.mean[0]), (n, 3))
        known = np.concatenate([self._segments.mean, np.zeros((1, 3))])
        return rising(self._all.mean[0] + known[self._codes(np.asarray(segment, np.str_))])

    def _codes(self, names: NDArray[np.str_]) -> Rows:
        """Number of each row's segment (n), −1 where it is not known."""
        different, code = np.unique(names, return_inverse=True)
        return np.array([self._numbers.get(name, -1) for name in different.tolist()], np.int64)[code]

    def _forget(self, time: float) -> None:
        if self._time is not None and self.settings.half_life is not None and time > self._time:
            keep = 0.5 ** ((time - self._time) / self.settings.half_life)
            self._all.forget(keep)
            self._segments.forget(keep)
        self._time = time if self._time is None else max(time, self._time)

    def _learn(self, y: Floats, eta: Floats, w: Floats, names: NDArray[np.str_] | None) -> None:
        phi, offset, none = basis(eta), np.zeros(len(y)), np.zeros(len(y), np.int64)
        if names is None:
            self._all.learn(phi, offset, y, w, none, np.zeros(3))
            return
        for name in np.unique(names).tolist():
            self._numbers.setdefault(name, len(self._numbers))
        self._segments.grow(len(self._numbers))
        code = self._codes(names)
        self._all.learn(phi, np.einsum("nd,nd->n", phi, self._segments.mean[code]), y, w, none, np.zeros(3))
        self._segments.learn(phi, phi @ self._all.mean[0], y, w, code, self._all.mean[0])

    def state(self) -> dict[str, Any]:
        """All it remembers, for JSON."""
        return {
            "version": _VERSION, "settings": asdict(self.settings), "examples": self.examples, "time": self._time,
            "all": self._all.state(), "names": list(self._numbers), "segments": self._segments.state(),
            "switch": self._switch.state(),
        }  # fmt: skip

    @classmethod
    def load(cls, settings: RecalibrationSettings, state: Mapping[str, Any]) -> Self:
        """What gave this state. Raises `StateError` when it was of another format or other settings."""
        if state.get("version") != _VERSION:
            raise StateError(f"recalibration is of format {state.get('version')}; this nearline reads {_VERSION}")
        if state["settings"] != asdict(settings):
            raise StateError(
                f"recalibration was learned under {json.dumps(state['settings'])}; start a new one for other settings"
            )
        found = cls(settings)
        found.examples, found._time = state["examples"], state["time"]
        found._all.restore(state["all"])
        found._segments.restore(state["segments"])
        found._numbers = {name: number for number, name in enumerate(state["names"])}
        found._switch.restore(state["switch"])
        return found


def _loss(y: Floats, eta: Floats) -> Floats:
    return np.asarray(np.logaddexp(0.0, eta) - y * eta, np.float64)


def _checked(
    label: ArrayLike, margin: ArrayLike, weight: ArrayLike | None, segment: ArrayLike | None
) -> tuple[Floats, Floats, Floats, NDArray[np.str_] | None]:
    y, eta = np.asarray(label, np.float64), np.asarray(margin, np.float64)
    w = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
    names = None if segment is None else np.asarray(segment, np.str_)
    for name, values in (("margin", eta), ("weight", w), ("segment", names)):
        if values is not None and values.shape != y.shape:
            raise DataError(f"has shape {values.shape}, label {y.shape}", column=name, fix="pass one per label")
    if not np.isin(y, (0.0, 1.0)).all():
        raise DataError("labels must be 0 or 1", column="label", fix="map the labels first")
    if not ((w >= 0) & np.isfinite(w)).all():
        raise DataError("must be finite and >= 0", column="weight")
    held = np.isfinite(eta)
    return y[held], eta[held], w[held], None if names is None else names[held]

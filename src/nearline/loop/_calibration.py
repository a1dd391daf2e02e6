"""The recalibration of a line: learned from served raw scores, committed with them, and served while it helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.gate._verdict import _plain
from nearline.recalibrate import Curve, RecalibrationSettings, Recalibrator

Floats = NDArray[np.float64]


class Calibration:
    """One map for a line of versions; nothing at all where recalibration is off.

    It learns of the raw score that was served, never of what it made of it, so that turning it on or off changes
    nothing that it learns.
    """

    def __init__(self, found: Recalibrator | None) -> None:
        self._found = found

    @classmethod
    def of(cls, settings: RecalibrationSettings | None, state: Mapping[str, Any] | None) -> Self:
        """As it was committed; a new one where there is no state, or it is of other settings."""
        if settings is None or state is None:
            return cls(None if settings is None else Recalibrator(settings))
        try:
            return cls(Recalibrator.load(settings, state))
        except StateError:
            return cls(Recalibrator(settings))

    @property
    def curve(self) -> Curve | None:
        """The map to be served; None where scores are served as they are."""
        return None if self._found is None else self._found.curve()

    def observe(self, label: Floats, score: Floats, weight: Floats, time: Floats) -> None:
        """Take the examples (n) of a tick that were served by this line; `time` is that of the events."""
        if self._found is not None and len(label):
            self._found.observe(label, score, weight, time=float(time.max()))

    def state(self) -> dict[str, Any] | None:
        """For the commit; None where recalibration is off."""
        return None if self._found is None else self._found.state()

    def summary(self) -> dict[str, Any] | None:
        """For the status: is it on, what it saves per example, and its coefficients."""
        if self._found is None:
            return None
        found: dict[str, Any] = _plain({
            "on": self._found.on, "examples": self._found.examples, "gain": asdict(self._found.gain),
            "coefficients": self._found.coefficients(),
        })  # fmt: skip
        return found

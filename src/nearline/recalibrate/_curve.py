"""The map: beta calibration on the link scale, which has the identity as one of its members.

    η' = a + b log σ(η) − c log(1 − σ(η)),   b, c ≥ FLOOR > 0

With φ(η) = (1, log σ(η), −log(1 − σ(η))) and θ = (a, b, c) it is linear, η' = φ(η)ᵀ θ; θ = (0, 1, 1) gives η back,
b = c is Platt's map, and b ≠ c bends the two tails differently. It rises with η, as b σ(−η) + c σ(η) > 0. Source: Kull,
Silva Filho, Flach, "Beta calibration", AISTATS 2017, equation 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

IDENTITY = np.array([0.0, 1.0, 1.0])
FLOOR = 0.05
"""Least slope: the order of scores is kept whatever the labels say."""


def basis(margin: Floats) -> Floats:
    """φ(η), (n, 3).

    >>> basis(np.array([0.0, 8.0])).round(3).tolist()
    [[1.0, -0.693, 0.693], [1.0, -0.0, 8.0]]
    """
    return np.stack([np.ones_like(margin), -np.logaddexp(0.0, -margin), np.logaddexp(0.0, margin)], axis=1)


@dataclass(frozen=True, slots=True)
class Curve:
    """A map as it is served: η' = a + b η + (c − b) log(1 + e^η), which is φ(η)ᵀ θ with one exponential.

    >>> Curve(0.0, 1.0, 1.0)(np.array([-3.0, 800.0])).tolist()
    [-3.0, 800.0]
    """

    a: float
    b: float
    c: float

    def __call__(self, margin: Floats) -> Floats:
        """Mapped scores (n); those that are not finite stay as they are."""
        return mapped(margin, self.a, self.b, self.c)


def mapped(margin: Floats, a: Any, b: Any, c: Any) -> Floats:
    """η' of scores (n), with coefficients that are numbers or arrays (n)."""
    with np.errstate(invalid="ignore"):
        found = a + b * margin + (c - b) * np.logaddexp(0.0, margin)
    return np.where(np.isfinite(margin), found, margin)


def rising(theta: Floats) -> Floats:
    """θ (…, 3) with its slopes at `FLOOR` where they are below it."""
    return np.concatenate([theta[..., :1], np.maximum(theta[..., 1:], FLOOR)], axis=-1)

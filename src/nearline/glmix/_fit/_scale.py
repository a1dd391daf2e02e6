"""Normalisation of the fixed effect's features as a change of variables: u = Sb, with the intercept taking the shift.

    x̃_j = (x_j − c_j) / s_j,    u_j = s_j b_j,    u_0 = b_0 + Σ_j c_j b_j,    so that  x̃ᵀu = xᵀb

The objective is evaluated in b whatever the scale, so that priors are mapped along exactly: the optimum is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.glmix._block import LocalDesign
from nearline.glmix._fit._settings import Normalise

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scale:
    """Shift c (d) and scale s (d); both leave the intercept, dimension 0, as it is where anything is shifted."""

    shift: Floats
    scale: Floats

    @classmethod
    def none(cls, d: int) -> Scale:
        """The raw features.

        Examples
        --------
        >>> Scale.none(2).raw(np.array([1.0, 2.0])).tolist()
        [1.0, 2.0]
        """
        return cls(np.zeros(d), np.ones(d))

    @property
    def shifted(self) -> bool:
        """Whether any feature is centred."""
        return bool(self.shift.any())

    def raw(self, u: Floats) -> Floats:
        """Coefficients b of the raw features."""
        b = u / self.scale
        if self.shifted:
            b[0] -= self.shift @ b
        return b

    def scaled(self, b: Floats) -> Floats:
        """Coefficients u of the normalised features; the inverse of `raw`."""
        u = b * self.scale
        if self.shifted:
            u[0] += self.shift @ b
        return u

    def pulled(self, gradient: Floats) -> Floats:
        """A gradient in u from one in b: the transpose of `raw`."""
        return (gradient - self.shift * gradient[0]) / self.scale if self.shifted else gradient / self.scale

    def curvature(self, diagonal: Floats, column: Floats) -> Floats:
        """Diagonal of the Hessian in u, from that in b and its first column (needed where anything is shifted)."""
        if self.shifted:
            diagonal = diagonal - 2.0 * self.shift * column + self.shift**2 * column[0]
        return diagonal / self.scale**2


def of(how: Normalise, design: LocalDesign, w: Floats, d: int, intercept: bool) -> Scale:
    """Shift and scale of a design's features over rows of weight w (n); a constant feature keeps its scale.

    Raises
    ------
    ConfigError
        When features are to be centred and no intercept can take their shift.

    Examples
    --------
    >>> X = LocalDesign(np.array([0, 2, 4]), np.array([0, 1, 0, 1], np.int32), np.array([1.0, 3.0, 1.0, 5.0]))
    >>> of("standardise", X, np.ones(2), 2, True).shift.tolist()
    [0.0, 4.0]
    """
    if how == "none":
        return Scale.none(d)
    if how == "standardise" and not intercept:
        raise ConfigError("FixedFit(normalise='standardise') needs Fixed(intercept=True); use 'unit_sd' without")
    entry = np.repeat(w, np.diff(design.indptr))
    if how == "max_magnitude":
        largest = np.zeros(d)
        np.maximum.at(largest, design.indices, np.where(entry > 0.0, np.abs(design.values), 0.0))
        return Scale(np.zeros(d), np.where(largest > 0.0, largest, 1.0))
    total = max(float(w.sum()), 1e-300)
    mean = np.bincount(design.indices, entry * design.values, minlength=d) / total
    # Two passes: squares of values far from zero would cancel. What is not in a row is a zero.
    apart = (design.values - mean[design.indices]) ** 2 - mean[design.indices] ** 2
    sd = np.sqrt(np.maximum(np.bincount(design.indices, entry * apart, minlength=d) / total + mean**2, 0.0))
    varies = sd > 1e-12 * np.maximum(np.abs(mean), 1.0)
    shift = np.where(varies, mean, 0.0) if how == "standardise" else np.zeros(d)
    if intercept:
        shift[0], varies[0] = 0.0, False
    return Scale(shift, np.where(varies, sd, 1.0))

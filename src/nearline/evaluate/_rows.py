"""Rows that metrics take, checked: labels y, predictions p and weights w of one length, and sums over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import DataError

Floats = NDArray[np.float64]


def paired(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Labels, predictions and weights of one length."""
    y, p = floats(y, "y"), floats(p, "p")
    if len(y) != len(p):
        raise DataError(f"y has {len(y)} rows, p has {len(p)}", fix="pass one prediction per label")
    return y, p, weights(weight, len(y))


def binary(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """As `paired`, with labels 0 and 1 only."""
    y, p, w = paired(y, p, weight)
    if not ((y == 0) | (y == 1)).all():
        raise DataError("labels must be 0 or 1", column="y", fix="map the labels first")
    return y, p, w


def probability(p: ArrayLike) -> Floats:
    """Predictions within [0, 1]."""
    p = floats(p, "p")
    if len(p) and not 0 <= p.min() <= p.max() <= 1:
        raise DataError("probabilities must lie in [0, 1]", column="p", fix="pass probabilities, not logits")
    return p


def weights(weight: ArrayLike | None, n: int) -> Floats:
    """Weights ≥ 0, 1 each where none are given."""
    if weight is None:
        return np.ones(n)
    w = floats(weight, "weight")
    if len(w) != n or (w < 0).any():
        raise DataError(f"weight must be {n} numbers >= 0", column="weight")
    return w


def floats(values: ArrayLike, name: str) -> Floats:
    """Float64, one-dimensional, without NaN."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or np.isnan(array).any():
        raise DataError("must be one-dimensional without NaN", column=name, fix="drop or fill the missing rows")
    return array


def average(values: Floats, w: Floats) -> float:
    """Σ w x / Σ w."""
    return ratio(dot(w, values), float(w.sum()))


def dot(a: Floats, b: Floats) -> float:
    """Σ a b."""
    return float(np.dot(a, b))


def ratio(above: float, below: float) -> float:
    """NaN where it is divided by 0."""
    return float(above / below) if below != 0 else float("nan")


def starts(changed: NDArray[np.bool_], n: int) -> NDArray[np.intp]:
    """First row of every run, from where each row differs from the one before (n − 1)."""
    return np.r_[0, np.flatnonzero(changed) + 1] if n else np.empty(0, dtype=np.intp)


def sums(values: Floats, start: NDArray[np.intp]) -> Floats:
    """Sum of every run."""
    # reduceat refuses an empty list of starts
    return np.add.reduceat(values, start) if len(start) else np.empty(0)


def totals(code: NDArray[np.integer], values: Floats, size: int) -> Floats:
    """Sum per code."""
    return np.bincount(code, weights=values, minlength=size).astype(np.float64, copy=False)

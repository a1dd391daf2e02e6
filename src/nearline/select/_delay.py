"""Labels that come late: weights that make training on what is known so far right in expectation."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearline.select._scores import Floats


def immediate_negative_weights(label: Any, p: Any) -> Floats:
    """Weights (n,) when every impression is a negative at once and a positive comes again on arrival.

        positives 1 + p,   negatives 1 - p^2 = (1 - p)(1 + p)        (arXiv 1907.06558)

    Positives are then p/(1 + p) of the rows. p is the present model's probability, its gradient stopped; the fixed
    point is the true rate.

    Examples
    --------
    >>> immediate_negative_weights([1, 0], [0.5, 0.5])
    array([1.5 , 0.75])
    """
    y, p = np.asarray(label, dtype=np.float64), np.asarray(p, dtype=np.float64)
    return np.asarray(np.where(y > 0, 1.0 + p, 1.0 - p * p))


def maturity_of(label: Any, age: Any, delay: float) -> Floats:
    """a_i = 1 for positives, 1 - exp(-age/delay) for negatives: how sure it is that no positive follows.

    Parameters
    ----------
    label : array (n,)
        So far.
    age : array (n,)
        Seconds since the prediction.
    delay : float
        Mean seconds from a prediction to its positive label.

    Examples
    --------
    >>> maturity_of([1, 0, 0], [0.0, 0.0, 1e9], delay=60.0)
    array([1., 0., 1.])
    """
    y, age = np.asarray(label, dtype=np.float64), np.asarray(age, dtype=np.float64)
    return np.asarray(np.where(y > 0, 1.0, -np.expm1(-np.maximum(age, 0.0) / delay)))

"""Predictive distributions of outcomes just before they are learned, and the log e-values that test them.

For each: excess of the loss over its expectation (n, nats), log e-values of the loss (n) or None, label less mean (n),
standard deviation (n), and log e-values (n) of the label tilted by θ, θ y − log E[e^(θ y)].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nearline.glmix._links import IDENTITY, LOGIT, Link

Floats = NDArray[np.float64]
Judged = tuple[Floats, Floats | None, Floats, Floats, Callable[[float], Floats]]


SURE = 1e-3


def excess(link: Link, y: Floats, z: Floats, s: Floats, w: Floats) -> Floats:
    """Loss of outcomes over what their predictive distributions expect (n, nats); of mean 0 where those are right.

    For the log link it is that of the normal distribution with the predictive mean m and variance v, half of
    (y − m)²/v − 1. `w` is the precision of an identity link's labels; a variance s that is not known (NaN) is none.

    Examples
    --------
    >>> from nearline.glmix._links import by_name
    >>> excess(by_name("logit"), np.array([1.0, 0.0]), np.zeros(2), np.ones(2), np.ones(2)).tolist()
    [0.0, 0.0]
    >>> excess(by_name("log"), np.array([4.0]), np.zeros(1), np.zeros(1), np.ones(1)).tolist()
    [4.0]
    """
    s = np.nan_to_num(np.maximum(s, 0.0))
    if link is LOGIT:
        return bernoulli(y, z, s, w)[0]
    if link is IDENTITY:
        return normal(y, z, s, w)[0]
    _, _, off, sd, _ = counts(y, z, s, w)
    return np.asarray(0.5 * (np.square(off / sd) - 1.0))


def bernoulli(y: Floats, z: Floats, s: Floats, _: Floats) -> Judged:
    """Logit link: p = σ(z / √(1 + πs/8)); E[exp(½ L)] = √p + √(1 − p).

    p is kept within 0.001 of certainty, which leaves a test of a model that is surer still, and keeps one row from
    deciding it.
    """
    p = np.clip(0.5 * (1.0 + np.tanh(0.5 * z / np.sqrt(1.0 + np.pi * s / 8.0))), SURE, 1.0 - SURE)
    L = -np.log(np.where(y > 0.5, p, 1.0 - p))
    H = -(p * np.log(p) + (1.0 - p) * np.log1p(-p))
    loss = 0.5 * L - np.log(np.sqrt(p) + np.sqrt(1.0 - p))
    sd = np.sqrt(p * (1.0 - p))
    return L - H, loss, y - p, sd, lambda tilt: tilt * y - np.log1p(p * np.expm1(tilt))


def normal(y: Floats, z: Floats, s: Floats, w: Floats) -> Judged:
    """Identity link: N(z, s + 1/w); with r standardised, L − E L = ½ (r² − 1) and E[exp(¼ r²)] = √2."""
    sd = np.sqrt(s + 1.0 / w)
    r = (y - z) / sd
    ones = np.ones_like(r)
    return (
        0.5 * (np.square(r) - 1.0),
        0.25 * np.square(r) - 0.5 * np.log(2.0),
        r,
        ones,
        lambda tilt: tilt * r - 0.5 * tilt * tilt,
    )


def counts(y: Floats, z: Floats, s: Floats, _: Floats) -> Judged:
    """Log link: mean m = exp(z + s/2), variance m + m²/k with 1/k = e^s − 1; E[e^(θy)] = (1 − m (e^θ − 1)/k)^(−k).

    θ is measured in standard deviations; where the expectation is infinite a row is no evidence.
    """
    m, over = np.exp(np.minimum(z + 0.5 * s, 50.0)), np.expm1(np.minimum(s, 50.0))
    sd = np.sqrt(m + m * m * over)

    def tilted(tilt: float) -> Floats:
        theta = tilt / np.maximum(sd, 1.0)
        grown = m * np.expm1(theta)
        left = 1.0 - grown * over
        with np.errstate(divide="ignore", invalid="ignore"):
            generating = np.where(over > 1e-9, -np.log(left) / np.maximum(over, 1e-9), grown)
        return np.where(left > 0.0, theta * y - generating, -np.inf)

    return np.zeros_like(m), None, y - m, np.maximum(sd, 1e-12), tilted

"""Labels and scores of any kind to compute metrics of."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

TOLERANCE = 1e-10


@st.composite
def scored(draw: st.DrawFn, weights: bool = True):
    """Labels with both classes, scores with many ties, and weights or None."""
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    y = rng.integers(0, 2, n)
    y[:2] = 0, 1
    p = rng.integers(0, draw(st.sampled_from([2, 5, 1000])), n) / 1000
    w = rng.gamma(1.0, size=n) if weights and draw(st.booleans()) else None
    return y, p, w


def noisy(n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return y, np.clip(0.5 + 0.2 * (y - 0.5) + 0.2 * rng.standard_normal(n), 0.01, 0.99)

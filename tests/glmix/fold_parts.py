"""A posterior and its prior, drawn at random."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Floats = NDArray[np.float64]


seeds = st.integers(0, 10**6)


def state(seed: int, d: int = 4) -> tuple[Floats, Floats, Floats, Floats]:
    """θ, H ⪰ Λ0, μ0, Λ0."""
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(2, d, d + 1))
    Lambda0 = A @ A.T + np.eye(d)
    return rng.normal(size=d), Lambda0 + B @ B.T, rng.normal(size=d), Lambda0

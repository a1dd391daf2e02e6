"""The mode of one or two rows, compiled: damped Newton in a, with margins o + K a, wholly in registers.

The equations and guards are those of `nearline.glmix._kernels._newton.dual`, the 2 × 2 inverse in closed form. A
missing second row is one of weight 0.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from nearline.glmix._kernels._lanes import INLINE, INNER
from nearline.glmix._kernels._linalg import CONVERGED, NON_FINITE, NOT_CONVERGED, NOT_POSITIVE_DEFINITE
from nearline.glmix._kernels._newton import ARMIJO, LOG_CAP, MAX_HALVINGS, MAX_STEPS, SAFE_CHANGE, TOLERANCE
from nearline.glmix._kernels._scalar import IDENTITY, LOG, LOGIT, derivatives, loss

# Within this change of a margin the series of g and D about the last point are exact to rounding.
NEAR = 1e-3


@njit(**INLINE)
def moved(link: int, y: float, g: float, D: float, change: float) -> tuple[float, float]:
    """Slopes (g, D) at a margin `change` away, by their series: exact to rounding within `NEAR`."""
    if link == IDENTITY:
        return g + change, D
    D1, D2, D3 = D, D, D
    if link == LOGIT:
        tilt = 1.0 - 2.0 * (g + y)
        D1, D2, D3 = D * tilt, D * (1.0 - 6.0 * D), D * tilt * (1.0 - 12.0 * D)
    half = 0.5 * change
    third = change / 3.0
    return g + change * (D + half * (D1 + third * D2)), D + change * (D1 + half * (D2 + third * D3))


@njit(**INLINE)
def alone(K: float, slope: float) -> float:
    """About the a = −w g at which a row would come to rest by itself, from its slope w g before."""
    if not K > 0.0 or slope == 0.0:
        return 0.0
    return -math.copysign(math.log1p(K * abs(slope)) / K, slope)


@njit(**INNER)
def mode_of_two(link: int, y: Any, w: Any, o: Any, K: Any) -> Any:
    """(status, steps, decrement, a, η, w D) of the mode over two rows, by Newton with a guarded step.

    `y`, `w`, `o` are pairs and K = (K00, K01, K11).
    """
    K00, K01, K11 = K
    a0 = a1 = 0.0
    e0, e1 = o
    t0, D0 = derivatives(link, y[0], e0)
    t1, D1 = derivatives(link, y[1], e1)
    if link == LOGIT:
        # Alone, a row of K ≫ 1 moves its margin by about log(1 + K w |g|), far less than Newton's first step would.
        a0, a1 = alone(K00, w[0] * t0), alone(K11, w[1] * t1)
        e0, e1 = e0 + K00 * a0 + K01 * a1, e1 + K01 * a0 + K11 * a1
        t0, D0 = derivatives(link, y[0], e0)
        t1, D1 = derivatives(link, y[1], e1)
    decrement = math.inf
    status, steps = NOT_CONVERGED, 0
    while steps < MAX_STEPS:
        steps += 1
        h0, h1 = w[0] * D0, w[1] * D1
        r0, r1 = a0 + w[0] * t0, a1 + w[1] * t1
        scale = 1.0 / (1.0 + h0 * K00 + h1 * K11 + h0 * h1 * (K00 * K11 - K01 * K01))
        s0 = ((h0 * K01) * r1 - (1.0 + h1 * K11) * r0) * scale
        s1 = ((h1 * K01) * r0 - (1.0 + h0 * K00) * r1) * scale
        c0, c1 = K00 * s0 + K01 * s1, K01 * s0 + K11 * s1
        decrement = s0 * c0 + s1 * c1 + h0 * c0 * c0 + h1 * c1 * c1
        if not math.isfinite(decrement):
            return NON_FINITE, steps, decrement, a0, a1, e0, e1, h0, h1
        largest = max(abs(c0), abs(c1))
        if largest > SAFE_CHANGE and link != IDENTITY:
            t = shorter(link, y, w, (a0, a1), (e0, e1), (e0 - o[0], e1 - o[1]), (s0, s1), (c0, c1), largest, decrement)
            if t == 0.0:
                return NOT_CONVERGED, steps, decrement, a0, a1, e0, e1, h0, h1
            s0, s1, c0, c1 = t * s0, t * s1, t * c0, t * c1
        a0, a1, e0, e1 = a0 + s0, a1 + s1, e0 + c0, e1 + c1
        if largest <= NEAR:
            t0, D0 = moved(link, y[0], t0, D0, c0)
            t1, D1 = moved(link, y[1], t1, D1, c1)
        else:
            t0, D0 = derivatives(link, y[0], e0)
            t1, D1 = derivatives(link, y[1], e1)
        if decrement <= TOLERANCE:
            status = CONVERGED
            break
    return status, steps, decrement, a0, a1, e0, e1, w[0] * D0, w[1] * D1


@njit(**INNER)
def shorter(
    link: int, y: Any, w: Any, a: Any, eta: Any, Ka: Any, step: Any, change: Any, largest: float, decrement: float
) -> Any:  # fmt: skip
    """Longest step in 1, ½, ¼ … (from the log link's cap) that meets Armijo's condition; 0 when none does."""
    t = min(1.0, LOG_CAP / largest) if link == LOG else 1.0
    p0 = 0.5 * (a[0] * Ka[0] + a[1] * Ka[1])
    p1, p2 = step[0] * Ka[0] + step[1] * Ka[1], step[0] * change[0] + step[1] * change[1]
    before = w[0] * loss(link, y[0], eta[0]) + w[1] * loss(link, y[1], eta[1]) + p0
    for _ in range(MAX_HALVINGS + 1):
        after = w[0] * loss(link, y[0], eta[0] + t * change[0]) + w[1] * loss(link, y[1], eta[1] + t * change[1])
        if after + p0 + p1 * t + 0.5 * p2 * t * t <= before - ARMIJO * t * decrement:
            return t
        t *= 0.5
    return 0.0


@njit(**INNER)
def split(K: Any, h0: float, h1: float) -> Any:
    """(status, |B|, i0, −l1 i2, i2) of B = I + S K S = LLᵀ, with L = ((1/i0, 0), (l1, 1/i2)) and S² = diag(h0, h1)."""
    pivot = 1.0 + h0 * K[0]
    i0 = 1.0 / math.sqrt(pivot)
    l1 = math.sqrt(h0 * h1) * K[1] * i0
    rest = 1.0 + h1 * K[2] - l1 * l1
    i2 = 1.0 / math.sqrt(rest)
    status = CONVERGED
    if not (0.0 < pivot < math.inf and 0.0 < rest < math.inf):
        status = NOT_POSITIVE_DEFINITE if pivot <= 0.0 or rest <= 0.0 else NON_FINITE
    return status, pivot * rest, i0, -l1 * i2, i2

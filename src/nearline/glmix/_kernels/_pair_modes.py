"""The modes of eight pairs of rows side by side, compiled: what `_pair_mode` does for one, for the logit link.

A pair that wants a shorter step, or is not finite, or takes many steps is left to `_pair_mode`.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from nearline.glmix._kernels._eights import (
    EIGHT,
    any_positive,
    eight,
    exp,
    log,
    log1p,
    put_eight,
    root,
    size,
    take_eight,
    where_at_most,
    where_less,
    with_sign,
)
from nearline.glmix._kernels._lanes import INLINE, INNER
from nearline.glmix._kernels._newton import SAFE_CHANGE, TOLERANCE

# Where a pair's numbers are, each for eight pairs: labels, weights, margins before, and K = X V Xᵀ; then the
# solution a, the factors of `_pair_mode.split`, the evidence, the decrement, the steps, and whether all that is there.
(Y0, Y1, W0, W1, O0, O1, K00, K01, K11, A0, A1, F0, F1, F2, EVIDENCE, DECREMENT, STEPS, SOLVED) = range(
    0, 18 * EIGHT, EIGHT
)
FIELDS = 18
NEAR = 0.5
"""The largest change of a margin whose bend is taken into its step."""
MOST = 8
"""Steps after which a pair is left to `_pair_mode`."""


@njit(**INLINE)
def slopes(y: Any, eta: Any) -> Any:
    """(g, D, e^−|η|) of the logit loss."""
    one = eight(1.0)
    e = exp(eight(0.0) - size(eta))
    share = one / (one + e)
    tail = e * share
    g = where_less(eta, eight(0.0), tail - y, (one - y) - tail)
    return g, tail * share, e


@njit(**INLINE)
def bend(y: Any, g: Any, D: Any, change: Any) -> Any:
    """What g moves beyond D · change, to second order, where the change is small enough for that to help; else 0."""
    tilt = D * (eight(1.0) - eight(2.0) * (g + y))
    return where_less(size(change), eight(NEAR), eight(0.5) * tilt * change * change, eight(0.0))


@njit(**INLINE)
def rest(K: Any, slope: Any) -> Any:
    """About the a at which a row would come to rest by itself, as `_pair_mode.alone`."""
    zero, one = eight(0.0), eight(1.0)
    a = with_sign(log(one + K * size(slope)) / where_less(zero, K, K, one), zero - slope)
    return where_less(zero, K, a, zero)


@njit(**INLINE)
def loss_of(y: Any, eta: Any, e: Any) -> Any:
    """The logit loss at η, from e = e^−|η|."""
    zero = eight(0.0)
    return where_less(eta, zero, (zero - y) * eta, (eight(1.0) - y) * eta) + log1p(e)


@njit(**INNER)
def modes_of_eight(p: Any) -> None:
    """The modes, factors and evidence of eight pairs at `p`."""
    zero, one, half = eight(0.0), eight(1.0), eight(0.5)
    y0, y1, w0, w1 = take_eight(p, Y0), take_eight(p, Y1), take_eight(p, W0), take_eight(p, W1)
    e0, e1 = take_eight(p, O0), take_eight(p, O1)
    k00, k01, k11 = take_eight(p, K00), take_eight(p, K01), take_eight(p, K11)
    minor = k00 * k11 - k01 * k01
    g0, D0, t0 = slopes(y0, e0)
    g1, D1, t1 = slopes(y1, e1)
    a0, a1 = rest(k00, w0 * g0), rest(k11, w1 * g1)
    e0, e1 = e0 + k00 * a0 + k01 * a1, e1 + k01 * a0 + k11 * a1
    g0, D0, t0 = slopes(y0, e0)
    g1, D1, t1 = slopes(y1, e1)
    # Above 0 while a pair moves; what has converged stays where it is, lane by lane.
    moving, well = one, one
    decrement = steps = zero
    for _ in range(MOST):
        h0, h1 = w0 * D0, w1 * D1
        r0, r1 = a0 + w0 * g0, a1 + w1 * g1
        b0, b1 = one + h0 * k00, one + h1 * k11
        scale = moving / (b0 + h1 * k11 + h0 * h1 * minor)
        s0 = (h0 * k01 * r1 - b1 * r0) * scale
        s1 = (h1 * k01 * r0 - b0 * r1) * scale
        c0, c1 = k00 * s0 + k01 * s1, k01 * s0 + k11 * s1
        n0, n1 = bend(y0, g0, D0, c0), bend(y1, g1, D1, c1)
        decrement = where_less(zero, moving, s0 * c0 + s1 * c1 + h0 * c0 * c0 + h1 * c1 * c1, decrement)
        safe = eight(SAFE_CHANGE)
        well = where_at_most(size(c0), safe, where_at_most(size(c1), safe, well, zero), zero)
        steps = steps + moving
        # Chebyshev's step: what the slopes' bend leaves of the residual, solved with the same matrix.
        r0, r1 = w0 * n0, w1 * n1
        s0 = s0 + (h0 * k01 * r1 - b1 * r0) * scale
        s1 = s1 + (h1 * k01 * r0 - b0 * r1) * scale
        c0, c1 = k00 * s0 + k01 * s1, k01 * s0 + k11 * s1
        a0, a1, e0, e1 = a0 + s0, a1 + s1, e0 + c0, e1 + c1
        g0, D0, t0 = slopes(y0, e0)
        g1, D1, t1 = slopes(y1, e1)
        moving = where_less(eight(TOLERANCE), decrement, moving * well, zero)
        if not any_positive(moving):
            break
    finish(p, (w0, w1), (a0, a1), (w0 * D0, w1 * D1), (k00, k01, k11))
    losses = w0 * loss_of(y0, e0, t0) + w1 * loss_of(y1, e1, t1)
    penalty = half * (a0 * (k00 * a0 + k01 * a1) + a1 * (k01 * a0 + k11 * a1))
    put_eight(p, EVIDENCE, take_eight(p, EVIDENCE) - losses - penalty)
    put_eight(p, DECREMENT, decrement)
    put_eight(p, STEPS, steps)
    # A decrement or a factor that is not finite fails its comparison.
    fine = where_at_most(decrement, eight(TOLERANCE), well, zero)
    put_eight(p, SOLVED, where_less(zero, take_eight(p, SOLVED), fine, zero))


@njit(**INLINE)
def finish(p: Any, w: Any, a: Any, h: Any, K: Any) -> None:
    """Solutions, the factors of `_pair_mode.split`, −½ log |B|, and whether B is positive definite and finite."""
    zero, one = eight(0.0), eight(1.0)
    pivot = one + h[0] * K[0]
    i0 = one / root(pivot)
    root0, root1 = root(h[0]), root(h[1])
    l1 = root0 * root1 * K[1] * i0
    rest = one + h[1] * K[2] - l1 * l1
    i2 = one / root(rest)
    put_eight(p, A0, a[0])
    put_eight(p, A1, a[1])
    put_eight(p, F0, root0 * i0)
    put_eight(p, F1, zero - l1 * i2)
    put_eight(p, F2, root1 * i2)
    determinant = pivot * rest
    put_eight(p, EVIDENCE, eight(-0.5) * log(determinant))
    most = eight(1e300)
    low = where_less(zero, pivot, where_less(zero, rest, one, zero), zero)
    put_eight(p, SOLVED, where_less(determinant, most, low, zero))

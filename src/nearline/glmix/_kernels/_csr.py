"""One coefficient vector over sparse rows, compiled: loss, gradient and curvature in one pass, products with H.

For the fixed effect, whose rows and dimensions may both be a million. A row's dot product and the scatter of what it
adds share one reading of its entries. Twins in NumPy: `tests/glmix/test_csr.py`.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from nearline.glmix._kernels._linalg import LEAF
from nearline.glmix._kernels._scalar import LOGIT, derivatives, loss


@njit(**LEAF)
def evaluate(
    link: int, indptr: Any, indices: Any, values: Any, label: Any, weight: Any, offset: Any, theta: Any, sums: Any,
    margin: Any, curvature: Any,
) -> float:  # fmt: skip
    """Σ w ℓ(y, o + Xθ); adds Xᵀ(w∘g) and Σ_n w D x_nj² to the columns of `sums` (d, 2); sets margin (n) and w∘D (n).

    A dimension that a row repeats counts apart in the second column, which is for scaling only; see `squares`.
    """
    total = 0.0
    for i in range(label.shape[0]):
        start, stop = indptr[i], indptr[i + 1]
        eta = offset[i]
        for q in range(start, stop):
            eta += values[q] * theta[indices[q]]
        margin[i] = eta
        curvature[i] = 0.0
        if weight[i] == 0.0:
            continue
        total += weight[i] * loss(link, label[i], eta)
        g, D = derivatives(link, label[i], eta)
        g *= weight[i]
        D *= weight[i]
        curvature[i] = D
        for q in range(start, stop):
            x = values[q]
            sums[indices[q], 0] += g * x
            sums[indices[q], 1] += D * x * x
    return total


@njit(**LEAF)
def curved(indptr: Any, indices: Any, values: Any, curvature: Any, v: Any, out: Any) -> None:
    """Add Xᵀ (w D ∘ X v) to `out` (d)."""
    for i in range(curvature.shape[0]):
        if curvature[i] == 0.0:
            continue
        start, stop = indptr[i], indptr[i + 1]
        total = 0.0
        for q in range(start, stop):
            total += values[q] * v[indices[q]]
        total *= curvature[i]
        for q in range(start, stop):
            out[indices[q]] += total * values[q]


@njit(**LEAF)
def squares(indptr: Any, indices: Any, values: Any, curvature: Any, row: Any, out: Any) -> None:
    """Add the diagonal of Xᵀ diag(w D) X to `out` (d), what a row repeats summed; `row` (d) is zero, and zero after."""
    for i in range(curvature.shape[0]):
        start, stop = indptr[i], indptr[i + 1]
        for q in range(start, stop):
            row[indices[q]] += values[q]
        for q in range(start, stop):
            j = indices[q]
            out[j] += curvature[i] * row[j] * row[j]
            row[j] = 0.0


@njit(**LEAF)
def gram(indptr: Any, indices: Any, values: Any, curvature: Any, out: Any) -> None:
    """Add Xᵀ diag(w D) X to `out` (d, d), both triangles."""
    d = out.shape[0]
    for i in range(curvature.shape[0]):
        start, stop = indptr[i], indptr[i + 1]
        for q in range(start, stop):
            f = curvature[i] * values[q]
            # The lower triangle, wherever a row's dimensions stand; of one that it repeats, both orders.
            out[indices[q], indices[q]] += f * values[q]
            for p in range(start, q):
                j, k = indices[q], indices[p]
                out[max(j, k), min(j, k)] += f * values[p]
                if j == k:
                    out[j, k] += f * values[p]
    for j in range(d):
        for k in range(j):
            out[k, j] = out[j, k]


@njit(**LEAF)
def row_terms(indptr: Any, indices: Any, values: Any, codes: Any, means: Any, out: Any) -> None:
    """Set out_n = z_nᵀ μ_{codes[n]} (n); a negative code counts from the end, as in NumPy."""
    for i in range(codes.shape[0]):
        mean = means[codes[i]]
        total = 0.0
        for q in range(indptr[i], indptr[i + 1]):
            total += values[q] * mean[indices[q]]
        out[i] = total


@njit(**LEAF)
def select(indptr: Any, indices: Any, values: Any, local: Any, ends: Any, places: Any, kept: Any) -> int:
    """Entries whose slot has a local dimension: row ends (n + 1), dimensions and values; how many there are."""
    total = 0
    for i in range(indptr.shape[0] - 1):
        ends[i] = total
        for q in range(indptr[i], indptr[i + 1]):
            j = local[indices[q]]
            if j >= 0:
                places[total] = j
                kept[total] = values[q]
                total += 1
    ends[indptr.shape[0] - 1] = total
    return total


@njit(**LEAF)
def gather(indptr: Any, indices: Any, values: Any, order: Any, ends: Any, places: Any, kept: Any) -> int:
    """Entries other than 0 of the rows `order`, as `select` gives them."""
    total = 0
    for r in range(order.shape[0]):
        ends[r] = total
        for q in range(indptr[order[r]], indptr[order[r] + 1]):
            if values[q] != 0.0:
                places[total] = indices[q]
                kept[total] = values[q]
                total += 1
    ends[order.shape[0]] = total
    return total


@njit(**LEAF)
def total_loss(link: int, label: Any, margin: Any, weight: Any) -> float:
    """Σ_n w_n ℓ(y_n, η_n), with one logarithm for as many plain logistic rows as a double holds."""
    total = 0.0
    product = 1.0
    for i in range(label.shape[0]):
        w, y, eta = weight[i], label[i], margin[i]
        if link == LOGIT and w == 1.0:
            total += (1.0 - y) * eta if eta >= 0.0 else -y * eta
            product *= 1.0 + math.exp(-abs(eta))
            if product > 1e290:
                total += math.log(product)
                product = 1.0
        elif w != 0.0:
            total += w * loss(link, y, eta)
    return total + math.log(product)


@njit(**LEAF)
def slopes_along(
    link: int, label: Any, margin: Any, changes: Any, weight: Any, t: Any, first: Any, second: Any
) -> None:
    """Gradient (2) and Hessian (2, 2) in t (2) of Σ_n w_n ℓ(y_n, η_n + t_0 Δ_0n + t_1 Δ_1n)."""
    g0 = g1 = h00 = h01 = h11 = 0.0
    for i in range(label.shape[0]):
        if weight[i] != 0.0:
            a, b = changes[0, i], changes[1, i]
            g, D = derivatives(link, label[i], margin[i] + t[0] * a + t[1] * b)
            g *= weight[i]
            D *= weight[i]
            g0 += g * a
            g1 += g * b
            h00 += D * a * a
            h01 += D * a * b
            h11 += D * b * b
    first[0], first[1] = g0, g1
    second[0, 0], second[0, 1], second[1, 0], second[1, 1] = h00, h01, h01, h11


@njit(**LEAF)
def correlated(
    indptr: Any, indices: Any, values: Any, ptr: Any, order: Any, label: Any, weight: Any, most: Any, always: int,
    sums: Any, touched: Any, kept: Any,
) -> None:  # fmt: skip
    """Clear kept (nnz) where entity e has coefficients on more than most[e] features beside dimension `always`.

    Those of the largest |Pearson correlation| with the label stay, of equal ones the first seen. `sums` (d, 4) is
    zero, and zero after: Σ w x, Σ w x², Σ w x y, and the feature's score.
    """
    for e in range(ptr.shape[0] - 1):
        n = Sy = Syy = 0.0
        t = 0
        for k in range(ptr[e], ptr[e + 1]):
            i = order[k]
            w, y = weight[i], label[i]
            n += w
            Sy += w * y
            Syy += w * y * y
            for q in range(indptr[i], indptr[i + 1]):
                j, x = indices[q], values[q]
                if j == always or x == 0.0:
                    continue
                if sums[j, 3] == 0.0:
                    sums[j, 3] = 1.0
                    touched[t] = j
                    t += 1
                sums[j, 0] += w * x
                sums[j, 1] += w * x * x
                sums[j, 2] += w * x * y
        for k in range(t):
            j = touched[k]
            across = (sums[j, 2] - sums[j, 0] * Sy / n) ** 2
            spread = (sums[j, 1] - sums[j, 0] ** 2 / n) * (Syy - Sy**2 / n)
            sums[j, 3] = across / spread if spread > 1e-12 * sums[j, 1] * Syy else 0.0
        for k in range(t):
            ahead = 0
            for c in range(t):
                better, worse = sums[touched[c], 3], sums[touched[k], 3]
                ahead += better > worse or (better == worse and c < k)
            # A feature's turn is kept where its sums were: column 0 says whether it stays.
            sums[touched[k], 0] = 1.0 if ahead < most[e] else 0.0
        for k in range(ptr[e], ptr[e + 1]):
            i = order[k]
            for q in range(indptr[i], indptr[i + 1]):
                kept[q] = indices[q] == always or sums[indices[q], 0] > 0.0
        for k in range(t):
            for c in range(4):
                sums[touched[k], c] = 0.0

"""What an update of one or two rows does to a packed covariance, compiled: two products, and a rank-2 downdate.

Both read the triangle four rows at a time, each row as a row and as a column. Rows lie one behind the other at any
alignment, so what ends a row is fetched with the four numbers before it, or filled in by symmetry.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from nearline.glmix._kernels._lanes import (
    INLINE,
    INNER,
    LINE,
    diagonal_of,
    fma,
    fused,
    mirrored,
    pack,
    prefetch,
    put,
    spread,
    take,
    take_first,
    totals,
)


@njit(**INLINE)
def fetch_lines(start: int, size: int) -> None:
    """Start loading the bytes start … start + size − 1."""
    for at in range(start & -LINE, start + size, LINE):
        prefetch(at)


@njit(**INLINE)
def add_block(cov: Any, j: int, b: Any, r: Any, x: Any, y: Any, v: Any, u: Any, diagonal: Any) -> None:
    """What four rows j … j + 3 of S, at `b`, add to v = S x and u = S y; `r` is what they hold from column j."""
    b0, b1, b2, b3 = b
    r0, r1, r2, r3 = r
    f0, f1, f2, f3 = spread(x[j]), spread(x[j + 1]), spread(x[j + 2]), spread(x[j + 3])
    g0, g1, g2, g3 = spread(y[j]), spread(y[j + 1]), spread(y[j + 2]), spread(y[j + 3])
    p0 = p1 = p2 = p3 = q0 = q1 = q2 = q3 = spread(0.0)
    for k in range(0, j, 4):
        xk, yk = take(x, k), take(y, k)
        c0, c1, c2, c3 = take(cov, b0 + k), take(cov, b1 + k), take(cov, b2 + k), take(cov, b3 + k)
        p0, p1, p2, p3 = fma(c0, xk, p0), fma(c1, xk, p1), fma(c2, xk, p2), fma(c3, xk, p3)
        q0, q1, q2, q3 = fma(c0, yk, q0), fma(c1, yk, q1), fma(c2, yk, q2), fma(c3, yk, q3)
        # What is there comes last, so that these four rows need not wait for the four before.
        put(v, k, fma(c0, f0, fma(c1, f1, fma(c2, f2, fma(c3, f3, take(v, k))))))
        put(u, k, fma(c0, g0, fma(c1, g1, fma(c2, g2, fma(c3, g3, take(u, k))))))
    # What lies beyond a row's diagonal is the next row's beginning: symmetry fills it in.
    s0, s1, s2 = mirrored(r0, r1, r2, r3, 0), mirrored(r0, r1, r2, r3, 1), mirrored(r0, r1, r2, r3, 2)
    put(v, j, fma(s0, f0, fma(s1, f1, fma(s2, f2, fma(r3, f3, totals(p0, p1, p2, p3))))))
    put(u, j, fma(s0, g0, fma(s1, g1, fma(s2, g2, fma(r3, g3, totals(q0, q1, q2, q3))))))
    put(diagonal, j, diagonal_of(r0, r1, r2, r3))


@njit(**INNER)
def times_two(cov: Any, d: int, ahead: int, width: int, x: Any, y: Any, v: Any, u: Any, diagonal: Any) -> None:
    """Products v ← S x and u ← S y and the diagonal of S, four rows at a time; all vectors to the next four places.

    On the way, the covariance `ahead` of numbers of `width` bytes starts loading: all at once would fill every buffer.
    """
    whole, b0 = d - d % 4, 0
    for j in range(0, whole, 4):
        fetch_lines(ahead + width * b0, width * (4 * j + 10))
        b1, b2, b3 = b0 + j + 1, b0 + 2 * j + 3, b0 + 3 * j + 6
        r = take(cov, b0 + j), take(cov, b1 + j), take(cov, b2 + j), take(cov, b3 + j)
        add_block(cov, j, (b0, b1, b2, b3), r, x, y, v, u, diagonal)
        b0 = b3 + j + 4
    if whole == d:
        return
    # A last block of fewer rows: its missing ones are read where its last one is, against zeros in x and y.
    fetch_lines(ahead + width * b0, width * (d * (d + 1) // 2 - b0))
    last = d * (d - 1) // 2
    b1, b2 = min(b0 + whole + 1, last), min(b0 + 2 * whole + 3, last)
    r0, r1 = take_first(cov, b0 + whole, 1), take_first(cov, b1 + whole, min(d - whole, 2))
    r2, none = take_first(cov, b2 + whole, d - whole), spread(0.0)
    add_block(cov, whole, (b0, b1, b2, last), (r0, r1, r2, none), x, y, v, u, diagonal)
    one, zero = spread(1.0), spread(0.0)
    kept = pack(1.0, 1.0 * min(d - whole - 1, 1), 1.0 * max(d - whole - 2, 0), 0.0)
    put(v, whole, fma(take(v, whole), kept, zero))
    put(u, whole, fma(take(u, whole), kept, zero))
    put(diagonal, whole, fma(spread(-1.0), kept, fma(one, one, take(diagonal, whole))))


@njit(**INLINE)
def reduced(cov: Any, at: int, f: Any, g: Any, mk: Any, nk: Any) -> Any:
    """Four numbers of a row of S − m mᵀ − n nᵀ, with f and g minus the row's own m and n."""
    return fma(f, mk, fma(g, nk, take(cov, at)))


@njit(**INNER)
def downdate_two(cov: Any, d: int, m: Any, n: Any) -> None:
    """Downdate in place, S ← S − m mᵀ − n nᵀ, four rows at a time."""
    for j in range(min(d, 4)):
        downdate_row(cov, j * (j + 1) // 2, j, m, n)
    whole, b0 = d - d % 4, 10
    for j in range(4, whole, 4):
        b1, b2, b3 = b0 + j + 1, b0 + 2 * j + 3, b0 + 3 * j + 6
        f0, f1, f2, f3 = spread(-m[j]), spread(-m[j + 1]), spread(-m[j + 2]), spread(-m[j + 3])
        g0, g1, g2, g3 = spread(-n[j]), spread(-n[j + 1]), spread(-n[j + 2]), spread(-n[j + 3])
        # Each row's last four, taken before the loop writes some of them: the same numbers twice.
        e0 = reduced(cov, b0 + j - 3, f0, g0, take(m, j - 3), take(n, j - 3))
        e1 = reduced(cov, b1 + j - 2, f1, g1, take(m, j - 2), take(n, j - 2))
        e2 = reduced(cov, b2 + j - 1, f2, g2, take(m, j - 1), take(n, j - 1))
        e3 = reduced(cov, b3 + j, f3, g3, take(m, j), take(n, j))
        for k in range(0, j, 4):
            mk, nk = take(m, k), take(n, k)
            put(cov, b0 + k, reduced(cov, b0 + k, f0, g0, mk, nk))
            put(cov, b1 + k, reduced(cov, b1 + k, f1, g1, mk, nk))
            put(cov, b2 + k, reduced(cov, b2 + k, f2, g2, mk, nk))
            put(cov, b3 + k, reduced(cov, b3 + k, f3, g3, mk, nk))
        put(cov, b0 + j - 3, e0)
        put(cov, b1 + j - 2, e1)
        put(cov, b2 + j - 1, e2)
        put(cov, b3 + j, e3)
        b0 = b3 + j + 4
    for j in range(max(whole, 4), d):
        f, g, left = spread(-m[j]), spread(-n[j]), j - 3
        e = reduced(cov, b0 + left, f, g, take(m, left), take(n, left))
        for k in range(0, whole, 4):
            put(cov, b0 + k, reduced(cov, b0 + k, f, g, take(m, k), take(n, k)))
        put(cov, b0 + left, e)
        b0 += j + 1


@njit(**INLINE)
def downdate_row(cov: Any, at: int, j: int, m: Any, n: Any) -> None:
    """One short row of S − m mᵀ − n nᵀ."""
    for k in range(j + 1):
        cov[at + k] = fused(-m[j], m[k], fused(-n[j], n[k], cov[at + k]))

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
def along_rows(c: Any, xk: Any, p: Any) -> Any:
    """Four sums p plus what four rows c hold beside xk."""
    return fma(c[0], xk, p[0]), fma(c[1], xk, p[1]), fma(c[2], xk, p[2]), fma(c[3], xk, p[3])


@njit(**INLINE)
def down_columns(c: Any, f: Any, vk: Any) -> Any:
    """The sums vk and four rows c by their factors f: vk comes last, so that these rows need not wait for it."""
    return fma(c[0], f[0], fma(c[1], f[1], fma(c[2], f[2], fma(c[3], f[3], vk))))


@njit(**INLINE)
def four_rows(cov: Any, b: Any, k: Any) -> Any:
    """Columns k … k + 3 of the four rows at b."""
    return take(cov, b[0] + k), take(cov, b[1] + k), take(cov, b[2] + k), take(cov, b[3] + k)


@njit(**INLINE)
def factors(x: Any, j: int) -> Any:
    """The numbers x_j … x_j+3, each in four lanes."""
    return spread(x[j]), spread(x[j + 1]), spread(x[j + 2]), spread(x[j + 3])


@njit(**INLINE)
def at_diagonal(r: Any, f: Any, p: Any) -> Any:
    """A product's four numbers beside the 4 × 4 block r on the diagonal: its factors f, the sums p before it."""
    r0, r1, r2, r3 = r
    # What lies beyond a row's diagonal is the next row's beginning: symmetry fills it in.
    s0, s1, s2 = mirrored(r0, r1, r2, r3, 0), mirrored(r0, r1, r2, r3, 1), mirrored(r0, r1, r2, r3, 2)
    return down_columns((s0, s1, s2, r3), f, totals(p[0], p[1], p[2], p[3]))


@njit(**INLINE)
def add_block(cov: Any, j: int, b: Any, r: Any, x: Any, y: Any, v: Any, u: Any, diagonal: Any) -> None:
    """What four rows j … j + 3 of S, at `b`, add to v = S x and u = S y; `r` is what they hold from column j."""
    f, g, zero = factors(x, j), factors(y, j), spread(0.0)
    p = q = (zero, zero, zero, zero)
    for k in range(0, j, 4):
        c = four_rows(cov, b, k)
        p, q = along_rows(c, take(x, k), p), along_rows(c, take(y, k), q)
        put(v, k, down_columns(c, f, take(v, k)))
        put(u, k, down_columns(c, g, take(u, k)))
    put(v, j, at_diagonal(r, f, p))
    put(u, j, at_diagonal(r, g, q))
    put(diagonal, j, diagonal_of(r[0], r[1], r[2], r[3]))


@njit(**INLINE)
def add_two_blocks(
    cov: Any, j: int, b: Any, lower: Any, r: Any, s: Any, x: Any, y: Any, v: Any, u: Any, diagonal: Any
) -> None:  # fmt: skip
    """`add_block` of the rows at `b` and of the next four, at `lower`, to the bit: v and u are moved once for both."""
    i, zero = j + 4, spread(0.0)
    f, g, h, e = factors(x, j), factors(y, j), factors(x, i), factors(y, i)
    p = q = t = w = (zero, zero, zero, zero)
    for k in range(0, j, 4):
        xk, yk = take(x, k), take(y, k)
        c = four_rows(cov, b, k)
        p, q = along_rows(c, xk, p), along_rows(c, yk, q)
        vk, uk = down_columns(c, f, take(v, k)), down_columns(c, g, take(u, k))
        c = four_rows(cov, lower, k)
        t, w = along_rows(c, xk, t), along_rows(c, yk, w)
        put(v, k, down_columns(c, h, vk))
        put(u, k, down_columns(c, e, uk))
    c = four_rows(cov, lower, j)
    t, w = along_rows(c, take(x, j), t), along_rows(c, take(y, j), w)
    put(v, j, down_columns(c, h, at_diagonal(r, f, p)))
    put(u, j, down_columns(c, e, at_diagonal(r, g, q)))
    put(v, i, at_diagonal(s, h, t))
    put(u, i, at_diagonal(s, e, w))
    put(diagonal, j, diagonal_of(r[0], r[1], r[2], r[3]))
    put(diagonal, i, diagonal_of(s[0], s[1], s[2], s[3]))


@njit(**INLINE)
def rows_from(b: int, j: int) -> Any:
    """Where rows j … j + 3 begin, the first at b."""
    return b, b + j + 1, b + 2 * j + 3, b + 3 * j + 6


@njit(**INNER)
def times_two(cov: Any, d: int, ahead: int, width: int, x: Any, y: Any, v: Any, u: Any, diagonal: Any) -> None:
    """Products v ← S x and u ← S y and the diagonal of S, four rows at a time; all vectors to the next four places.

    On the way, the covariance `ahead` of numbers of `width` bytes starts loading: all at once would fill every buffer.
    """
    whole, paired, b0 = d - d % 4, d - d % 8, 0
    for j in range(0, paired, 8):
        fetch_lines(ahead + width * b0, width * (8 * j + 36))
        b, lower, b0 = rows_from(b0, j), rows_from(b0 + 4 * j + 10, j + 4), b0 + 8 * j + 36
        add_two_blocks(cov, j, b, lower, four_rows(cov, b, j), four_rows(cov, lower, j + 4), x, y, v, u, diagonal)
    for j in range(paired, whole, 4):
        fetch_lines(ahead + width * b0, width * (4 * j + 10))
        b, b0 = rows_from(b0, j), b0 + 4 * j + 10
        add_block(cov, j, b, four_rows(cov, b, j), x, y, v, u, diagonal)
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

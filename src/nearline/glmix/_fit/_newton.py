"""The mode of one large sparse block: truncated Newton on the face that L1 and bounds leave free.

    F(u) = f(u) + Σ_j λ_j |u_j|,    low ≤ u ≤ high,    f(u) = Σ_n w_n ℓ(y_n, x_nᵀb + o_n) + ½ (b − m)ᵀ P (b − m)

with b = b(u) as `nearline.glmix._fit._scale` maps it. Each step takes the orthant of u (or, at 0, of minus the
pseudo-gradient) as a further box, in which F is smooth; coordinates that the gradient presses against the box take a
step scaled by the diagonal, the others a Newton step by conjugate gradients on products H v, preconditioned by the
diagonal; the sum is projected on the box and halved until it meets Armijo's condition (Bertsekas 1982, two-metric
projection; Andrew and Gao 2007, orthants). Without L1 and bounds this is the Newton-CG of LIBLINEAR (Hsia et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline.glmix._block import LocalDesign
from nearline.glmix._fit._scale import Scale
from nearline.glmix._links import Link
from nearline.glmix._solve import (
    ARMIJO,
    CONVERGED,
    MAX_HALVINGS,
    NON_FINITE,
    NOT_CONVERGED,
    SAFE_CHANGE,
)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Product = Callable[[Floats], Floats]

MAX_STEPS = 200
MAX_PRODUCTS = 500
DENSE, SHORT = 1_000, 40  # coefficients, and entries of a row, up to which H is formed
LOOSEST = 0.1  # conjugate gradients stop at this share of the gradient
NEAR = 1e-3  # of a posterior standard deviation: a coordinate so near its bound counts as lying there
ROUNDING = 1e-14  # of F: differences below it say nothing


def dense(d: int, entries: int, rows: int) -> bool:
    """Whether all of H costs less than the products with it that a step takes.

    Examples
    --------
    >>> dense(d=50, entries=7_000, rows=1_000), dense(d=100_000, entries=7_000, rows=1_000)
    (True, False)
    """
    return d <= DENSE and entries <= SHORT * max(1, rows)


@dataclass(frozen=True, slots=True)
class Problem:
    """One block's rows and everything that holds its coefficients back; `precision` P is (d, d), or its diagonal (d).

    `l1`, `low` and `high` (d) belong to the raw coefficients b.
    """

    design: LocalDesign
    label: Floats
    weight: Floats
    offset: Floats
    link: Link
    mean: Floats
    precision: Floats
    l1: Floats
    low: Floats
    high: Floats

    @property
    def d(self) -> int:
        """Coefficients."""
        return len(self.mean)

    def pulled(self, v: Floats) -> Floats:
        """Product P v."""
        return self.precision * v if self.precision.ndim == 1 else self.precision @ v

    @property
    def dense(self) -> bool:
        """Whether all of H costs less than the products with it that a step takes."""
        return dense(self.d, len(self.design.indices), len(self.label))

    def hessian(self, curvature: Floats) -> Floats:
        """H = P + Xᵀ diag(curvature) X (d, d)."""
        from nearline.glmix._kernels._csr import gram

        H = np.diag(self.precision) if self.precision.ndim == 1 else self.precision.copy()
        gram(self.design.indptr, self.design.indices, self.design.values, curvature, H)
        return H

    def product(self, curvature: Floats) -> Product:
        """The map v ↦ H v, for vectors (d)."""
        if self.dense:
            return self.hessian(curvature).__matmul__
        from nearline.glmix._kernels._csr import curved

        def product(v: Floats) -> Floats:
            out = self.pulled(v)
            curved(self.design.indptr, self.design.indices, self.design.values, curvature, v, out)
            return out

        return product


@dataclass(frozen=True, slots=True)
class Point:
    """What is known at coefficients b: f = loss + penalty and its gradient (d), diag(H) (d), margins and w∘D (n)."""

    b: Floats
    loss: float
    penalty: float
    gradient: Floats
    diagonal: Floats
    margin: Floats
    curvature: Floats

    @property
    def f(self) -> float:
        """The smooth part of the objective."""
        return self.loss + self.penalty


@dataclass(frozen=True, slots=True)
class Mode:
    """Where a solve ended and how: see `nearline.glmix._solve.Solution`; `gradient_norm` is where it began."""

    point: Point
    status: str
    steps: int
    decrement: float
    gradient_norm: float


def point(problem: Problem, b: Floats) -> Point:
    """Evaluate the smooth part at raw coefficients b, in one pass over the rows."""
    from nearline.glmix._kernels._csr import evaluate

    sums, margin, curvature = np.zeros((problem.d, 2)), np.empty(len(problem.label)), np.empty(len(problem.label))
    design = problem.design
    loss = evaluate(
        problem.link.code, design.indptr, design.indices, design.values, problem.label, problem.weight,
        problem.offset, b, sums, margin, curvature,
    )  # fmt: skip
    pull = problem.pulled(b - problem.mean)
    own = problem.precision if problem.precision.ndim == 1 else np.diagonal(problem.precision)
    penalty = 0.5 * float(pull @ (b - problem.mean))
    return Point(b, loss, penalty, sums[:, 0] + pull, sums[:, 1] + own, margin, curvature)


@dataclass(frozen=True, slots=True)
class _Face:
    """The box of one step, the pseudo-gradient in it, and which coordinates are free to take a Newton step."""

    low: Floats
    high: Floats
    gradient: Floats
    free: Flags

    @classmethod
    def at(cls, u: Floats, gradient: Floats, diagonal: Floats, l1: Floats, low: Floats, high: Floats) -> _Face:
        side = np.sign(u)
        pseudo = gradient + side * l1
        if l1.any():
            at_zero = (u == 0.0) & (l1 > 0.0)
            pseudo[at_zero] = (np.sign(gradient) * np.maximum(np.abs(gradient) - l1, 0.0))[at_zero]
            side[at_zero] = -np.sign(pseudo[at_zero])
            low = np.where((l1 > 0.0) & (side >= 0.0), np.maximum(low, 0.0), low)
            high = np.where((l1 > 0.0) & (side <= 0.0), np.minimum(high, 0.0), high)
        moved = np.clip(u - pseudo / diagonal, low, high) - u
        near = min(NEAR, float(np.sqrt(moved**2 @ diagonal))) / np.sqrt(diagonal)
        pressed = ((u - low <= near) & (pseudo > 0.0)) | ((high - u <= near) & (pseudo < 0.0)) | (low >= high)
        return cls(low, high, pseudo, ~pressed)


def minimise(problem: Problem, start: Floats, scale: Scale, tolerance: float) -> Mode:
    """The mode, from raw coefficients `start` (d).

    Examples
    --------
    >>> from nearline.glmix._links import by_name
    >>> one, X = np.ones(2), LocalDesign(np.array([0, 1, 2]), np.zeros(2, np.int32), np.ones(2))
    >>> problem = Problem(X, np.array([3.0, 0.0]), one, 0 * one, by_name("identity"), np.zeros(1), np.ones(1),
    ...                   np.full(1, 1.5), np.full(1, -np.inf), np.full(1, np.inf))
    >>> minimise(problem, np.zeros(1), Scale.none(1), 1e-12).point.b.tolist()
    [0.5]
    """
    limits = problem.l1 / scale.scale, problem.low * scale.scale, problem.high * scale.scale
    u = np.clip(scale.scaled(np.clip(start, problem.low, problem.high)), *limits[1:])
    here, decrement = point(problem, scale.raw(u)), np.inf
    if not (np.isfinite(here.f) and np.isfinite(here.gradient).all() and (problem.weight >= 0.0).all()):
        return Mode(here, NON_FINITE, 0, decrement, np.nan)
    norm = np.nan
    # An exact step squares the distance that is left.
    enough = np.sqrt(min(tolerance, 1.0)) if problem.dense else tolerance
    for step in range(1, MAX_STEPS + 1):
        product = problem.product(here.curvature)
        face, diagonal = _face(here, u, scale, limits, product)
        norm = float(np.linalg.norm(face.gradient[face.free])) if step == 1 else norm
        direction = _direction(product, scale, face, diagonal, 1e-9 if problem.dense else LOOSEST)
        full = np.where(face.free, direction, np.clip(u + direction, face.low, face.high) - u)
        decrement = float(-face.gradient @ full)
        if not np.isfinite(decrement):
            return Mode(here, NON_FINITE, step, decrement, norm)
        found = _search(problem, here, u, direction, scale, face, limits[0])
        if found is None:
            return Mode(here, NOT_CONVERGED, step, decrement, norm)
        u, here = found
        if decrement <= enough:
            return Mode(here, CONVERGED, step, decrement, norm)
    return Mode(here, NOT_CONVERGED, MAX_STEPS, decrement, norm)


def _face(
    here: Point, u: Floats, scale: Scale, limits: tuple[Floats, Floats, Floats], product: Product
) -> tuple[_Face, Floats]:
    """The face at u, and diag(H) in its scale."""
    column = np.empty(0)
    if scale.shifted:
        unit = np.zeros(len(u))
        unit[0] = 1.0
        column = product(unit)
    diagonal = np.maximum(scale.curvature(here.diagonal, column), 1e-300)
    return _Face.at(u, scale.pulled(here.gradient), diagonal, *limits), diagonal


def _direction(product: Product, scale: Scale, face: _Face, diagonal: Floats, loosest: float) -> Floats:
    """Newton's step on the free coordinates, a scaled gradient step on the others."""
    step = -face.gradient / diagonal
    size = float(np.sqrt((step[face.free] ** 2 * diagonal[face.free]).sum()))
    step[face.free] = 0.0

    def scaled(v: Floats) -> Floats:
        return np.where(face.free, scale.pulled(product(scale.raw(v))), 0.0)

    # The nearer the mode, in its own standard deviations, the closer: the last steps double the digits.
    right = np.where(face.free, -face.gradient, 0.0)
    return step + conjugate_gradients(scaled, right, diagonal, min(loosest, size))


def conjugate_gradients(product: Product, r: Floats, diagonal: Floats, share: float) -> Floats:
    """Solve H x = r to `share` of r's size in the norm of the preconditioner diag(`diagonal`)⁻¹.

    Examples
    --------
    >>> H = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> conjugate_gradients(H.__matmul__, np.array([3.0, 4.0]), np.diagonal(H), 1e-12).round(12).tolist()
    [1.0, 1.0]
    """
    x, r = np.zeros(len(r)), r.copy()
    z = r / diagonal
    p, size = z, float(r @ z)
    enough = share**2 * size
    for _ in range(min(len(r) + 5, MAX_PRODUCTS)):
        if size <= enough or size == 0.0:
            break
        Hp = product(p)
        t = size / float(p @ Hp)
        x = x + t * p
        r -= t * Hp
        z = r / diagonal
        before, size = size, float(r @ z)
        p = z + (size / before) * p
    return x


def _search(
    problem: Problem, here: Point, u: Floats, direction: Floats, scale: Scale, face: _Face, l1: Floats
) -> tuple[Floats, Point] | None:
    """The projected point of the longest step 1, ½, ¼ … that meets Armijo's condition, or None."""
    before = here.f + float(l1 @ np.abs(u))
    t = 1.0
    for _ in range(MAX_HALVINGS + 1):
        ahead = np.clip(u + t * direction, face.low, face.high)
        there = point(problem, scale.raw(ahead))
        whole = t == 1.0 and bool((ahead == u + direction).all())
        if whole and _safe(problem.link, here, there):
            return ahead, there
        after = there.f + float(l1 @ np.abs(ahead))
        if after <= before + ARMIJO * float(face.gradient @ (ahead - u)) + ROUNDING * abs(before):
            return ahead, there
        t *= 0.5
    return None


def _safe(link: Link, here: Point, there: Point) -> bool:
    """Whether a full Newton step is sure to descend (`nearline.glmix._solve.SAFE_CHANGE`)."""
    if not np.isfinite(there.f):
        return False
    return link.c3 == 0.0 or float(np.abs(there.margin - here.margin).max(initial=0.0)) <= SAFE_CHANGE

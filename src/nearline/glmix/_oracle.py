"""Event mode in plain NumPy, one row at a time, with dense covariances: what the compiled kernels are tested against.

Slow and written to be read. Everything is in its textbook form: the design x_b of each block as a vector, S_b as a
matrix, the new margin by bisection to the last bit.

    η = z − s w g(η),    a = −w g(η),    c = w D(η) / (1 + w D(η) s)
    μ_b += a S_b x_b,    S_b −= c (S_b x_b)(S_b x_b)ᵀ
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nearline.glmix._codes import DIAGONAL, FULL, NEVER, PER_UPDATE, REVERTING, STABILISED
from nearline.glmix._fold import ornstein_uhlenbeck, stabilised, stabilised_diagonal
from nearline.glmix._links import Link

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass
class Twin:
    """One block: its prior, how it forgets, and the posterior of each of its entities.

    Attributes
    ----------
    slots
        The design slot of each dimension (d); empty for loadings.
    mu0, V0
        Prior mean (d) and covariance (d, d).
    of
        The number of the block that a loadings block loads on, or −1.
    rate
        Half-life in seconds, or the constant δ of `PER_UPDATE`.
    walk_event, walk_second
        Random-walk variance per event and per second (d).
    """

    slots: Ints
    mu0: Floats
    V0: Floats
    entities: int
    of: int = -1
    kind: int = FULL
    form: int = NEVER
    rate: float = 0.0
    walk_event: Floats = field(default_factory=lambda: np.zeros(0))
    walk_second: Floats = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        d, n = len(self.mu0), self.entities
        self.mean, self.V = np.tile(self.mu0, (n, 1)), np.tile(self.V0, (n, 1, 1))
        self.last, self.count = np.full(n, np.nan), np.zeros(n, np.int64)
        self.walk_event, self.walk_second = (w if len(w) else np.zeros(d) for w in (self.walk_event, self.walk_second))

    def at(self, entity: int, time: float, updating: bool = False) -> tuple[Floats, Floats]:
        """Mean and covariance of an entity as it has relaxed by `time`; of one never seen (−1), the prior's.

        A δ per update forgets only where an update follows.
        """
        if entity < 0:
            return self.mu0, self.V0
        mean, V, dt = self.mean[entity].copy(), self.V[entity].copy(), time - self.last[entity]
        if np.isnan(dt):
            return mean, V
        dt = max(dt, 0.0)
        if updating or self.form != PER_UPDATE:
            mean, V = self._forget(mean, V, dt)
        gained = np.minimum(self.walk_event + self.walk_second * dt, np.diag(self.V0) - np.diag(V))
        return mean, V + np.diag(np.maximum(gained, 0.0))

    def _forget(self, mean: Floats, V: Floats, dt: float) -> tuple[Floats, Floats]:
        delta = self.rate if self.form == PER_UPDATE else 2.0 ** (-dt / self.rate) if self.form != NEVER else 1.0
        if delta >= 1.0:
            return mean, V
        if self.form == REVERTING:
            return ornstein_uhlenbeck(mean, V, self.mu0, self.V0, delta)
        if self.kind == DIAGONAL:
            m, p = stabilised_diagonal(mean, 1.0 / np.diag(V), self.mu0, 1.0 / np.diag(self.V0), delta)
            return m, np.diag(1.0 / p)
        m, P = stabilised(mean, _inverse(V), self.mu0, _inverse(self.V0), delta)
        return m, _inverse(P)


@dataclass(frozen=True, slots=True)
class Event:
    """One row: features over all slots, the entity of each block, and its roles."""

    x: Floats
    entities: tuple[int, ...]
    label: float = np.nan
    weight: float = 1.0
    offset: float = 0.0
    time: float = 0.0


def predict(
    blocks: Sequence[Twin], event: Event, updating: bool = False
) -> tuple[float, float, list[Floats], list[tuple[Floats, Floats]]]:
    """(z, s, designs, relaxed posteriors) of one event; z = offset + Σ x_bᵀ μ_b + Σ β_uᵀ γ_m, s = Σ x_bᵀ S_b x_b."""
    states = [b.at(e, event.time, updating) for b, e in zip(blocks, event.entities)]
    designs = [event.x[b.slots].copy() for b in blocks]
    z = event.offset + sum(float(x @ m) for b, x, (m, _) in zip(blocks, designs, states) if b.of < 0)
    for r, b in enumerate(blocks):
        if b.of >= 0:
            z += float(states[r][0] @ states[b.of][0])
            designs[r] = states[b.of][0]
            designs[b.of] = designs[b.of] + states[r][0]
    s = sum(float(x @ V @ x) for x, (_, V) in zip(designs, states))
    return z, s, designs, states


def solve(link: Link, y: float, sw: float, z: float) -> float:
    """The root of η − z + s w g(η), by bisection.

    Examples
    --------
    >>> from nearline.glmix._links import by_name
    >>> round(solve(by_name("identity"), 1.0, 3.0, 0.0), 12)
    0.75
    """
    far = z - sw * _at(link.gradient, y, z)
    low, high = min(z, far), max(z, far)
    while low < (middle := 0.5 * (low + high)) < high:
        if middle - z + sw * _at(link.gradient, y, middle) > 0.0:
            high = middle
        else:
            low = middle
    return high


def learn(blocks: Sequence[Twin], link: Link, event: Event) -> None:
    """Learn one event: one joint update of all blocks; an entity of code −1 counts but is not stored."""
    z, s, designs, states = predict(blocks, event, updating=True)
    w = event.weight * _late(blocks, event)
    eta = solve(link, event.label, s * w, z)
    g, D = _at(link.gradient, event.label, eta), _at(link.curvature, event.label, eta)
    c = w * D / (1.0 + w * D * s)
    for b, e, x, (mean, V) in zip(blocks, event.entities, designs, states):
        if e >= 0:
            b.mean[e] = mean - w * g * (V @ x)
            # A diagonal block keeps the diagonal of its precision: 1/S_jj += w D x_j².
            exact = np.diag(1.0 / (1.0 / np.diag(V) + w * D * x * x)) if b.kind == DIAGONAL else None
            b.V[e] = V - c * np.outer(V @ x, V @ x) if exact is None else exact
            b.last[e] = np.fmax(b.last[e], event.time)
            b.count[e] += 1


def _late(blocks: Sequence[Twin], event: Event) -> float:
    """Discount 2^(−s/τ) of an event older by s than its entities' last update."""
    factors = [1.0]
    for b, e in zip(blocks, event.entities):
        if b.form in (REVERTING, STABILISED) and e >= 0 and b.last[e] > event.time:
            factors.append(2.0 ** (-(b.last[e] - event.time) / b.rate))
    return min(factors)


def _at(function: Callable[[Floats, Floats], Floats], y: float, eta: float) -> float:
    return float(function(np.array([y]), np.array([eta]))[0])


def _inverse(matrix: Floats) -> Floats:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)

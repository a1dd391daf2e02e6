"""One effect's posteriors: a row of mean and covariance per entity, growing in entities and in dimensions.

Nothing is ever re-indexed: a new entity is a new row, a new feature value a new dimension at the end of every row, and
a packed lower triangle takes it without moving a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.glmix import _fold, _lowrank_rows
from nearline.glmix import _lowrank as lowrank
from nearline.glmix._arena import Arena
from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK, NEVER, PER_UPDATE, REVERTING, STABILISED
from nearline.glmix._effects import DAY, INTERCEPT, Effect, Fixed, Forgetting, Loadings, Prior, by_column, per_column
from nearline.glmix._lowrank import row_size
from nearline.glmix._packed import diagonal_indices, pack, packed_size, unpack

Array = NDArray[Any]

FORMS = {"reverting": REVERTING, "stabilised": STABILISED, "per_update": PER_UPDATE}
# Up to these many dimensions "auto" keeps a full covariance; beyond, memory and time per event grow with their square.
FULL_RANDOM, FULL_FIXED = 128, 512
# Up to so many it keeps a low-rank one, whose time per event grows with the dimensions; beyond, variances alone.
LOWRANK_MOST = 10_000
KINDS = {"full": FULL, "diagonal": DIAGONAL, "lowrank": LOWRANK, "auto": FULL}


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of a block's coefficients before its data: by column, and, once learned, jointly.

    `mean` (k) and `covariance` (k × k) are a learned joint prior of the first k dimensions; later dimensions follow
    `prior`, independently.
    """

    prior: Prior
    forgetting: Forgetting
    mean: Array | None = None
    covariance: Array | None = None

    def mu0(self, columns: Sequence[str]) -> Array:
        """Prior mean (d)."""
        out = by_column(columns, self.prior.mean_of)
        if self.mean is not None:
            out[: len(self.mean)] = self.mean[: len(out)]
        return out

    def V0(self, columns: Sequence[str]) -> Array:  # noqa: N802 - the field's own symbol
        """Prior covariance (d, d)."""
        out = np.diag(by_column(columns, self.prior.variance_of))
        if self.covariance is not None:
            k = min(len(self.covariance), len(columns))
            out[:k, :k] = self.covariance[:k, :k]
        return out

    def variance0(self, columns: Sequence[str]) -> Array:
        """Prior variances (d)."""
        out = by_column(columns, self.prior.variance_of)
        if self.covariance is not None:
            k = min(len(self.covariance), len(columns))
            out[:k] = np.diagonal(self.covariance)[:k]
        return out

    @property
    def independent(self) -> bool:
        """Whether no two coefficients are correlated."""
        V = self.covariance
        return V is None or bool((np.diag(np.diagonal(V)) == V).all())

    def walks(self, columns: Sequence[str]) -> tuple[Array, Array]:
        """Random-walk variance per event and per second (d each)."""
        event = [per_column(self.forgetting.walk_per_event, c, 0.0) for c in columns]
        day = [per_column(self.forgetting.walk_per_day, c, 0.0) for c in columns]
        return np.array(event, dtype=np.float64), np.array(day, dtype=np.float64) / DAY

    @property
    def form(self) -> int:
        """Forgetting form code of the kernels."""
        f = self.forgetting
        if f.form == "per_update":
            return PER_UPDATE if f.delta < 1 else NEVER
        return NEVER if f.half_life is None else FORMS[f.form]

    @property
    def rate(self) -> float:
        """Half-life in seconds, or δ."""
        f = self.forgetting
        return f.delta if f.form == "per_update" else f.half_life or 0.0

    def with_prior(self, prior: Prior) -> Belief:
        """The same belief under other per-column priors; the learned joint prior is dropped."""
        return replace(self, prior=prior, mean=None, covariance=None)


class Block:
    """The posteriors of one effect.

    Attributes
    ----------
    d, entities
        Dimensions and known entities; arrays may hold more rows (capacity), never more dimensions.
    mean, cov
        (capacity, d) and (capacity, cov_size) in the storage dtype; `cov` holds packed covariances, variances, or the
        rows of `nearline.glmix._lowrank`, by `kind`.
    kmax
        Columns that a low-rank row has room for; compression keeps the effect's `rank`.
    last, counts
        Time of the last update (NaN before the first) and events learned, per entity.
    slots, columns
        The design slot and the column of each dimension.
    """

    def __init__(self, effect: Effect, dtype: str) -> None:
        if effect.rank < 1 and effect.posterior in ("lowrank", "auto"):
            raise ConfigError(f"effect {effect.name!r}: rank={effect.rank!r} must be at least 1; 16 is the default")
        self.effect, self.dtype = effect, np.dtype(dtype)
        self.belief = Belief(effect.prior, effect.forgetting)
        self.d, self.entities = 0, 0
        # How much of the vocabulary this block has seen.
        self.known_slots = 0
        self.slots: list[int] = []
        self.columns: list[str] = []
        self.kind, self.kmax = KINDS[effect.posterior], _lowrank_rows.kmax_of(effect.rank)
        self._reset_arrays(16)
        self._mean_last()

    @property
    def name(self) -> str:
        """The effect's name."""
        return self.effect.name

    @property
    def cov_size(self) -> int:
        """Numbers per entity in `cov`."""
        if self.kind == LOWRANK:
            return row_size(self.d, self.kmax)
        return self.d if self.kind == DIAGONAL else packed_size(self.d)

    @property
    def mean(self) -> Array:
        """(capacity, d)."""
        return self._mean.array

    @property
    def cov(self) -> Array:
        """(capacity, cov_size)."""
        return self._cov.array

    @property
    def last(self) -> Array:
        """(capacity): seconds."""
        return self._last.array

    @property
    def counts(self) -> Array:
        """(capacity)."""
        return self._counts.array

    def selects(self, column: str) -> bool:
        """Whether this effect has coefficients on a column."""
        if isinstance(self.effect, Loadings):
            return False
        return self.effect.intercept if column == INTERCEPT else column in self.effect.on

    def _reset_arrays(self, rows: int) -> None:
        self._mean = Arena((self.d,), self.dtype, rows)
        self._cov = Arena((self.cov_size,), self.dtype, rows)

    def _mean_last(self) -> None:
        self._last = Arena((), np.float64)
        self._counts = Arena((), np.int32)

    def prior_arrays(self) -> tuple[Array, Array]:
        """(mu0, cov0) in float64, cov0 laid out as a row of `cov`; a low-rank one starts from variances alone."""
        mu0 = self.belief.mu0(self.columns)
        if self.kind == DIAGONAL:
            return mu0, self.belief.variance0(self.columns)
        if self.kind == LOWRANK:
            return mu0, lowrank.pack(lowrank.LowRank.prior(1.0 / self.belief.variance0(self.columns)), self.kmax)
        rows, cols = np.tril_indices(self.d)
        return mu0, self.belief.V0(self.columns)[rows, cols]

    def grow_dimensions(self, slots: Sequence[int], columns: Sequence[str]) -> None:
        """Append dimensions: every entity gets the prior for them, independent of what it has."""
        if not columns:
            return
        old_d, old_mean, old_cov, n = self.d, self.mean, self.cov, self.entities
        kind = self._chosen_kind(old_d + len(columns))
        if kind != self.kind:
            old_cov, self.kind = self._as_kind(kind), kind
        self.slots += slots
        self.columns += columns
        self.d += len(columns)
        self._reset_arrays(max(16, n))
        mu0, cov0 = self.prior_arrays()
        size = old_cov.shape[1]
        self.mean[:n, :old_d], self.mean[:n, old_d:] = old_mean[:n], mu0[old_d:]
        self.cov[:n, :size], self.cov[:n, size:] = old_cov[:n], cov0[size:]

    def _chosen_kind(self, d: int) -> int:
        if self.effect.posterior != "auto":
            return self.kind
        full = FULL_FIXED if isinstance(self.effect, Fixed) else FULL_RANDOM
        wanted = FULL if d <= full else LOWRANK if d <= LOWRANK_MOST else DIAGONAL
        # What a smaller posterior has dropped is gone: it is never made larger again.
        return max(self.kind, wanted, key=(FULL, LOWRANK, DIAGONAL).index)

    def _as_kind(self, kind: int) -> Array:
        """Rows of `cov` for the known entities as another, smaller kind of posterior keeps them."""
        cov, n = self.cov[: self.entities], self.entities
        if kind == DIAGONAL and self.kind == FULL:
            return np.ascontiguousarray(cov[:, diagonal_indices(self.d)])
        if kind == DIAGONAL:
            return _lowrank_rows.variances(cov, self.d, self.kmax)
        precision = 1.0 / self.belief.variance0(self.columns)
        out = np.tile(lowrank.pack(lowrank.LowRank.prior(precision), self.kmax), (n, 1))
        for e in np.flatnonzero(self.counts[:n] > 0) if self.d else ():
            V = unpack(cov[e].astype(np.float64))
            out[e] = lowrank.pack(_lowrank_rows.from_covariance(V, precision, self.effect.rank), self.kmax)
        return out

    def grow_entities(self, entities: int) -> None:
        """Append entities at the prior."""
        n = self.entities
        if entities <= n:
            return
        for arena in (self._mean, self._cov, self._last, self._counts):
            arena.reserve(entities)
        mu0, cov0 = self.prior_arrays()
        self.mean[n:entities], self.cov[n:entities] = mu0, cov0
        self.last[n:entities] = np.nan
        self.entities = entities

    def copy(self) -> Block:
        """An independent block with the same belief, vocabulary and posteriors."""
        twin = Block(self.effect, self.dtype.name)
        twin.known_slots = self.known_slots
        n = self.entities
        twin.restore(
            self.kind, self.slots, self.columns, self.belief, self.mean[:n], self.cov[:n], self.last[:n],
            self.counts[:n], self.kmax,
        )  # fmt: skip
        return twin

    def restore(
        self, kind: int, slots: Sequence[int], columns: Sequence[str], belief: Belief, mean: Array, cov: Array,
        last: Array, counts: Array, kmax: int | None = None,
    ) -> None:  # fmt: skip
        """Take over saved posteriors."""
        self.kmax = kmax or self.kmax
        self.kind, self.slots, self.columns, self.belief = kind, list(slots), list(columns), belief
        self.d, self.entities = len(self.columns), len(mean)
        self._reset_arrays(len(mean))
        self._mean_last()
        self._last.reserve(len(mean))
        self._counts.reserve(len(mean))
        n = self.entities
        self.mean[:n], self.cov[:n], self.last[:n], self.counts[:n] = mean, cov, last, counts

    def clear(self, belief: Belief) -> None:
        """Forget all entities and take a belief; dimensions stay. The entities come back with `grow_entities`."""
        empty = slice(0, 0)
        self.restore(
            self.kind, self.slots, self.columns, belief, self.mean[empty], self.cov[empty], self.last[empty],
            self.counts[empty],
        )  # fmt: skip

    def reset(self) -> None:
        """Return every known entity to the prior, as if it had never been updated."""
        n = self.entities
        mu0, cov0 = self.prior_arrays()
        self.mean[:n], self.cov[:n], self.last[:n], self.counts[:n] = mu0, cov0, np.nan, 0

    def relaxed(
        self, codes: Array, time: Array, events: Array | int = 1, *, updating: bool = False
    ) -> tuple[Array, Array]:
        """(θ (E, d), stored covariance (E, cov_size)) in float64 by `time` (E), ready for the next `events` (E).

        The NumPy twin of the kernels' fold. A negative code, an entity never seen, is the prior's; one never updated
        has nothing to forget. A δ per update forgets only where an update follows, `updating`.
        """
        known = np.maximum(codes, 0)
        theta, cov = self.mean[known].astype(np.float64), self.cov[known].astype(np.float64)
        prior = self.prior_arrays()
        theta[codes < 0], cov[codes < 0] = prior
        since = np.where(codes < 0, np.nan, time - self.last[known])
        form = NEVER if self.belief.form == PER_UPDATE and not updating else self.belief.form
        moved = np.flatnonzero(~np.isnan(since) if form == PER_UPDATE else since > 0)
        delta = self._discounts(form, since[moved])
        if self.kind == LOWRANK:
            self._relax_rows(theta, cov, moved, delta, since, events)
            return theta, cov
        if form != NEVER and len(moved):
            delta = delta[:, None]
            fold = _reverted if form == REVERTING else stabilised_rows
            theta[moved], cov[moved] = fold(theta[moved], cov[moved], *prior, delta)
        self._walk(cov, prior[1], np.maximum(since, 0.0), events)
        return theta, cov

    def _discounts(self, form: int, since: Array) -> Array:
        """Share of the posterior that is left, per entity."""
        if form == NEVER:
            return np.ones(since.shape)
        rate = self.belief.rate
        return np.broadcast_to(rate if form == PER_UPDATE else _fold.time_factor(since, rate), since.shape)

    def _relax_rows(
        self, theta: Array, rows: Array, moved: Array, delta: Array, since: Array, events: Array | int
    ) -> None:
        """Fold and walk low-rank posteriors in place, one entity after the other."""
        precision, mu0 = 1.0 / self.belief.variance0(self.columns), self.belief.mu0(self.columns)
        event, second = self.belief.walks(self.columns)
        times = np.broadcast_to(events, since.shape)
        share = np.ones(since.shape)
        share[moved] = delta
        for e in np.flatnonzero(~np.isnan(since)):
            growth = times[e] * event + max(float(since[e]), 0.0) * second
            if share[e] >= 1.0 and not growth.any():
                continue
            H = lowrank.unpack(rows[e], self.d, self.kmax)
            if share[e] < 1.0:
                theta[e], H = _lowrank_rows.fold(self.belief.form, float(share[e]), theta[e], H, mu0, precision)
            rows[e] = lowrank.pack(_lowrank_rows.walked(H, growth, precision), self.kmax)

    def _walk(self, cov: Array, cov0: Array, since: Array, events: Array | int) -> None:
        """Add random-walk variance, never beyond the prior's, to entities that were updated before."""
        event, second = self.belief.walks(self.columns)
        if not (event.any() or second.any()):
            return
        places = np.arange(self.d) if self.kind == DIAGONAL else diagonal_indices(self.d)
        noise = np.nan_to_num(np.outer(np.broadcast_to(events, since.shape), event) + np.outer(since, second))
        headroom = np.maximum(cov0[places] - cov[:, places], 0.0)
        cov[:, places] += np.where(np.isnan(since)[:, None], 0.0, np.minimum(noise, headroom))

    def nbytes(self) -> int:
        """Bytes held for known entities."""
        per_row = (self.d + self.cov_size) * self.dtype.itemsize + 8 + 4
        return self.entities * per_row


def _reverted(theta: Array, cov: Array, mu0: Array, cov0: Array, a: Array) -> tuple[Array, Array]:
    return mu0 + a * (theta - mu0), a * a * cov + (1.0 - a * a) * cov0


def stabilised_rows(theta: Array, cov: Array, mu0: Array, cov0: Array, delta: Array) -> tuple[Array, Array]:
    if cov.shape[1] == theta.shape[1] > 1:
        m, p = delta / cov, (1.0 - delta) / cov0
        return (m * theta + p * mu0) / (m + p), 1.0 / (m + p)
    H, base = delta[..., None] * np.linalg.inv(unpack(cov)), (1.0 - delta[..., None]) * np.linalg.inv(unpack(cov0))
    V = np.linalg.inv(H + base)
    return np.einsum("eij,ej->ei", V, np.einsum("eij,ej->ei", H, theta) + base @ mu0), pack(V)

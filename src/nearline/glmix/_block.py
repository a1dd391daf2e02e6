"""One block's minibatch update: rows grouped by entity, every entity solved, every failed row reported."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nearline._errors import DataError, StateError
from nearline.glmix._links import Link
from nearline.glmix._packed import packed_size
from nearline.glmix._solve import STATUSES

if TYPE_CHECKING:
    from nearline.glmix._kernels._memory import Outcome
    from nearline.glmix._kernels._rows import Batch

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Below this many rows per state row, sorting the rows beats counting through the state.
_SPARSE_CODES = 0.25


@dataclass(frozen=True, slots=True)
class LocalDesign:
    """Rows in an effect's own dimensions: CSR, or a dense (n, d) `values` with empty `indptr` and `indices`."""

    indptr: Ints
    indices: NDArray[np.int32]
    values: Floats

    @classmethod
    def dense(cls, X: Floats) -> LocalDesign:
        """A design with a value for every dimension of every row.

        Examples
        --------
        >>> len(LocalDesign.dense(np.ones((3, 2))))
        3
        """
        return cls(np.empty(0, np.int64), np.empty(0, np.int32), np.ascontiguousarray(X, dtype=np.float64))

    def __len__(self) -> int:
        return len(self.values) if self.values.ndim == 2 else len(self.indptr) - 1


@dataclass(frozen=True, slots=True)
class Grouping:
    """Entity e of E has state row codes[e] and the rows order[ptr[e] : ptr[e+1]]; `unassigned` rows have no entity."""

    codes: Ints
    ptr: Ints
    order: Ints
    unassigned: Ints

    def last(self, values: Floats) -> Floats:
        """Largest of a value per row (its time, say) for each entity (E).

        Examples
        --------
        >>> group(np.array([1, 0, 1], np.int32), 2).last(np.array([5.0, 6.0, 7.0])).tolist()
        [6.0, 7.0]
        """
        return np.maximum.reduceat(values[self.order], self.ptr[:-1]) if len(self.codes) else np.empty(0)


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What an update came to, per entity (E) of `grouping`; failed entities kept their state, to the bit.

    status
        Index into `STATUSES`: converged, not_converged, not_positive_definite, non_finite.
    evidence
        Laplace log p(B) of the entity's rows under its prior; NaN where it failed.
    change
        ‖θ − m‖, how far the mode moved from the prior mean; NaN where it failed.
    """

    grouping: Grouping
    status: NDArray[np.int8]
    steps: NDArray[np.int32]
    evidence: Floats
    change: Floats
    decrement: Floats

    @property
    def counts(self) -> dict[str, int]:
        """Entities by status."""
        return dict(zip(STATUSES, np.bincount(self.status, minlength=len(STATUSES)).tolist()))

    @property
    def failed_codes(self) -> Ints:
        """State rows of the entities whose update did not converge."""
        return np.asarray(self.grouping.codes[self.status != 0])

    @property
    def failed_rows(self) -> Ints:
        """Rows of those entities, ascending: they were not learned and go back to the queue."""
        failed = np.repeat(self.status != 0, np.diff(self.grouping.ptr))
        return np.asarray(np.sort(self.grouping.order[failed]))

    @property
    def log_evidence(self) -> float:
        """Sum of the evidence of the entities that converged."""
        return float(np.nansum(self.evidence))


def group(codes: NDArray[np.int32], capacity: int) -> Grouping:
    """Group rows by entity, stably; a negative code has no entity.

    Raises
    ------
    StateError
        When a code is not below `capacity`, the rows of the state.

    Examples
    --------
    >>> g = group(np.array([2, 0, -1, 2], np.int32), 3)
    >>> g.codes.tolist(), g.ptr.tolist(), g.order.tolist(), g.unassigned.tolist()
    ([0, 2], [0, 1, 3], [1, 0, 3], [2])
    """
    if len(codes) and int(codes.max()) >= capacity:
        raise StateError(f"entity code {int(codes.max())} has no row in a state of {capacity} rows; grow it first")
    unassigned = np.flatnonzero(codes < 0)
    if len(codes) < _SPARSE_CODES * capacity:
        return Grouping(*_group_by_sorting(codes), unassigned)
    from nearline.glmix._kernels._groups import group_codes

    present, ptr, order = group_codes(codes, capacity)
    return Grouping(present, ptr, order, unassigned)


def _group_by_sorting(codes: NDArray[np.int32]) -> tuple[Ints, Ints, Ints]:
    order = np.argsort(codes, kind="stable")
    order = order[np.searchsorted(codes[order], 0) :]
    ordered = codes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, np.int64)
    return ordered[starts].astype(np.int64), np.append(starts, len(ordered)), order


def update_block(
    codes: NDArray[np.int32] | Grouping,
    design: LocalDesign,
    y: Floats,
    w: Floats,
    offset: Floats,
    mean: NDArray[Any],
    cov: NDArray[Any],
    *,
    link: Link,
    threads: int = 1,
) -> BlockResult:
    """Update every entity that has rows, in place: mean (capacity, d) and cov, packed or (capacity, d) variances.

        θ = argmin_β Σ_n w_n ℓ(y_n, x_nᵀβ + o_n) + ½ (β − m)ᵀ V⁻¹ (β − m),    V ← (V⁻¹ + Xᵀ W X)⁻¹

    A (capacity, d) `cov` holds variances: the mode is joint, the new variance is 1/H_jj. `y`, `w` and `offset` are (n);
    rows of weight 0 are no rows, and an entity without rows is not touched. An identity link's dispersion φ enters as
    w/φ. The result has the same bits for any number of threads. State may be float32 or float64.

    Raises
    ------
    StateError
        When arrays do not fit each other.
    DataError
        When a local dimension of the design does not exist in the state.

    Examples
    --------
    >>> from nearline.glmix._links import by_name
    >>> mean, cov = np.zeros((2, 1)), np.ones((2, 1))
    >>> rows = LocalDesign.dense(np.ones((2, 1)))
    >>> result = update_block(np.array([1, 1], np.int32), rows, np.array([3.0, 0.0]), np.ones(2), np.zeros(2),
    ...                       mean, cov, link=by_name("identity"))
    >>> mean.round(12).tolist(), cov.round(12).tolist(), result.counts["converged"]
    ([[0.0], [1.0]], [[1.0], [0.333333333333]], 1)
    """
    from nearline.glmix._kernels._memory import Outcome

    grouping = codes if isinstance(codes, Grouping) else group(codes, len(mean))
    kernel, memory = _kernel(mean, cov)
    batch = _batch(design, y, w, offset, mean.shape[1])
    outcome = Outcome.of(len(grouping.codes))
    if len(grouping.codes):
        parts = max(1, min(threads, len(grouping.codes)))
        _run(kernel, memory, parts, link, batch, grouping, mean, cov, outcome)
    return BlockResult(grouping, *outcome)


def _run(
    kernel: Any, memory: Any, parts: int, link: Link, batch: Batch, grouping: Grouping, mean: NDArray[Any],
    cov: NDArray[Any], outcome: Outcome,
) -> None:  # fmt: skip
    """Run the kernel, each part of the entities in its own thread: they share nothing, so no bit can differ."""
    from nearline.glmix._kernels._groups import heaviest_first, most_entries
    from nearline.glmix._kernels._rows import Groups

    groups = Groups(*(_fixed(part, np.int64) for part in (grouping.codes, grouping.ptr, grouping.order)))
    sizes = most_entries(batch.indptr, batch.width, groups.ptr, groups.order)
    schedule = heaviest_first(groups.ptr) if parts > 1 else np.arange(len(grouping.codes))

    def part(start: int) -> None:
        kernel(link.code, batch, groups, schedule, start, parts, memory.of(mean.shape[1], *sizes), mean, cov, outcome)

    if parts == 1:
        part(0)
        return
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(part, range(parts)))


def _kernel(mean: NDArray[Any], cov: NDArray[Any]) -> tuple[Any, Any]:
    from nearline.glmix._kernels._memory import Diagonal, Full

    for array in (mean, cov):
        if array.dtype.kind != "f" or not (array.flags.c_contiguous and array.flags.writeable):
            raise StateError("a state must be a writeable, C-contiguous array of float32 or float64")
    d = mean.shape[1]
    if len(cov) == len(mean) and cov.shape[1] == packed_size(d):
        from nearline.glmix._kernels._minibatch import update_full

        return update_full, Full
    if cov.shape == mean.shape:
        from nearline.glmix._kernels._diagonal import update_diagonal

        return update_diagonal, Diagonal
    raise StateError(
        f"a covariance of shape {cov.shape} does not fit means of shape {mean.shape}; it needs "
        f"{packed_size(d)} numbers per entity (packed) or {d} (diagonal)"
    )


def _batch(design: LocalDesign, y: Floats, w: Floats, offset: Floats, d: int) -> Batch:
    from nearline.glmix._kernels._rows import Batch

    n = len(design)
    if not len(y) == len(w) == len(offset) == n:
        raise StateError(f"{n} design rows, {len(y)} labels, {len(w)} weights and {len(offset)} offsets do not agree")
    roles = tuple(_fixed(column, np.float64) for column in (y, w, offset))
    if design.values.ndim == 2:
        if design.values.shape[1] != d:
            raise DataError(f"the design has {design.values.shape[1]} columns and the state {d} dimensions")
        indptr, indices, width = np.empty(0, np.int64), np.arange(d, dtype=np.int32), d
    else:
        indptr, indices, width = design.indptr, design.indices, 0
        if len(indices) and not (indices.min() >= 0 and indices.max() < d):
            raise DataError(f"the design names a dimension outside 0 ... {d - 1}", fix="grow the state first")
    values = _fixed(design.values.reshape(-1), np.float64)
    return Batch(_fixed(indptr, np.int64), _fixed(indices, np.int32), values, width, *roles)


def _fixed(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """A contiguous read-only view, so that the kernels are compiled for one type whatever memory rows come from."""
    view = np.ascontiguousarray(values, dtype).view()
    view.flags.writeable = False
    return view

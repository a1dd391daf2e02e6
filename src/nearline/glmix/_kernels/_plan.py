"""From `Rows` and `Blocks` to what the compiled kernels read: records of addresses, and working memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.glmix._kernels._forget import relax_address
from nearline.glmix._kernels._lanes import LANES
from nearline.glmix._kernels._records import LOWRANK, NEVER, PER_UPDATE, PLAN, ROWS, Blocks, Rows

Sizes = tuple[int, int, int, int]
"""(R, D, P, K): blocks, most dimensions, most covariance numbers, most features of a row."""

_FLOAT, _INT, _INT32, _BOOL = (np.dtype(t) for t in (np.float64, np.int64, np.int32, np.bool_))
# Every field of the records is eight bytes long, so that they are written as rows of int64.
_ROWS_COLUMNS, _PLAN_COLUMNS = ({name: k for k, name in enumerate(dtype.names or ())} for dtype in (ROWS, PLAN))
_DTYPES = {"indptr": _INT, "indices": _INT32, "entities": _INT32}


class Job(NamedTuple):
    """What a kernel takes."""

    rows: int  # address of one ROWS record
    plan: int  # address of R PLAN records
    standing: int  # those to score with: `plan` where scoring and learning see the same posteriors
    R: int
    like: NDArray[Any]  # empty array of the storage dtype


class _Keep(list[Any]):
    """Arrays that addresses point into, alive as long as this list."""

    def address(self, array: Any, dtype: np.dtype[Any]) -> int:
        """Where the numbers of an array start, copied only if it is not contiguous or of another dtype."""
        if array.dtype != dtype or not array.flags.c_contiguous:
            array = np.ascontiguousarray(array, dtype)
        self.append(array)
        return address(array)


def address(array: NDArray[Any]) -> int:
    """Where an array's numbers start."""
    return int(array.__array_interface__["data"][0])


def scratch(sizes: Sizes, like: NDArray[Any]) -> tuple[dict[str, NDArray[np.int64]], list[NDArray[Any]]]:
    """Working memory of one thread: the address of each block's share by field of `PLAN`, and the arrays."""
    R, D, P, K = sizes
    width = -(-max(D, K + 1) // LANES) * LANES
    # Slots are integers in the room of floats: both are eight bytes.
    names, numbers = ("x", "v", "q", "entries", "slots"), np.zeros((5, R, width))
    own = np.empty((R, width + P), like.dtype)
    shares = dict(zip(names, address(numbers) + 8 * width * np.arange(5 * R).reshape(5, R)))
    means = address(own) + own.strides[0] * np.arange(R)
    return shares | {"own_mean": means, "own_cov": means + width * like.itemsize}, [numbers, own]


def _walks(b: Blocks, keep: _Keep) -> dict[str, Any]:
    """How many dimensions of each block gain random-walk variance, and where they are listed."""
    if not b.walks.any():
        return {}
    still = (b.walk_event <= 0.0) & (b.walk_second <= 0.0)
    dims = np.argsort(still, axis=1, kind="stable")
    step = np.arange(len(b.d)) * dims.shape[1] * 8
    # A low-rank block walks when it relaxes, on a copy.
    walking = (~still).sum(axis=1) * (b.walks & (b.kinds != LOWRANK))
    return {"walking": walking, "walk_dims": keep.address(dims, _INT) + step}


def _relax(b: Blocks) -> NDArray[np.int64]:
    """The function that forgets, where there is something to forget."""
    forgets = (b.forms != NEVER) & (b.kinds != LOWRANK)
    return np.where(forgets, relax_address(b.like.dtype) if forgets.any() else 0, 0)


def _lowrank(b: Blocks, keep: _Keep) -> dict[str, Any]:
    """What low-rank blocks need beyond the rest; a model without any compiles nothing for them."""
    wide = b.kinds == LOWRANK
    if not wide.any():
        return {}
    from nearline.glmix._kernels._lowrank_event import addresses

    moves = wide & ((b.forms != NEVER) | b.walks)
    functions = addresses(b.like.dtype, bool(moves.any()))
    room = 4 * b.kmax + 2 * b.kmax**2 + 2 * b.d
    work = np.zeros((len(b.d), int(room[wide].max())))
    keep.append(work)
    return {
        "kmax": b.kmax, "rank": b.rank, "project": functions.project, "absorb": functions.absorb,
        "work": address(work) + np.arange(len(b.d)) * work.strides[0],
        "relax": np.where(moves, functions.relax, _relax(b)),
    }  # fmt: skip


def plan_of(b: Blocks, sizes: Sizes, keep: _Keep) -> NDArray[np.int64]:
    """R PLAN records, as (R, fields) of int64, of a model's blocks with working memory of their own."""
    itemsize, r = b.like.itemsize, np.arange(len(b.d))
    shares, arrays = scratch(sizes, b.like)
    keep += arrays
    fields = {
        "d": b.d, "size": b.size, "kind": b.kinds, "of": b.of, "loaded": b.loaded, "locked": b.locked, "form": b.forms,
        "rate": b.rates.astype(_FLOAT).view(_INT), "mean_step": b.d * itemsize, "cov_step": b.size * itemsize,
        "mean_at": b.mean_at, "cov_at": b.cov_at, "last_at": b.last_at, "count_at": b.count_at, "relax": _relax(b),
        **shares, **_walks(b, keep), **_lowrank(b, keep),
    }  # fmt: skip
    tables = {"local": _INT32, "mu0": b.like.dtype, "cov0": b.like.dtype, "walk_event": _FLOAT, "walk_second": _FLOAT}
    for name, dtype in tables.items():
        table = getattr(b, name)
        fields[name] = keep.address(table, dtype) + r * (table.shape[1] * dtype.itemsize)
    plan = np.zeros((len(b.d), len(_PLAN_COLUMNS)), _INT)
    for name, values in fields.items():
        plan[:, _PLAN_COLUMNS[name]] = values
    return plan


def standing(b: Blocks) -> Blocks:
    """Blocks as scoring sees them: a δ per update forgets when the update comes, and a locked block is unsure too."""
    still = b.forms == PER_UPDATE
    if not still.any() and not np.any(b.locked):
        return b
    return b._replace(forms=np.where(still, NEVER, b.forms), rates=np.where(still, 0.0, b.rates), locked=0)


def job(rows: Rows, b: Blocks, sizes: Sizes, z: Any, s: Any, refused: Any = None) -> tuple[Job, list[Any]]:
    """Everything by address, and what must outlive the kernel's call.

    Raises
    ------
    StateError
        When an output is not contiguous or not of its dtype: float64 for z and s, bool for `refused`.
    """
    keep = _Keep([b])
    plan, seen = plan_of(b, sizes, keep), standing(b)
    scoring = plan if seen is b else plan_of(seen, sizes, keep)
    fields = {name: keep.address(v, _DTYPES.get(name, _FLOAT)) for name, v in zip(Rows._fields, rows)}
    fields |= {"n": rows.entities.shape[1], "z": _output("z", z, _FLOAT), "s": _output("s", s, _FLOAT)}
    fields["refused"] = 0 if refused is None else _output("refused", refused, _BOOL)
    record = np.array([fields[name] for name in _ROWS_COLUMNS], _INT)
    keep += [record, plan, scoring]
    return Job(address(record), address(plan), address(scoring), len(plan), b.like), keep


def _output(name: str, out: NDArray[Any], dtype: np.dtype[Any]) -> int:
    if out.dtype != dtype or not (out.flags.c_contiguous and out.flags.writeable):
        raise StateError(f"{name} must be a contiguous, writeable array of {dtype}; it is of {out.dtype}")
    return address(out)

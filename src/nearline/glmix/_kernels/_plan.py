"""From `Rows` and `Blocks` to what the compiled kernels read: records of addresses, and working memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nearline._errors import StateError
from nearline.glmix._kernels._forget import relax_address
from nearline.glmix._kernels._lanes import LANES
from nearline.glmix._kernels._records import NEVER, PLAN, ROWS, Blocks, Rows

Sizes = tuple[int, int, int, int]
"""(R, D, P, K): blocks, most dimensions, most covariance numbers, most features of a row."""


class Job(NamedTuple):
    """What a kernel takes."""

    rows: int  # address of one ROWS record
    plan: int  # address of R PLAN records
    R: int
    like: NDArray[Any]  # empty array of the storage dtype


class _Keep(list[Any]):
    """Arrays that addresses point into, alive as long as this list."""

    def address(self, array: Any, dtype: DTypeLike) -> int:
        """Where the numbers of an array start, copied only if it is not contiguous or of another dtype."""
        out = np.ascontiguousarray(array, dtype)
        self.append(out)
        return address(out)


def address(array: NDArray[Any]) -> int:
    """Where an array's numbers start."""
    return int(array.__array_interface__["data"][0])


def scratch(sizes: Sizes, like: NDArray[Any]) -> tuple[dict[str, NDArray[np.int64]], list[NDArray[Any]]]:
    """Working memory of one thread: the address of each block's share by field of `PLAN`, and the arrays."""
    R, D, P, K = sizes
    width = -(-max(D, K + 1) // LANES) * LANES
    numbers, slots = np.zeros((4, R, width)), np.zeros((R, K + 1), np.int64)
    own = np.empty((R, width), like.dtype), np.empty((R, P), like.dtype)
    parts = [*zip(("x", "v", "q", "entries"), numbers), ("slots", slots), *zip(("own_mean", "own_cov"), own)]
    shares = {name: address(part) + np.arange(R) * part.strides[0] for name, part in parts}
    return shares, [numbers, slots, *own]


def _walks(b: Blocks, keep: _Keep) -> dict[str, Any]:
    """How many dimensions of each block gain random-walk variance, and where they are listed."""
    if not b.walks.any():
        return {}
    still = (b.walk_event <= 0.0) & (b.walk_second <= 0.0)
    dims = np.argsort(still, axis=1, kind="stable")
    step = np.arange(len(b.d)) * dims.shape[1] * 8
    return {"walking": (~still).sum(axis=1) * b.walks, "walk_dims": keep.address(dims, np.int64) + step}


def _relax(b: Blocks) -> int:
    return relax_address(b.like.dtype) if (b.forms != NEVER).any() else 0


def plan_of(b: Blocks, sizes: Sizes, keep: _Keep) -> NDArray[Any]:
    """(R) PLAN records of a model's blocks with working memory of their own."""
    plan, itemsize, r = np.zeros(len(b.d), PLAN), b.like.itemsize, np.arange(len(b.d))
    shares, arrays = scratch(sizes, b.like)
    keep += arrays
    fields = {
        "d": b.d, "size": b.size, "kind": b.kinds, "of": b.of, "loaded": b.loaded, "form": b.forms, "rate": b.rates,
        "mean_step": b.d * itemsize, "cov_step": b.size * itemsize, "mean_at": b.mean_at, "cov_at": b.cov_at,
        "relax": _relax(b), "last_at": b.last_at, "count_at": b.count_at, **shares, **_walks(b, keep),
    }  # fmt: skip
    for name, dtype in (
        ("local", np.int32), ("mu0", b.like.dtype), ("cov0", b.like.dtype), ("walk_event", np.float64),
        ("walk_second", np.float64),
    ):  # fmt: skip
        table = getattr(b, name)
        fields[name] = keep.address(table, dtype) + r * table.shape[1] * np.dtype(dtype).itemsize
    for name, values in fields.items():
        plan[name] = values
    return plan


def job(rows: Rows, b: Blocks, sizes: Sizes, z: Any, s: Any, refused: Any = None) -> tuple[Job, list[Any]]:
    """Everything by address, and what must outlive the kernel's call.

    Raises
    ------
    StateError
        When an output is not contiguous or not of its dtype: float64 for z and s, bool for `refused`.
    """
    keep = _Keep([b])
    record, plan = np.zeros(1, ROWS), plan_of(b, sizes, keep)
    keep += [record, plan]
    record["n"] = rows.entities.shape[1]
    for name, values in rows._asdict().items():
        dtype = {"indptr": np.int64, "indices": np.int32, "entities": np.int32}.get(name, np.float64)
        record[name] = keep.address(values, dtype)
    record["z"], record["s"] = _output("z", z, np.float64), _output("s", s, np.float64)
    if refused is not None:
        record["refused"] = _output("refused", refused, np.bool_)
    return Job(address(record), address(plan), len(plan), b.like), keep


def _output(name: str, out: NDArray[Any], dtype: DTypeLike) -> int:
    if out.dtype != dtype or not (out.flags.c_contiguous and out.flags.writeable):
        raise StateError(f"{name} must be a contiguous, writeable array of {np.dtype(dtype)}; it is of {out.dtype}")
    return address(out)

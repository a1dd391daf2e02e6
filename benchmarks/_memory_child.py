"""Grow a model to many entities in steps; print the bytes its posteriors hold, and by how many GB the process grew at
its peak over what it held with libraries and kernels loaded, and its peak in all.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import nearline as nl


def main() -> None:
    entities, d = int(sys.argv[1]), int(sys.argv[2])
    model = nl.GLMix(
        nl.Schema(label="y"), random=[nl.Random("key", on=["v"], intercept=False)], dtype="float32"
    )  # fmt: skip
    rng = np.random.default_rng(0)
    model.partial_fit(events(rng, np.arange(100), d))
    loaded = resident_gb()
    step = 20_000
    for start in range(0, entities, step):
        model.partial_fit(events(rng, np.arange(start, min(start + step, entities)), d))
    assert model.block("key").d == d
    held = model.block("key").nbytes()
    print(held, peak_gb() - loaded, peak_gb())


def events(rng: np.random.Generator, keys: NDArray[np.int64], d: int) -> pa.Table:
    values = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=len(keys) * d)), d)
    return pa.table({"key": keys, "v": values, "y": rng.integers(0, 2, len(keys))})


def resident_gb() -> float:
    """Resident set now: kernels that were just compiled have given their memory back."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e9


def peak_gb() -> float:
    """Largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()

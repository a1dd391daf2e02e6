"""Grow a model to many entities in steps; print the bytes its posteriors hold and the process's peak (GB)."""

from __future__ import annotations

import resource
import sys

import numpy as np
import pyarrow as pa

import nearline as nl


def main() -> None:
    entities, d = int(sys.argv[1]), int(sys.argv[2])
    model = nl.GLMix(
        nl.Schema(label="y"), random=[nl.Random("key", on=["v"], intercept=False)], dtype="float32"
    )  # fmt: skip
    rng = np.random.default_rng(0)
    step = 20_000
    for start in range(0, entities, step):
        keys = np.arange(start, min(start + step, entities))
        values = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=len(keys) * d)), d)
        model.partial_fit(pa.table({"key": keys, "v": values, "y": rng.integers(0, 2, len(keys))}))
    assert model.block("key").d == d
    held = model.block("key").nbytes()
    print(held, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


if __name__ == "__main__":
    main()

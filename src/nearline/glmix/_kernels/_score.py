"""Scoring: margins and their variances under the posterior as it has relaxed by now, writing no state."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from nearline.glmix._kernels._event import run
from nearline.glmix._kernels._plan import Sizes, address, job
from nearline.glmix._kernels._records import Blocks, Rows
from nearline.glmix._kernels._scalar import IDENTITY


def score(rows: Rows, b: Blocks, sizes: Sizes, parts: int, variances: bool, z: Any, s: Any) -> None:
    """Margins z and, where asked for, variances s of all rows; each part is one thread's contiguous share."""
    n = z.shape[0]

    def part(k: int) -> None:
        task, keep = job(rows, b, sizes, z, s)
        end = np.array([(k + 1) * n // parts])
        run(IDENTITY, *task, k * n // parts, address(end), 1, False, variances)
        del keep

    if parts == 1:
        part(0)
        return
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(part, range(parts)))

"""statsmodels' mixed logistic regression (BinomialBayesMixedGLM, MAP) in a process with a time limit.

`python -m benchmarks._rivals._mixed_logit FILE.npz` reads the design, fits, and prints its processor seconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np


def seconds(file: Path, limit: float) -> float:
    """Processor seconds of the fit of what `file` holds, infinite where it has not finished within `limit` seconds."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks._rivals._mixed_logit", str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True)
    except subprocess.TimeoutExpired:
        return float("inf")
    return float(done.stdout.split()[-1])


def main(file: str) -> None:
    from scipy.sparse import csr_matrix, hstack
    from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM

    data = np.load(file)
    n, rows = len(data["y"]), np.arange(len(data["y"]))
    groups = [csr_matrix((np.ones(n), (rows, data[name])), shape=(n, int(data[name].max()) + 1)) for name in ("u", "m")]
    ident = np.repeat([0, 1], [g.shape[1] for g in groups])
    began = time.process_time()
    BinomialBayesMixedGLM(data["y"], data["X"], hstack(groups).tocsr(), ident).fit_map()
    print(time.process_time() - began)


if __name__ == "__main__":
    main(sys.argv[1])

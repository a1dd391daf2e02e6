"""Stand-alone use costs NumPy only (specification, section 10)."""

from __future__ import annotations

import subprocess
import sys

CHECK = """
import sys
import numpy as np
from nearline import select
select.by_name("pps")(select.Scores(score=np.arange(9.0)), 3, np.random.default_rng(0))
select.by_name("swap")(select.Scores(loss=np.arange(9.0)), 3, np.random.default_rng(0))
loaded = {"numba", "torch", "scipy", "pyarrow", "pandas"} & set(sys.modules)
assert not loaded, loaded
"""


def test_choosing_loads_nothing_but_numpy() -> None:
    subprocess.run([sys.executable, "-c", CHECK], check=True)

"""What `nearline run` does before it is ready."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from nearline.cli._run import lean
assert "pandas" not in sys.modules, "importing the command imports pandas"
lean()
import numpy as np, pyarrow as pa
pa.array(np.arange(3.0), from_pandas=True), pa.array([1, None]), pa.array(["a"])
import numba
@numba.njit
def total(x):
    return (x * x).sum()
assert total(np.arange(3.0)) == 5.0
assert not {"pandas", "scipy.linalg"} & set(sys.modules), "a conversion or a kernel imports them"
import pandas, scipy.linalg
print(pandas.__version__, scipy.__version__)
"""


def test_a_service_never_imports_pandas_or_scipy_and_leaves_them_importable() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

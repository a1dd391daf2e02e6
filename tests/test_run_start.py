"""What `nearline run` does before it is ready."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from nearline.cli._run import without_pandas
assert "pandas" not in sys.modules, "importing the command imports pandas"
without_pandas()
import numpy as np, pyarrow as pa
pa.array(np.arange(3.0), from_pandas=True), pa.array([1, None]), pa.array(["a"])
assert "pandas" not in sys.modules, "a conversion imports pandas"
import pandas
print(pandas.__version__)
"""


def test_a_service_never_imports_pandas_and_leaves_it_importable() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

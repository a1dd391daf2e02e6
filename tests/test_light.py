"""nearline is light: quick to import, few dependencies, and its papers in order."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nearline

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "pandas", "pyspark", "matplotlib", "scipy", "sklearn", "numba")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

STATEMENTS = ["import nearline", "from nearline import GLMix, Schema", "from nearline import datasets, simulate"]


def fresh(code: str) -> str:
    """Standard output of a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("statement", STATEMENTS[:2])
def test_import_takes_less_than_half_a_second(statement: str) -> None:
    # CPU seconds and the best of several: another process on the machine is not nearline's cost.
    code = f"import time; began = time.process_time(); {statement}; print(time.process_time() - began)"
    best = 9.0
    for _ in range(5):
        best = min(best, float(fresh(code)))
        if best < 0.5:
            break
    assert best < 0.5


@pytest.mark.parametrize("statement", STATEMENTS)
def test_import_loads_nothing_heavy(statement: str) -> None:
    assert fresh(f"{statement}; import sys; print([name for name in {HEAVY} if name in sys.modules])") == "[]"


def test_the_check_above_would_notice() -> None:
    assert fresh(f"import scipy; import sys; print([name for name in {HEAVY} if name in sys.modules])") == "['scipy']"


def test_at_most_twelve_direct_dependencies() -> None:
    assert 0 < len(PROJECT["dependencies"]) <= 12
    assert not [line for line in PROJECT["dependencies"] if re.match(r"torch|pandas|pyspark|scipy|scikit", line)]


def test_extras_are_there() -> None:
    assert {"deep", "kafka", "redis", "spark", "tune", "dev", "bench"} <= set(PROJECT["optional-dependencies"])


def test_one_version_everywhere() -> None:
    assert PROJECT["version"] == nearline.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    assert released[0] == nearline.__version__
    assert changelog.index("## [Unreleased]") < changelog.index(f"## [{nearline.__version__}]")


def test_the_package_is_typed_and_licensed() -> None:
    assert (Path(nearline.__file__).parent / "py.typed").is_file()
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")

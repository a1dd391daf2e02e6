"""Without torch: nearline works, and what needs it names the extra."""

from __future__ import annotations

import subprocess
import sys

HIDE = """
import sys, importlib.machinery as m
real = m.PathFinder.find_spec
m.PathFinder.find_spec = classmethod(lambda c, name, *a: None if name == "torch" else real(name, *a))
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", HIDE + code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_settings_need_no_torch_and_a_network_names_the_extra() -> None:
    code = """
from nearline import deep
print(deep.MLP((4,)))
try:
    deep.Network
except Exception as error:
    print(type(error).__name__, error)
"""
    first, second = run(code).splitlines()
    assert first == "MLP(hidden=(4,), embedding=16)"
    assert second.startswith("ConfigError")
    assert "pip install 'nearline[deep]'" in second


def test_importing_nearline_and_its_deep_package_imports_no_torch() -> None:
    code = "import sys, nearline; from nearline import deep; deep.MLP(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

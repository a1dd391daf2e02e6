"""The public surface: what can be imported is what is listed, and the other way round."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import nearline

PACKAGES = ["nearline"] + [
    f"nearline.{found.name}"
    for found in pkgutil.iter_modules(nearline.__path__)
    if found.ispkg and not found.name.startswith("_")
]

PUBLIC = [
    "Categorical", "ConfigError", "DataError", "Fixed", "FixedFit", "Forgetting", "GLMix", "Hashed", "Loadings",
    "Multi", "NearlineError", "NearlineWarning", "Numeric", "Prior", "Random", "RandomFit", "Schema", "StateError",
    "Vector", "datasets", "deep", "evaluate", "select", "simulate",
]  # fmt: skip


def imported(package: str) -> set[str]:
    """Public names that a package's `__init__` takes from nearline's modules, also those for type checkers only."""
    source = Path(str(importlib.import_module(package).__file__)).read_text("utf-8")
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    own = [node for node in nodes if node.module is not None and node.module.startswith("nearline")]
    names = {alias.asname or alias.name for node in own for alias in node.names}
    return {name for name in names if not name.startswith("_")}


def natural(name: str) -> tuple[int, list[tuple[int, str]]]:
    """Sort key: CONSTANTS, Classes, functions; numbers by value, so that 1m comes before 100k."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", name)]


def test_the_public_names_are_these() -> None:
    # A change here is a change of the API: it belongs into the changelog.
    assert nearline.__all__ == PUBLIC
    assert len(PUBLIC) <= 30


@pytest.mark.parametrize("package", PACKAGES)
def test_listed_is_imported_and_imported_is_listed(package: str) -> None:
    listed = importlib.import_module(package).__all__
    assert set(listed) == imported(package)
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("package", PACKAGES)
def test_listed_names_are_sorted(package: str) -> None:
    listed = importlib.import_module(package).__all__
    assert listed == sorted(listed, key=natural)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_listed_name_is_there_and_says_what_it_is(package: str) -> None:
    if package == "nearline.deep":
        pytest.importorskip("torch", reason="torch is not installed: pip install 'nearline[deep]'")
    module = importlib.import_module(package)
    assert module.__doc__
    for name in module.__all__:
        value = getattr(module, name)
        assert not callable(value) or value.__doc__, f"{package}.{name} has no docstring"


def test_lazy_names_are_listed_by_dir_and_unknown_ones_refused() -> None:
    assert set(nearline.__all__) <= set(dir(nearline))
    with pytest.raises(AttributeError, match="no attribute 'Glmix'"):
        nearline.Glmix  # noqa: B018


def test_modules_outside_the_list_are_private() -> None:
    modules = [found.name for found in pkgutil.iter_modules(nearline.__path__) if not found.ispkg]
    assert all(name.startswith("_") for name in modules)

"""Lets the tests of this folder share `store_rows`, and gives them a registry with a clock that stands still."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.registry_parts import Clock

from nearline.store import Registry

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(tmp_path: Path, clock: Clock) -> Iterator[Registry]:
    registry = Registry(tmp_path, clock=clock)
    yield registry
    registry.close()

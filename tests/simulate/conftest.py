"""Streams of a small marketplace and of the default one."""

from __future__ import annotations

import pyarrow as pa
import pytest
from tests.simulate.parts import SMALL

from nearline import simulate
from nearline.simulate import Marketplace


@pytest.fixture(scope="session")
def small() -> pa.Table:
    return simulate.stream(SMALL)


@pytest.fixture(scope="session")
def demo() -> pa.Table:
    return simulate.stream(Marketplace())

"""The compiled checksum is zlib's, whatever the length: short data, four stretches, and what is left of them."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.store._crc32 import TABLES, crc32


def found(data: bytes) -> int:
    return int(crc32(TABLES, np.frombuffer(data + bytes(8), np.uint8), len(data)))


@given(st.binary(max_size=3_000))
@settings(max_examples=200, deadline=None)
def test_it_is_zlibs(data: bytes) -> None:
    assert found(data) == zlib.crc32(data)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 255, 256, 257, 263, 4_096, 70_001, 1_000_003])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_zlibs_at_every_length(size: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(size)
    assert found(data) == zlib.crc32(data)


def test_the_known_answer() -> None:
    assert found(b"123456789") == 0xCBF43926

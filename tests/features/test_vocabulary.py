"""Slots: their order, the center and scale of their columns, and the hash."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.tables import dense, encode

from nearline.features import Encoder
from nearline.features._vocabulary import moments, stable_hash
from nearline.schema import Hashed, Multi, Numeric, Schema


def test_slots_are_given_by_row_then_by_feature() -> None:
    encoder = Encoder(Schema("y", columns={"g": Multi("|")}), ("c", "x", "g"), ())
    rows = {"c": ["b", "a"], "x": [None, 1.0], "g": ["z|y|z", "x|y"]}
    encoder.encode(rows, grow=True)
    expected = ["(intercept)", "c=b", "x", "x (missing)", "g=z", "g=y", "c=a", "g=x"]
    assert encoder.slot_names == expected
    assert encoder.slot_columns == ["(intercept)", "c", "x", "x", "g", "g", "c", "g"]


def test_center_and_scale_come_from_the_first_table_and_stay() -> None:
    encoder = Encoder(Schema("y"), ("x", "constant"), ())
    first = dense(encoder, encoder.encode({"x": [1.0, 3.0, None], "constant": [7, 7, 7]}, grow=True))
    assert first[:, 1].tolist() == [-1.0, 1.0, 0.0]
    assert encoder.slot_names == ["(intercept)", "x", "constant", "x (missing)"]
    assert not first[:, 2].any()
    second = dense(encoder, encoder.encode({"x": [6.0], "constant": [9]}, grow=True))
    assert second.tolist() == [[1.0, 4.0, 2.0, 0.0]]


def test_a_column_missing_in_the_first_table_learns_its_scale_later() -> None:
    encoder = Encoder(Schema("y"), ("x",), ())
    encoder.encode(pa.table({"x": pa.array([None, None], pa.float64())}), grow=True)
    waiting = encoder.encode({"x": [5.0]}, grow=False)
    assert (waiting.unseen, waiting.indices.tolist()) == (1, [0])
    assert dense(encoder, encoder.encode({"x": [1.0, 3.0]}, grow=True))[:, 1].tolist() == [-1.0, 1.0]
    assert encoder.slot_names == ["(intercept)", "x", "x (missing)"]


@pytest.mark.parametrize("few", [0, 100])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Numeric(center=2.0), [-1.0, 0.0, 1.0]),
        (Numeric(scale=4.0), [-0.25, 0.0, 0.25]),
        (Numeric(center=0.0, scale=1.0), [1.0, 2.0, 3.0]),
    ],
)
def test_declared_center_and_scale(kind: Numeric, expected: list[float], few: int) -> None:
    encoder = Encoder(Schema("y", columns={"x": kind}), ("x",), ())
    design = encode(encoder, {"x": [1, 2, 3], "y": [0, 1, 1]}, few)
    values = dense(encoder, design)[:, 1]
    deviation = math.sqrt(2 / 3) if kind.scale is None else 1.0
    np.testing.assert_allclose(values, np.array(expected) / deviation, rtol=1e-15)


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_moments_never_overflow(x: list[float]) -> None:
    mean, deviation = moments(np.array(x))
    slack = 1e-12 * max(map(abs, x)) + 5e-324
    assert min(x) - slack <= mean <= max(x) + slack
    assert 0 < deviation < math.inf
    if max(map(abs, x)) < 1e100 and min(map(abs, x)) > 1e-100 and len(set(x)) > 1:
        assert deviation == pytest.approx(np.std(x), rel=1e-9) or np.std(x) == 0


def test_the_hash_is_the_same_in_every_process() -> None:
    assert [stable_hash("text=a", 18), stable_hash("text=a", 8)] == [HASH_OF_A, HASH_OF_A % 256]
    program = "from nearline.features._vocabulary import stable_hash; print(stable_hash('text=a', 18))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(found.stdout) == HASH_OF_A


HASH_OF_A = 217109


def test_hashed_slots_stay_dense() -> None:
    encoder = Encoder(Schema("y", columns={"text": Hashed(bits=18)}), ("text",), ())
    encoder.encode({"text": [f"word {i % 50}" for i in range(100)]}, grow=True)
    assert encoder.n_slots == 51
    assert encoder.slot_names[1] == f"text#{stable_hash('text=word 0', 18)}"

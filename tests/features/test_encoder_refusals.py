"""What an encoder refuses by name: changed types, numbers out of reach, columns without a kind, wrong declarations."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from nearline._errors import ConfigError, DataError
from nearline.features import Encoder
from nearline.features import _encoder as features
from nearline.schema import Numeric, Schema, check

CONFLICTS = [
    ({"u": [1]}, {"u": ["1"]}, "u"),
    ({"u": [True]}, {"u": [1]}, "u"),
    ({"c": ["a"]}, {"c": [1]}, "c"),
    ({"x": [1.5]}, {"x": ["1.5"]}, "x"),
    ({"g": [["a"]]}, {"g": [[1]]}, "g"),
    ({"v": [[1.0, 2.0]]}, {"v": [[1.0, 2.0, 3.0]]}, "v"),
    ({"g": [["a"]]}, {"g": ["a"]}, "g"),
]
DEFAULTS: dict[str, list[Any]] = {"u": [1], "c": ["z"], "x": [0.5], "g": [["z"]], "v": [[0.5, 0.5]]}


@pytest.mark.parametrize(("first", "second", "column"), CONFLICTS)
@pytest.mark.parametrize("few", [0, 100])
def test_a_change_of_type_is_refused_by_name_and_leaves_the_encoder_as_it_was(
    first: dict[str, Any], second: dict[str, Any], column: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_FEW", few)
    encoder = Encoder(Schema("y"), ("c", "x", "g", "v"), ("u",))
    encoder.encode({**DEFAULTS, **first}, grow=True)
    before = encoder.to_state()
    other = {"u": ["new"] if isinstance(first.get("u", [1])[0], str) else DEFAULTS["u"], "c": ["new"], "x": [9.0]}
    with pytest.raises(DataError, match=f"column '{column}'"):
        encoder.encode({**DEFAULTS, **other, **second}, grow=True)
    after = encoder.to_state()
    assert before[0] == after[0]
    assert all(before[1][name].equals(after[1][name]) for name in before[1])


@pytest.mark.parametrize("few", [0, 100])
def test_a_number_too_large_to_standardise_is_refused(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_FEW", few)
    encoder = Encoder(Schema("y", columns={"x": Numeric(0.0, 1e-10)}), ("x",), ())
    with pytest.raises(DataError, match="column 'x', row 1: 1e\\+300 is too far"):
        encoder.encode({"x": [1.0, 1e300]}, grow=True)


@pytest.mark.parametrize("stored", [False, True])
def test_the_encoder_checks_with_the_kinds_it_has_learned(stored: bool) -> None:
    encoder = Encoder(Schema("y"), ("c",), ())
    first = pa.table({"c": pa.array([1, 2]).dictionary_encode()})
    encoder.encode(first, grow=True)
    encoder = Encoder.from_state(*encoder.to_state()) if stored else encoder
    found = encoder.check({"c": [1.5, 2.0]}, link="logit", need_label=False, divert=True)
    assert found.rejects.reasons == ("c: category is 1.5",)
    assert encoder.encode(found, grow=True).indices.tolist() == [0, 2]


def test_an_all_null_column_needs_a_kind() -> None:
    encoder = Encoder(Schema("y"), ("c",), ())
    with pytest.raises(DataError, match=r"column 'c'.*declare it in Schema"):
        encoder.encode({"c": [None]}, grow=True)
    encoder.encode({"c": ["a"]}, grow=True)
    encoder.encode({"c": [None]}, grow=True)
    assert encoder.slot_names == ["(intercept)", "c=a", "c=(missing)"]


def test_wrong_declarations_are_refused() -> None:
    with pytest.raises(ConfigError, match="feature 'x' is named twice"):
        Encoder(Schema("y"), ("x", "x"), ())
    with pytest.raises(ConfigError, match="features must be a sequence"):
        Encoder(Schema("y"), "x", ())
    with pytest.raises(ConfigError, match="'movie' is no key"):
        Encoder(Schema("y"), (), ("user",)).n_entities("movie")
    checked = check({"u": [1]}, Schema("y"), features=(), keys=("u",), link="logit", need_label=False)
    with pytest.raises(DataError, match="column 'x': the table was not checked"):
        Encoder(Schema("y"), ("x",), ("u",)).encode(checked, grow=True)

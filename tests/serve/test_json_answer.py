"""AnswerWriter: its bytes are those of the typed answer."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.serve._json_answer import AnswerWriter, tag_of
from nearline.serve._messages import Expectation, Predictions, Probability

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@pytest.mark.parametrize("name", ["probability", "prediction"])
@settings(max_examples=200, deadline=None)
@given(
    tag=texts,
    version=texts,
    first=st.integers(0, 2**62) | st.integers(0, 1100),
    values=st.lists(st.floats() | st.floats(0, 1), min_size=1, max_size=30),
    data=st.data(),
)
def test_bytes_are_those_of_the_typed_answers(
    name: str, tag: str, version: str, first: int, values: list[float], data: Any
) -> None:
    kind = Probability if name == "probability" else Expectation
    ends = sorted({len(values), *data.draw(st.lists(st.integers(1, len(values)), max_size=4))})
    typed = [kind(f"{tag}-{first + k}", value, version) for k, value in enumerate(values)]
    answers = [msgspec.json.encode(Predictions(typed[begin:end])) for begin, end in zip([0, *ends], ends)]
    writer = AnswerWriter(name)
    writer.write(tag, first, np.array(values), ends, "another version")
    for _ in range(2):  # a tag that it knows by now is written alike
        assert writer.write(tag, first, np.array(values), ends, version) == answers


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_numbers_are_read_back_to_the_last_bit(values: list[float]) -> None:
    (answer,) = AnswerWriter("prediction").write("t", 0, np.array(values), [len(values)], "1.0.0")
    found = msgspec.json.decode(answer)["predictions"]
    assert [float(p["prediction"]).hex() for p in found] == [value.hex() for value in values]


@given(tag=texts, position=st.integers(0, 2**62))
def test_a_tag_is_found_by_its_position(tag: str, position: int) -> None:
    assert tag_of(f"{tag}-{position}", position) == tag
    assert tag_of(f"{tag}-{position}", position + 1) is None

"""Every label is trainable once and only once, late ones too (specification, sections 1.2, 1.3 and 12)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline import DataError
from nearline.select import Flag, Records, immediate_negative_weights, pack, price_binary, price_regression


def served(ids: list[int], **columns: object) -> np.ndarray:
    return pack(id=ids, time=[100] * len(ids), version=[4] * len(ids), prediction=np.array(ids) / 10, **columns)


def test_a_window_is_priced_from_the_records() -> None:
    book = Records()
    book.append(served([1, 2, 3], norm=[3.0, 0.0, 1.0]))
    assert book.label([3, 1], [1, 0], maturity=[1.0, 0.5]) == 2
    scores = book.window(now=130.0, version=6)
    exact = price_binary(np.float32([0.3, 0.1]), [1, 0], [1.0, 3.0])
    np.testing.assert_array_equal(scores.loss, exact.loss)
    np.testing.assert_array_equal(scores.score, exact.score)
    assert (scores.id.tolist(), scores.maturity.tolist()) == ([3, 1], [1.0, 0.5])
    assert (scores.age.tolist(), scores.lag.tolist()) == ([30.0, 30.0], [2.0, 2.0])
    assert scores.flags.tolist() == [Flag.MATURE, Flag.PROVISIONAL]


def test_a_late_positive_comes_once_whatever_became_of_its_negative() -> None:
    book = Records()
    book.append(served([1, 2]))
    book.label([1, 2], [0, 0])
    assert book.window(200.0, 4, size=1).id.tolist() == [1]
    assert book.label([1, 2], [1, 1]) == 2
    scores = book.window(200.0, 4)
    # 1 was taken as a negative and comes again; the negative of 2 still waited and gave way.
    assert sorted(zip(scores.id.tolist(), scores.label.tolist(), strict=True)) == [(1, 1.0), (2, 1.0)]
    assert book.label([1, 2], [1, 1]) == 0
    with pytest.raises(DataError, match="no labelled row"):
        book.window(200.0, 4)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.booleans()), max_size=40))
def test_no_copy_is_given_out_twice(events: list[tuple[int, int, bool]]) -> None:
    book, changes, given_out, known = Records(), 0, [], {}
    book.append(served(list(range(5))))
    for key, y, take in events:
        changes += known.get(key) != y
        known[key] = y
        book.label([key], [y])
        if take and len(book):
            given_out += book.window(0.0, 0).id.tolist()
    waiting = book.window(0.0, 0).id.tolist() if len(book) else []
    assert len(given_out) + len(waiting) <= changes
    assert set(given_out) | set(waiting) == set(known)
    assert len(set(waiting)) == len(waiting)


def test_immediate_negatives_put_a_positive_beside_and_weigh_to_the_true_rate() -> None:
    rng, n = np.random.default_rng(0), 4000
    clicked = rng.random(n) < 0.2
    book = Records(immediate_negative=True)
    book.append(pack(id=np.arange(n), time=np.zeros(n), prediction=np.zeros(n)))
    assert book.label(np.flatnonzero(clicked), np.ones(clicked.sum())) == clicked.sum()
    label, p = book.window(0.0, 0).label, 0.5
    assert len(label) == n + clicked.sum()
    for _ in range(300):
        p -= float(np.sum(immediate_negative_weights(label, p) * (p - label))) / (2 * n)
    assert abs(p - clicked.mean()) < 1e-6


def test_what_was_not_recorded_or_twice_is_refused_and_old_records_can_go() -> None:
    book = Records(price_regression)
    book.append(served([1, 2]))
    with pytest.raises(DataError, match="1 was recorded before"):
        book.append(served([1]))
    with pytest.raises(DataError, match="9 was never recorded"):
        book.label([9], [1.0])
    book.label([2], [0.5])
    assert book.expire(before=101.0) == 1
    assert book.window(101.0, 4).loss.tolist() == pytest.approx([(0.2 - 0.5) ** 2], rel=1e-6)

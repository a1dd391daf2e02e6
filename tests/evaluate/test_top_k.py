"""Metrics of the first k rows: against scikit-learn, and against every order of tied rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from nearline import ConfigError, DataError
from nearline.evaluate import ndcg_at_k, precision_at_k, recall_at_k


def first(y: np.ndarray, p: np.ndarray, k: int, what: str) -> float:
    """The mean over all orders of rows that do not contradict the prediction."""
    found = []
    for order in itertools.permutations(range(len(y))):
        if (np.diff(p[list(order)]) > 0).any():
            continue
        top = y[list(order)][:k]
        found.append(top.sum() / min(k, len(y)) if what == "precision" else top.sum() / y.sum())
    return float(np.mean(found))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 6), k=st.integers(1, 7), seed=st.integers(0, 2**32), levels=st.sampled_from([1, 2, 3, 50]))
def test_precision_and_recall_are_means_over_the_orders_of_ties(n: int, k: int, seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 2, n).astype(float), rng.integers(0, levels, n) / levels
    entity = np.zeros(n, int)
    assert precision_at_k(y, p, entity, k).value[0] == pytest.approx(first(y, p, k, "precision"))
    recall = recall_at_k(y, p, entity, k).value[0]
    assert np.isnan(recall) if not y.sum() else recall == pytest.approx(first(y, p, k, "recall"))


@settings(max_examples=100, deadline=None)
@given(n=st.integers(2, 40), k=st.integers(1, 12), seed=st.integers(0, 2**32), levels=st.sampled_from([2, 4, 1000]))
def test_ndcg_is_that_of_scikit_learn_for_graded_gains_and_ties(n: int, k: int, seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 4, n).astype(float), rng.integers(0, levels, n) / levels
    found = ndcg_at_k(y, p, np.zeros(n), k).value[0]
    assert np.isnan(found) if not y.sum() else found == pytest.approx(sk.ndcg_score([y], [p], k=k))


def test_entities_are_lists_of_their_own_whatever_the_order_of_rows() -> None:
    rng = np.random.default_rng(0)
    entity = rng.integers(0, 30, 900)
    y, p = (rng.random(900) < 0.3).astype(float), rng.integers(0, 40, 900) / 40
    w = rng.gamma(1.0, size=900)
    order = rng.permutation(900)
    for metric in (precision_at_k, recall_at_k, ndcg_at_k):
        whole = metric(y, p, entity, 5, w)
        shuffled = metric(y[order], p[order], entity[order], 5, w[order])
        np.testing.assert_allclose(whole.value, shuffled.value)
        np.testing.assert_allclose(whole.weight, np.bincount(entity, w))
        alone = [metric(y[entity == e], p[entity == e], entity[entity == e], 5).value[0] for e in range(30)]
        np.testing.assert_allclose(whole.value, alone)
        expected = np.average(whole.value, weights=whole.weight)
        assert whole.mean().estimate == pytest.approx(expected)


def test_an_entity_without_positives_is_left_out() -> None:
    found = ndcg_at_k([0, 0, 1, 0], [0.9, 0.1, 0.8, 0.2], ["a", "a", "b", "b"])
    assert np.isnan(found.value[0])
    assert found.mean().estimate == 1.0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="k must be at least 1"):
        ndcg_at_k([1], [0.5], ["a"], k=0)
    with pytest.raises(DataError, match="gains"):
        ndcg_at_k([-1], [0.5], ["a"])
    with pytest.raises(DataError, match="entity has 1 rows"):
        precision_at_k([1, 0], [0.5, 0.1], ["a"])

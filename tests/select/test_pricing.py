"""Prices from records equal those of a forward pass (specification, sections 1 and 12)."""

from __future__ import annotations

import numpy as np
import pytest

from nearline import DataError, select
from nearline.select import Flag, pack, record_type, unpack


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def test_binary_score_is_the_norm_of_the_last_layers_gradient() -> None:
    rng = np.random.default_rng(0)
    h, y, w = rng.normal(size=(50, 6)), rng.integers(0, 2, 50), rng.normal(size=7)
    inputs = np.column_stack([h, np.ones(50)])
    scores = select.price_binary(inputs @ w, y, np.linalg.norm(h, axis=1))
    p = 1 / (1 + np.exp(-inputs @ w))
    gradient = (p - y)[:, None] * inputs
    np.testing.assert_allclose(scores.score, np.linalg.norm(gradient, axis=1), rtol=1e-12)
    np.testing.assert_allclose(scores.loss, -np.log(np.where(y, p, 1 - p)), rtol=1e-9)


def test_class_score_is_the_norm_of_the_last_layers_gradient() -> None:
    rng = np.random.default_rng(1)
    h, y, W = rng.normal(size=(40, 5)), rng.integers(0, 4, 40), rng.normal(size=(6, 4))
    inputs = np.column_stack([h, np.ones(40)])
    p = softmax(inputs @ W)
    scores = select.price_classes(np.log(p), y, np.linalg.norm(h, axis=1))
    gradient = inputs[:, :, None] * (p - np.eye(4)[y])[:, None, :]
    np.testing.assert_allclose(scores.score, np.sqrt((gradient**2).sum(axis=(1, 2))), rtol=1e-9)


def test_top_k_is_exact_inside_and_a_bound_outside() -> None:
    rng = np.random.default_rng(2)
    p = softmax(2 * rng.normal(size=(500, 50)))
    y = rng.integers(0, 50, 500)
    top = np.argsort(-p, axis=1)[:, :5]
    log_p = np.log(np.take_along_axis(p, top, axis=1))
    scores = select.price_top_k(top, log_p, (p**2).sum(axis=1), y)
    exact = select.price_classes(np.log(p), y)
    inside = (top == y[:, None]).any(axis=1)
    assert 20 < inside.sum() < 480
    np.testing.assert_allclose(scores.loss[inside], exact.loss[inside], rtol=1e-12)
    np.testing.assert_allclose(scores.score[inside], exact.score[inside], rtol=1e-9)
    assert (scores.loss[~inside] <= exact.loss[~inside] + 1e-12).all()
    np.testing.assert_array_equal(scores.flags == Flag.CENSORED, ~inside)


def test_regression_prices_are_squares() -> None:
    scores = select.price_regression([3.0], [1.0], norm=[np.sqrt(3.0)])
    assert (scores.loss[0], scores.error[0], scores.score[0]) == pytest.approx((4.0, 2.0, 4.0))


def test_extreme_logits_have_finite_prices() -> None:
    scores = select.price_binary([1e4, -1e4], [0, 1])
    np.testing.assert_allclose(scores.loss, 30.0, rtol=1e-9)


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-6), (True, 1e-2)])
def test_prices_survive_the_record(half: bool, tolerance: float) -> None:
    rng = np.random.default_rng(3)
    z, y = rng.normal(size=1000) * 4, rng.integers(0, 2, 1000)
    layout = record_type(half=half)
    rows = unpack(pack(layout, id=np.arange(1000), prediction=z).tobytes(), layout)
    recorded, exact = select.price_binary(rows["prediction"], y), select.price_binary(z, y)
    np.testing.assert_allclose(recorded.loss, exact.loss, atol=tolerance)
    np.testing.assert_allclose(recorded.score, exact.score, atol=tolerance)


def test_the_record_has_24_bytes_and_what_more_is_asked_for() -> None:
    assert record_type().itemsize == 24
    assert record_type(top_k=5).itemsize == 24 + 4 * 5 + 2
    assert record_type(sketch=16).itemsize == 24 + 16 + 2
    assert record_type(sketch=16, classes=True).itemsize == 24 + 2 * 16 + 2


def test_every_field_comes_back() -> None:
    layout = record_type(top_k=2, sketch=3)
    given = {
        "id": np.array([2**63, 5], np.uint64), "time": [7, 2**32 - 1], "prediction": [0.5, -3.0], "version": [0, 65535],
        "pi": [1.0, 0.25], "norm": [3.0, 0.0], "flags": [int(Flag.MATURE | Flag.HELD), 0],
        "top_id": [[1, 2], [3, 4]], "top_log_p": [[-0.5, -1.0], [-2.0, -4.0]], "square": [0.5, 0.25],
    }  # fmt: skip
    sketch = np.array([[1.0, -2.0, 0.3], [0.0, 0.0, 0.0]])
    rows = unpack(pack(layout, **given, sketch=sketch).tobytes(), layout)
    for name, value in given.items():
        np.testing.assert_array_equal(rows[name], value)
    np.testing.assert_allclose(rows["sketch"], sketch, atol=2.0 / 127)


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"'version', row 1: 65536"):
        pack(version=[1, 65536])
    with pytest.raises(DataError, match="'weight'"):
        pack(weight=[1.0])
    with pytest.raises(DataError, match="25 bytes"):
        unpack(b"x" * 25)
    with pytest.raises(DataError, match="none of 2 classes"):
        select.price_classes(np.log([[0.5, 0.5]]), [2])


def test_products_of_sketches_are_those_of_gradients_in_the_mean() -> None:
    rng = np.random.default_rng(4)
    h, e, k = rng.normal(size=(2, 6)), np.array([0.7, -0.4]), 40_000
    a = select.sketch_gradients(e, select.sketch_inputs(h, select.signs(1, 7, k)))
    g = e[:, None] * np.column_stack([h, np.ones(2)])
    products = a[0] * a[1]
    assert abs(products.mean() - g[0] @ g[1]) < 4 * products.std() / np.sqrt(k)


def test_products_of_class_sketches_are_those_of_gradients_in_the_mean() -> None:
    rng = np.random.default_rng(5)
    h, p, y, k = rng.normal(size=(2, 3)), softmax(rng.normal(size=(2, 4))), np.array([1, 3]), 40_000
    u, v = select.signs(1, 4, k), select.signs(2, 4, k)
    a = select.sketch_class_gradients(p @ u.T, select.sketch_inputs(h, v), u, y)
    g = (p - np.eye(4)[y])[:, None, :] * np.column_stack([h, np.ones(2)])[:, :, None]
    products = a[0] * a[1]
    assert abs(products.mean() - np.sum(g[0] * g[1])) < 4 * products.std() / np.sqrt(k)

"""Late labels (specification, sections 1.3 and 12)."""

from __future__ import annotations

import numpy as np

from nearline.select import immediate_negative_weights, maturity_of


def test_immediate_negatives_with_weights_recover_the_true_rate() -> None:
    # Every impression enters as a negative, every positive once more; a constant is trained by gradient steps.
    rng, rate, p = np.random.default_rng(0), 0.12, 0.5
    positives = rng.random(200_000) < rate
    label = np.r_[np.zeros(len(positives)), np.ones(positives.sum())]
    for _ in range(400):
        w = immediate_negative_weights(label, np.full(len(label), p))
        p -= 0.5 * float(np.sum(w * (p - label))) / len(positives)
    assert abs(p - positives.mean()) < 1e-6
    assert abs(label.mean() - positives.mean() / (1 + positives.mean())) < 1e-12


def test_mature_negatives_weigh_one_and_fresh_ones_what_is_sure_of_them() -> None:
    age = np.array([0.0, 60.0, np.inf])
    np.testing.assert_allclose(maturity_of(np.zeros(3), age, 60.0), [0, 1 - np.exp(-1), 1])
    np.testing.assert_allclose(maturity_of(np.ones(3), age, 60.0), 1)

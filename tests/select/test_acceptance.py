"""The reference measurements of the specification (sections 11 and 12), at a size for tests."""

from __future__ import annotations

import numpy as np
import pytest

from nearline.select import Policy, Scores, SelectorState, by_name, price_binary, price_regression

STEPS, N, B, D = 500, 1000, 100, 31


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def drifting_clicks(name: str, shuffled: bool = False, seed: int = 0) -> tuple[float, float]:
    """(excess log loss over the Bayes rate x 1000, mean predicted / true rate) of T3 at r = 0.1, lag 0."""
    rng, rule, state = np.random.default_rng(seed), by_name(name), SelectorState()
    w, theta = np.append(rng.normal(size=D - 1) * 0.35, -3.2), np.zeros(D)
    excess, predicted, true = [], [], []
    for t in range(STEPS):
        w[:-1] += rng.normal(size=D - 1) * 0.003
        x = np.column_stack([rng.normal(size=(N, D - 1)), np.ones(N)])
        p, q = sigmoid(x @ w), sigmoid(x @ theta)
        y = (rng.random(N) < p).astype(float)
        if t >= STEPS // 2:
            excess.append(np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))))
            predicted.append(q.mean())
            true.append(p.mean())
        scores = price_binary(x @ theta, y)
        if shuffled:
            scores = Scores(loss=scores.loss, score=rng.permutation(scores.score))
        chosen = rule(scores, B, rng, state)
        e = (q - y)[chosen.index]
        state = rule.learn(chosen.state, chosen, np.abs(e))
        theta = theta - 0.5 * (chosen.weight * e) @ x[chosen.index] / B
    return 1000 * float(np.mean(excess)), float(np.mean(predicted) / np.mean(true))


def test_the_weighted_design_has_less_than_half_of_uniforms_excess_and_stays_calibrated() -> None:
    uniform, weighted = drifting_clicks("uniform"), drifting_clicks("pps")
    assert weighted[0] <= 0.5 * uniform[0]
    assert weighted[1] == pytest.approx(1, abs=0.03)


def test_worthless_scores_cost_next_to_nothing() -> None:
    uniform = np.mean([drifting_clicks("uniform", seed=seed)[0] for seed in range(3)])
    shuffled = np.mean([drifting_clicks("pps", shuffled=True, seed=seed)[0] for seed in range(3)])
    assert shuffled <= 1.15 * uniform


def outliers(policy: Policy, seed: int) -> float:
    """Test error of T4: y = 2x + 1 + N(0, 0.3^2), 5 % shifted by +20; the floor is 0.09."""
    rng, theta = np.random.default_rng(seed), np.zeros(2)
    for _ in range(400):
        x = np.column_stack([rng.uniform(-1, 1, 128), np.ones(128)])
        y = x @ [2.0, 1.0] + 0.3 * rng.normal(size=128) + 20.0 * (rng.random(128) < 0.05)
        chosen = policy(price_regression(x @ theta, y), 0.1, rng)
        rows = chosen.index
        theta = theta - 0.05 * 2 * (x @ theta - y)[rows] @ x[rows] / len(rows)
    x = np.column_stack([rng.uniform(-1, 1, 10_000), np.ones(10_000)])
    return float(np.mean((x @ theta - x @ [2.0, 1.0] - 0.3 * rng.normal(size=10_000)) ** 2))


def test_trimming_brings_outliers_back_to_the_noise_floor() -> None:
    trimmed = Policy(by_name("swap"), task="regression", trim="mad")
    plain = Policy(by_name("swap"), task="regression")
    assert np.mean([outliers(trimmed, seed) for seed in range(3)]) <= 0.10
    assert np.mean([outliers(plain, seed) for seed in range(3)]) > 0.5

"""Fixture F of the specification, section 9, through the whole model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.glmix.model_parts import NO_FIXED, SCHEMA_F, F

from nearline import Fixed, Forgetting, GLMix, Prior, Random
from nearline.glmix._packed import unpack

THETA0 = {"x0": 0.25, "x1": 0.75, "x2": -1.5}
UPPER = np.triu_indices(3)


def fixture(y: Any = (0, 1), w: Any = (1.0, 1.0)) -> dict[str, Any]:
    rows = {"x0": [1.0, 0.5], "x1": [0.5, 0.0], "x2": [3.0, 1.0]}
    return rows | {"user": [7, 7], "y": y, "w": w, "o": [-0.25, 1.0], "t": [1.0, 1.0]}


def one_user(prior: Prior, link: str = "logit", **options: Any) -> GLMix:
    user = Random("user", on=F, intercept=False, prior=prior, posterior="full", **options)
    return GLMix(SCHEMA_F, NO_FIXED, [user], link=link, mode="minibatch")


def solved(model: GLMix) -> tuple[np.ndarray, np.ndarray]:
    """θ and the upper triangle of H, in the order of section 9."""
    block = model.block("user")
    return block.mean[0], np.linalg.inv(unpack(block.cov[0]))[UPPER]


CASES: dict[str, tuple[str, Any, Any, list[float], list[float]]] = {
    "logistic": (
        "logit", (0, 1), (1.0, 1.0),
        [0.44269839, 0.72487986, -1.16484348],
        [1.11016632, 0.02385809, 0.26804883, 1.01192905, 0.07157428, 1.67924622],
    ),
    "weighted (defect 2)": (
        "logit", (0, 1), (2.0, 3.0),
        [0.64026977, 0.64103661, -0.93738722],
        [1.37497799, 0.09709037, 0.94413672, 1.04854518, 0.2912711, 3.47081565],
    ),
    "linear (defects 4, 5)": (
        "identity", (3.5, -1.0), (1.0, 1.0),
        [0.44019139, 1.49043062, 0.36124402],
        [2.25, 0.5, 3.5, 1.25, 1.5, 11.0],
    ),
    "Poisson": (
        "log", (2, 0), (1.0, 1.0),
        [0.26620555, 1.33754922, -0.29249046],
        [2.40434801, 0.41245078, 3.63359758, 1.20622539, 1.23735235, 10.74189985],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("link", "y", "w", "theta", "H"), CASES.values(), ids=CASES.keys())
def test_fixture_f(link: str, y: Any, w: Any, theta: list[float], H: list[float]) -> None:
    """Section 9, δ = 1; H0 = I and θ0 come as the prior."""
    model = one_user(Prior(1.0, THETA0), link)
    model.partial_fit(fixture(y, w))
    found = solved(model)
    np.testing.assert_allclose(found[0], theta, atol=1e-8)
    np.testing.assert_allclose(found[1], H, atol=1e-7)
    batch = one_user(Prior(1.0, THETA0), link)
    batch.fit(fixture(y, w))
    np.testing.assert_allclose(solved(batch)[0], theta, atol=1e-8)


@pytest.mark.parametrize(
    ("lam", "theta", "H"),
    [
        (
            1.0,
            [0.35098661, 0.56318975, -0.97164728],
            [1.13005573, 0.03410026, 0.32831198, 1.01705013, 0.10230079, 1.86122555],
        ),
        (
            10.0,
            [0.07390279, 0.18286651, -0.48646141],
            [3.0029843, 0.07249501, 0.55095861, 2.8362475, 0.21748502, 4.33688727],
        ),
    ],
)
def test_fixture_f_with_the_published_forgetting(lam: float, theta: list[float], H: list[float]) -> None:
    """Section 9, δ = 0.8 over a base prior λ I: the last state is folded into (m, P) before the solve."""
    model = one_user(Prior(1 / lam), forgetting=Forgetting(form="per_update", delta=0.8))
    model.design(fixture(), learn=True)
    block = model.block("user")
    block.mean[0], block.cov[0], block.last[0], block.counts[0] = list(THETA0.values()), [1, 0, 1, 0, 0, 1], 0.0, 1
    model.partial_fit(fixture())
    found = solved(model)
    np.testing.assert_allclose(found[0], theta, atol=1e-8)
    np.testing.assert_allclose(found[1], H, atol=1e-7)


def test_fixture_f_with_the_past_weighted() -> None:
    """Section 9, row B: ω = 0.5, v = (0.5, none, 0.25) and λ2 = 2 give P = diag(1, 1, 2)."""
    model = one_user(Prior({"x0": 1.0, "x1": 1.0, "x2": 0.5}, {"x0": 0.25, "x1": 0.0, "x2": -1.5}))
    model.partial_fit(fixture())
    theta, H = solved(model)
    np.testing.assert_allclose(theta, [0.47954918, -0.01295172, -1.28340254], atol=1e-8)
    np.testing.assert_allclose(H, [1.08770273, 0.01261623, 0.20063792, 1.00630812, 0.03784869, 2.47697322], atol=1e-7)


def test_labels_of_minus_one_are_the_negative_class() -> None:
    zero, minus = one_user(Prior(1.0, THETA0)), one_user(Prior(1.0, THETA0))
    zero.partial_fit(fixture((0, 1)))
    minus.partial_fit(fixture((-1, 1)))
    np.testing.assert_array_equal(zero.block("user").mean[0], minus.block("user").mean[0])


def test_the_base_precision_is_in_a_linear_hessian() -> None:
    """Section 10, defect 4: λ I + XᵀX on F with λ = 10."""
    model = one_user(Prior(0.1), "identity")
    model.partial_fit(fixture((3.5, -1.0)))
    np.testing.assert_allclose(solved(model)[1], [11.25, 0.5, 3.5, 10.25, 1.5, 20.0], atol=1e-10)


@pytest.mark.parametrize("mode", ["event", "minibatch"])
@pytest.mark.parametrize("side", [1, -1])
def test_saturated_rows_are_learned(mode: Any, side: int) -> None:
    """Section 10, defect 3: an offset of 800 against the label has gradient 1, not inf."""
    model = GLMix(SCHEMA_F, Fixed(prior=Prior(1.0)), mode=mode)
    row = {"y": [int(side < 0)], "o": [800.0 * side], "w": [1.0], "t": [0.0]}
    assert model.partial_fit(row).refused.size == 0
    assert float(model.block("fixed").mean[0, 0]) == pytest.approx(-side, abs=1e-9)
    assert float(model.block("fixed").cov[0, 0]) == pytest.approx(1.0, abs=1e-9)
    assert float(model.predict_proba({"o": [800.0 * side]})[0]) == (side > 0)

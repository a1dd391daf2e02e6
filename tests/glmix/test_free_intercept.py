"""Section 4.3: the fixed intercept is unpenalised in batch by default, with precision 1e-6 so that a mode exists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearline import Fixed, GLMix, NearlineWarning, Prior, Random, Schema

RARE = {"user": np.arange(1000) % 40, "y": (np.arange(1000) % 200 == 0).astype(int)}
LOGIT = np.log(5 / 995)


def intercept(model: GLMix) -> float:
    return model.coefficients("fixed")[0].mean


def fitted(fixed: Fixed, data: Any = None, random: Any = ()) -> GLMix:
    model = GLMix(Schema("y"), fixed, random)
    model.fit(RARE if data is None else data)
    return model


@pytest.mark.parametrize("posterior", ["full", "diagonal", "lowrank"])
def test_a_rare_event_keeps_its_base_rate(posterior: Any) -> None:
    """5 in 1000: logit −5.29, which N(0, 1) used to pull to −4.3; the sd is the maximum-likelihood estimate's.

    A low-rank fit of more than 256 rows goes in pieces, and is an approximation.
    """
    error = 0.1 if posterior == "lowrank" else 1e-5
    free = fitted(Fixed(posterior=posterior))
    assert intercept(free) == pytest.approx(LOGIT, abs=error)
    p = 1 / (1 + np.exp(-LOGIT))
    assert free.coefficients("fixed")[0].sd == pytest.approx(1 / np.sqrt(1000 * p * (1 - p)), rel=error)


def test_a_prior_that_is_given_penalises_unless_told_otherwise() -> None:
    """σ(η) n − Σy + η / v = 0 at the mode under N(0, v)."""
    for variance in (1.0, 0.1):
        eta = intercept(fitted(Fixed(prior=Prior(variance))))
        assert 1000 / (1 + np.exp(-eta)) - 5 + eta / variance == pytest.approx(0.0, abs=1e-8)
    assert intercept(fitted(Fixed(prior=Prior(0.1), free_intercept=True))) == pytest.approx(LOGIT, abs=1e-5)
    eta = intercept(fitted(Fixed(free_intercept=False)))
    assert 1000 / (1 + np.exp(-eta)) - 5 + eta == pytest.approx(0.0, abs=1e-8)
    # A column's own prior stays as it is.
    column = {"x": np.sign(RARE["y"] - 0.5), "y": RARE["y"] * 1.0}
    free, penalised = fitted(Fixed("x"), column), fitted(Fixed("x", free_intercept=False), column)
    for model in (free, penalised):
        assert abs(model.coefficients("fixed")[1].mean) < 3.0


def test_random_intercepts_are_penalised() -> None:
    model = fitted(Fixed(), random=[Random("user", prior=Prior(0.3))])
    assert model.blocks[1].belief.prior == Prior(0.3)
    assert all(coefficient.sd < np.sqrt(0.3) for coefficient in model.coefficients("user", 7))


def test_the_stream_starts_from_the_prior() -> None:
    """Default N(0, 1), offline freedom or not; and the belief is what was declared, after a fit, too."""
    streams = [GLMix(Schema("y"), fixed) for fixed in (Fixed(), Fixed(prior=Prior(variance=1.0)))]
    for model in streams:
        model.partial_fit(RARE)
    assert intercept(streams[0]) == intercept(streams[1])
    model = fitted(Fixed())
    assert model.blocks[0].belief.prior == Prior(variance=1.0)
    model.reset()
    assert model.coefficients("fixed")[0].sd == 1.0


@pytest.mark.parametrize(("link", "label"), [("logit", 1), ("logit", 0), ("log", 0)])
def test_one_class_has_a_mode_and_a_warning(link: str, label: int) -> None:
    """Σ (p − y) + 1e-6 η = 0; without that precision the mode is at infinity."""
    model = GLMix(Schema("y"), Fixed(), link=link)
    with pytest.warns(NearlineWarning, match=f"all 50 labels of the fit are {label}; check the label column"):
        assert model.fit({"y": np.full(50, label)}).unsolved == {"fixed": 0}
    eta = intercept(model)
    mean = np.exp(eta) if link == "log" else 1 / (1 + np.exp(-eta))
    residual = mean - label if label == 0 else -1 / (1 + np.exp(eta))
    assert 50 * residual + 1e-6 * eta == pytest.approx(0.0, abs=1e-9)
    assert 10 < abs(eta) < 25


def test_rows_of_weight_zero_are_no_labels() -> None:
    model = GLMix(Schema("y", weight="w"), Fixed())
    with pytest.warns(NearlineWarning, match="all 3 labels"):
        model.fit({"y": [1, 1, 1, 0], "w": [1.0, 1.0, 2.0, 0.0]})
